"""The answers of the Open Inference Protocol over HTTP: outputs, where their bytes go. Pure.

An answer's JSON object says what follows it, so that the arrays of the outputs can be made before
their bytes are received, and those be received into them.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

from infer_backends.plugin import (
    Array,
    DataType,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ProtocolError,
)
from infer_backends_triton._alike import LONGEST, Alike, Tensor
from infer_backends_triton._codec import byte_view, decode, from_json, is_plain, make_room, settle
from infer_backends_triton._http_described import Header, Output, read_header
from infer_backends_triton._http_messages import HEADER_LENGTH
from infer_backends_triton._http_wire import ResponseHead, TooLarge, parse_length

# A model's answers to requests of one shape are alike but for the bytes of the tensors.
_KNOWN_HEADERS = 64
_LONGEST_KNOWN_HEADER = 4096
_HEAD_END = b"\r\n\r\n"


class _Known(NamedTuple):
    """The latest small answer.

    Attributes:
        head: What the head said.
        header: What the JSON object said.
        alike: Reads those that are like it.
    """

    head: ResponseHead
    header: Header
    alike: Alike


class AnswerReader:
    """Reads the answers of one model. What answers have in common is worked out once.

    Args:
        metadata: The model's metadata.
        url: Who answers, secrets masked.

    Attributes:
        url: As given.
        all_outputs: The names of the model's outputs.
        known: The latest small answer; None where there was none.
    """

    def __init__(self, metadata: ModelMetadata, url: str) -> None:
        self.url = url
        self.known: _Known | None = None
        self.all_outputs = tuple(spec.name for spec in metadata.outputs)
        self._specs = specs = {spec.name: spec for spec in metadata.outputs}
        self._known_header = lru_cache(_KNOWN_HEADERS)(partial(read_header, specs=specs))

    def read_header(self, text: bytes) -> Header:
        """What the JSON object of an answer says.

        Raises:
            ProtocolError: It does not hold together, or is not about this model.
            ErrorInAnswer: It is an error.
        """
        if len(text) <= _LONGEST_KNOWN_HEADER:
            return self._known_header(text)
        return read_header(text, self._specs)


class Answer:
    """One answer: takes it in, and becomes the response.

    Either the connection asks :meth:`prefix_length` and :meth:`place` where the parts of the body
    go, or :meth:`take` is given the whole of it, or :meth:`recall` the whole answer.

    Args:
        reader: What is known of the model's answers.
        request: What is asked.
    """

    __slots__ = ("_arrays", "_header", "_outputs", "_reader", "_request_id", "_wanted")

    _header: Header
    _arrays: list[Array]

    def __init__(self, reader: AnswerReader, request: InferRequest) -> None:
        self._reader = reader
        self._outputs: dict[str, Array] | None = None
        self._request_id = request.request_id
        self._wanted = reader.all_outputs if request.outputs is None else request.outputs

    def prefix_length(self, head: ResponseHead) -> int | None:
        """The length of the JSON object before the tensors' bytes; None when it is all there is.

        Raises:
            ProtocolError: It is longer than the body.
        """
        text = head.headers.get(HEADER_LENGTH)
        return None if text is None else _check_prefix(text, head.length)

    def place(self, prefix: bytes, length: int) -> list[memoryview]:
        """Make the arrays of the outputs.

        Args:
            prefix: The JSON object.
            length: How many bytes come after it.

        Returns:
            The memory that these bytes go to, in order; nothing empty.

        Raises:
            ProtocolError: The answer does not hold together, or is not one to this request.
        """
        self._header = header = self._reader.read_header(prefix)
        self._check(header)
        left = length
        arrays, views = [], []
        for output in header.outputs:
            size = output.size
            if size is None:
                name = output.spec.name
                arrays.append(from_json(output.data, output.spec.dtype, output.shape, name))
                continue
            if size > left:
                raise ProtocolError(
                    f"output {output.spec.name!r} should have {size} bytes; {left} are there"
                )
            left -= size
            array = _make_room(output)
            arrays.append(array)
            if size:
                views.append(byte_view(array))
        if left:
            raise ProtocolError(f"the answer has {left} bytes that belong to no output")
        self._arrays = arrays
        return views

    def recall(self, answer: bytes) -> ResponseHead | None:
        """Take a whole answer in that begins as the one before it did; None for any other.

        Args:
            answer: What was received first: head and body, or only a part of them.

        Returns:
            The head of the answer before, which is this one's.
        """
        known = self._reader.known
        if known is None or known.alike.names != self._wanted:
            return None
        self._outputs = known.alike.read(answer)
        if self._outputs is None:
            return None
        self._header = known.header
        return known.head

    def remember(self, answer: bytes, head: ResponseHead) -> None:
        """Take note of this answer, for :meth:`recall`.

        Args:
            answer: What was received first, as for :meth:`recall`.
            head: Its head.
        """
        length, outputs = len(answer), self._header.outputs
        if length > LONGEST or self._request_id or not all(map(_is_plain, outputs)):
            return
        end = answer.find(_HEAD_END) + len(_HEAD_END)
        if end + (head.length or 0) != length:
            # A part of it, or more than that.
            return
        sizes = [output.size or 0 for output in outputs]
        befores = [answer[: length - sum(sizes)], *[b""] * len(sizes)]
        alike = Alike(
            Tensor(before, output.spec.name, *output.room, size)
            for before, output, size in zip(befores, outputs, sizes, strict=False)
        )
        self._reader.known = _Known(head, self._header, alike)

    def take(self, body: memoryview, head: ResponseHead) -> None:
        """Take in a body that was received as a whole.

        Raises:
            ProtocolError: The answer does not hold together, or is not one to this request.
        """
        text = head.headers.get(HEADER_LENGTH)
        end = len(body) if text is None else _check_prefix(text, len(body))
        for view in self.place(bytes(body[:end]), len(body) - end):
            view[:] = body[end : end + len(view)]
            end += len(view)

    def response(self) -> InferResponse:
        """The response, once all of the body is here.

        Raises:
            ProtocolError: An output of ``BYTES`` does not hold together.
        """
        header, outputs = self._header, self._outputs
        if outputs is None:
            arrays = map(_finish, header.outputs, self._arrays)
            outputs = dict(zip(header.names, arrays, strict=True))
            if self._wanted != header.names:
                outputs = {name: outputs[name] for name in self._wanted}
        return InferResponse(
            outputs, header.model_version, dict(header.parameters), self._reader.url
        )

    def _check(self, header: Header) -> None:
        if self._request_id and header.request_id not in (None, "", self._request_id):
            raise ProtocolError("the answer has the id of another request")
        missing = [name for name in self._wanted if name not in header.names]
        if missing:
            raise ProtocolError(f"the answer lacks the output {missing[0]!r}")


def _is_plain(output: Output) -> bool:
    """Whether there are bytes, which can be the memory of the output's array."""
    return bool(output.size) and is_plain(output.spec.dtype)


def _make_room(output: Output) -> Array:
    """The memory that an output's bytes are received into; none is taken before they arrive."""
    try:
        return make_room(*output.room, output.spec.name)
    except MemoryError as exc:
        raise TooLarge(
            f"there is no memory for output {output.spec.name!r} of {output.size} bytes"
        ) from exc


def _finish(output: Output, array: Array) -> Array:
    """The output's array, after its bytes came into ``array``."""
    if output.size is None:
        return array
    if output.spec.dtype is DataType.BYTES:
        return decode(array.data, DataType.BYTES, output.shape, output.spec.name)
    return settle(array, output.spec.dtype)


@lru_cache(_KNOWN_HEADERS)
def _check_prefix(text: str, length: int | None) -> int:
    prefix = parse_length(text, HEADER_LENGTH)
    if length is not None and prefix > length:
        raise ProtocolError(f"the answer's JSON should have {prefix} bytes; all of it has {length}")
    return prefix
