"""The messages of one stream of ``ModelStreamInfer``, which answers one request. Pure.

Triton's extension for decoupled models: a request may ask that every response says whether it is
the last, and that a last one without outputs is sent where a model has nothing more to say.

What goes wrong comes as a message without a status. Triton has a header that would have it send
one (``triton_grpc_error``); but its release 2.51 ends itself when a model fails in such a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from infer_backends.plugin import (
    InferError,
    InferRequest,
    InferResponse,
    ProtocolError,
    Unavailable,
)
from infer_backends_triton._grpc_messages import NO_MESSAGE, parse, serialise
from infer_backends_triton._grpc_responses import FINAL, InferResponses
from infer_backends_triton._grpc_runtime import service_pb2
from infer_backends_triton._protobuf_wire import split_off

_RESPONSE: int = service_pb2.ModelStreamInferResponse.DESCRIPTOR.fields_by_name[
    "infer_response"
].number


def _ask_for_final() -> bytes:
    message = service_pb2.ModelInferRequest()
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    return serialise(message)


#: What follows a serialised ``ModelInferRequest`` that is the first of a stream.
ASK_FOR_FINAL = _ask_for_final()


class StreamReader:
    """Reads the stream that answers one request.

    Args:
        responses: What reads the model's responses.
        request: What was asked.
        url: Who answers, secrets masked.
        refusal: The error that a message of the server stands for.
    """

    def __init__(
        self,
        responses: InferResponses,
        request: InferRequest,
        url: str,
        refusal: Callable[[str], InferError],
    ) -> None:
        self._responses = responses
        self._request = request
        self._url = url
        self._refusal = refusal
        self._begun = False
        self._final: object = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What goes wrong in this block, once a response is there, came after work was done."""
        try:
            yield
        except InferError as error:
            error.unprocessed = error.unprocessed and not self._begun
            raise

    def read(self, message: bytes) -> InferResponse | None:
        """The response in a serialised ``ModelStreamInferResponse``; None for the end alone.

        Raises:
            ProtocolError: The message does not hold together, or does not fit the metadata.
            InferError: It says that something went wrong.
        """
        answer, error = self._split(message)
        if error:
            raise self._refusal(error)
        if self._final is True:
            raise ProtocolError(f"{self._url} went on after the last response of a stream")
        self._begun = True
        response = self._responses.read_part(answer, self._request)
        self._final = True if response is None else response.parameters.get(FINAL)
        return response

    def finish(self) -> None:
        """The stream has ended, with no status of an error.

        Raises:
            Unavailable: The server says of each response whether it is the last, and none was.
        """
        if self._final is False:
            raise Unavailable(f"{self._url} ended a stream before its last response")

    def _split(self, message: bytes) -> tuple[bytes | memoryview, str]:
        """The serialised response, and what the server complains of."""
        found = split_off(message, _RESPONSE, 1)
        if found is not None and found[0]:
            (answer,), rest = found
            if not rest:
                return answer, ""
            try:
                return answer, service_pb2.ModelStreamInferResponse.FromString(rest).error_message
            except NO_MESSAGE:
                # What follows says so, of the whole message.
                pass
        parsed = parse(service_pb2.ModelStreamInferResponse, message, self._url)
        return serialise(parsed.infer_response), parsed.error_message
