"""Requests of ``inference.GRPCInferenceService`` for inference, built from arrays. Pure.

Tensors travel as raw bytes, copied once: from the arrays into the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial

from infer_backends.plugin import (
    DataType,
    InferRequest,
    InvalidInput,
    ModelMetadata,
)
from infer_backends_triton._call_options import ranks
from infer_backends_triton._codec import encode
from infer_backends_triton._grpc_messages import check_size, serialise, set_parameter
from infer_backends_triton._grpc_runtime import service_pb2
from infer_backends_triton._protobuf_wire import field_prefix

# How many serialised headers a model keeps, each for other shapes.
_HEADERS = 64
_RAW_CONTENTS: int = service_pb2.ModelInferRequest.DESCRIPTOR.fields_by_name[
    "raw_input_contents"
].number


class InferRequests:
    """Builds the requests of one model.

    All that precedes the tensors depends on their names and shapes alone, so it is serialised
    once for each; protobuf merges messages that follow each other, so the rest is appended.

    Args:
        metadata: What the model says of itself.
        model: The name to ask for.
        version: The version to ask for; empty for the server's choice.
    """

    def __init__(self, metadata: ModelMetadata, model: str, version: str) -> None:
        self._dtypes = {spec.name: spec.dtype for spec in metadata.inputs}
        self._outputs = tuple(spec.name for spec in metadata.outputs)
        self._header = lru_cache(_HEADERS)(partial(_header, self._dtypes, model, version))

    def build(self, request: InferRequest) -> bytes:
        """The serialised ``ModelInferRequest``.

        Args:
            request: The call, checked against the metadata.

        Raises:
            InvalidInput: Something in the request has no form in the protocol.
        """
        inputs = request.inputs
        try:
            shapes = tuple([(name, array.shape) for name, array in inputs.items()])
            outputs = request.outputs or ()
            top_k = 0 if request.options is None else ranks(request)
            if top_k:
                outputs = outputs or self._outputs
            parts: list[bytes | memoryview] = [self._header(shapes, outputs, top_k)]
            if request.request_id or request.parameters:
                parts.append(_extras(request))
        except (UnicodeError, TypeError) as exc:
            raise InvalidInput("the request holds a name that is no Unicode text") from exc
        tensors = 0
        for name, array in inputs.items():
            raw = encode(array, self._dtypes[name])
            parts += (field_prefix(_RAW_CONTENTS, len(raw)), raw)
            tensors += len(raw)
        check_size(sum(map(len, parts)), tensors)
        return b"".join(parts)


def _header(
    dtypes: Mapping[str, DataType],
    model: str,
    version: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    outputs: tuple[str, ...],
    top_k: int,
) -> bytes:
    message = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for name, shape in shapes:
        message.inputs.add(name=name, datatype=dtypes[name].value, shape=shape)
    for name in outputs:
        output = message.outputs.add(name=name)
        if top_k:
            set_parameter(output.parameters["classification"], "classification", top_k)
    return serialise(message)


def _extras(request: InferRequest) -> bytes:
    """What one call alone says."""
    message = service_pb2.ModelInferRequest(id=request.request_id)
    for name, value in request.parameters.items():
        set_parameter(message.parameters[name], name, value)
    return serialise(message)
