"""Responses of ``inference.GRPCInferenceService`` to inference, read into arrays. Pure.

An answer has its tensors as raw bytes, which are copied once: from the message into the array; or
as typed contents (the Open Inference Protocol allows both, and MLServer sends the second).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from infer_backends.plugin import (
    Array,
    DataType,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ParameterValue,
    ProtocolError,
    TensorSpec,
)
from infer_backends_triton._alike import LONGEST, Alike, Tensor
from infer_backends_triton._codec import decode, is_plain
from infer_backends_triton._grpc_messages import NO_MESSAGE, parse, read_parameters
from infer_backends_triton._grpc_runtime import service_pb2
from infer_backends_triton._protobuf_wire import field_prefix, split_off

#: The parameter of a response that says whether it is the last of a stream.
FINAL = "triton_final_response"

# How many parsed heads are kept, and the most bytes of one that is.
_HEADS = 64
_MAX_KNOWN_HEAD = 4096
# The most bytes of a tensor for which each step counts; larger ones are copied without the GIL.
_SMALL = 64 * 1024
_RAW_CONTENTS: int = service_pb2.ModelInferResponse.DESCRIPTOR.fields_by_name[
    "raw_output_contents"
].number
_PLAIN = {dtype.value: dtype for dtype in DataType if is_plain(dtype)}
_CONTENTS = {
    DataType.BOOL: "bool_contents",
    DataType.INT8: "int_contents",
    DataType.INT16: "int_contents",
    DataType.INT32: "int_contents",
    DataType.INT64: "int64_contents",
    DataType.UINT8: "uint_contents",
    DataType.UINT16: "uint_contents",
    DataType.UINT32: "uint_contents",
    DataType.UINT64: "uint64_contents",
    DataType.FP32: "fp32_contents",
    DataType.FP64: "fp64_contents",
    DataType.BYTES: "bytes_contents",
}
_WIDE = {"i": np.dtype(np.int64), "u": np.dtype(np.uint64)}


class _Tensor(NamedTuple):
    """An output in an answer, without its elements.

    ``dtype`` and ``size``, in bytes, are those of a small array whose memory will be the raw bytes,
    and None and -1 for any other.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic] | None = None
    size: int = -1


class _Head(NamedTuple):
    """All of an answer but the elements of its outputs."""

    id: str
    model_version: str
    parameters: Mapping[str, ParameterValue]
    tensors: tuple[_Tensor, ...]


class InferResponses:
    """Reads the responses of one model.

    Args:
        metadata: What the model says of itself.
        url: Who answers, secrets masked.
    """

    def __init__(self, metadata: ModelMetadata, url: str) -> None:
        self._specs = {spec.name: spec for spec in metadata.outputs}
        self._names = tuple(self._specs)
        self._url = url
        self._known_head = lru_cache(_HEADS)(_parse_head)
        self._known: tuple[_Head, Alike] | None = None

    def read(self, answer: bytes, request: InferRequest) -> InferResponse:
        """The arrays of a serialised ``ModelInferResponse``.

        Args:
            answer: The serialised message.
            request: What was asked.

        Raises:
            ProtocolError: The answer does not hold together, or does not fit the metadata.
        """
        known = self._known
        if known is not None:
            head, alike = known
            wanted = self._names if request.outputs is None else request.outputs
            outputs = alike.read(answer) if alike.names == wanted else None
            if outputs is not None and not request.request_id:
                return InferResponse(outputs, head.model_version, dict(head.parameters), self._url)
        head, elements, words = self._split(answer)
        response = self._read(head, elements, request)
        if words is not None and len(answer) <= LONGEST and not request.request_id:
            self._remember(answer, head, elements, words)
        return response

    def _remember(self, answer: bytes, head: _Head, elements: Sequence[Any], words: bytes) -> None:
        """Take note of an answer, to read those that are like it in fewer steps."""
        tensors: list[Tensor] = []
        whole = [words]
        for tensor, raw in zip(head.tensors, elements, strict=True):
            if tensor.dtype is None:
                return
            prefix = field_prefix(_RAW_CONTENTS, tensor.size)
            before = prefix if tensors else words + prefix
            tensors.append(Tensor(before, tensor.name, tensor.shape, tensor.dtype, tensor.size))
            whole += (prefix, raw)
        # The words come first, as they nearly always do, and the tensors one after the other.
        if tensors and b"".join(whole) == answer:
            self._known = head, Alike(tensors)

    def read_part(self, answer: bytes | memoryview, request: InferRequest) -> InferResponse | None:
        """The same, of one response of a stream; None for one that only says that it is over."""
        head, elements, _ = self._split(answer)
        if not head.tensors and head.parameters.get(FINAL) is True:
            return None
        return self._read(head, elements, request)

    def _read(self, head: _Head, elements: Sequence[Any], request: InferRequest) -> InferResponse:
        if request.request_id and head.id not in {"", request.request_id}:
            raise ProtocolError(f"{self._url} answered with the id of another request")
        if len(elements) != len(head.tensors):
            raise ProtocolError(
                f"{self._url} answered with {len(head.tensors)} outputs and the bytes of "
                f"{len(elements)}"
            )
        outputs: dict[str, Array] = {}
        for tensor, given in zip(head.tensors, elements, strict=True):
            spec = self._specs.get(tensor.name)
            if spec is None:
                # More than the metadata says, and than anybody could ask for.
                continue
            if tensor.name in outputs:
                raise ProtocolError(f"{self._url} answered with the output {tensor.name!r} twice")
            outputs[tensor.name] = self._read_tensor(tensor, given, spec)
        order = self._names if request.outputs is None else request.outputs
        try:
            outputs = {name: outputs[name] for name in order}
        except KeyError:
            missing = ", ".join(repr(name) for name in order if name not in outputs)
            raise ProtocolError(f"{self._url} answered without the outputs {missing}") from None
        return InferResponse(
            outputs, head.model_version, dict(head.parameters), backend_url=self._url
        )

    def _split(self, answer: bytes | memoryview) -> tuple[_Head, Sequence[Any], bytes | None]:
        """All but the elements, and the elements of each output: raw bytes or typed contents.

        And all that is no raw bytes, as it came; None where protobuf has read all of it.
        """
        found = split_off(answer, _RAW_CONTENTS, len(self._specs))
        if found is not None and found[0]:
            raws, rest = found
            try:
                read = self._known_head if len(rest) <= _MAX_KNOWN_HEAD else _parse_head
                return read(rest), raws, rest
            except NO_MESSAGE:
                # What follows says so, of the whole answer.
                pass
        message = parse(service_pb2.ModelInferResponse, bytes(answer), self._url)
        contents = [tensor.contents for tensor in message.outputs]
        return _read_head(message), list(message.raw_output_contents) or contents, None

    def _read_tensor(self, tensor: _Tensor, given: Any, spec: TensorSpec) -> Array:
        if tensor.datatype != spec.dtype:
            raise ProtocolError(
                f"{self._url} answered with the output {spec.name!r} as "
                f"{tensor.datatype[:40]!r}; its metadata says {spec.dtype}"
            )
        if not isinstance(given, (bytes, memoryview)):
            return _read_contents(given, spec.dtype, tensor.shape, spec.name)
        if len(given) == tensor.size:
            # What ``decode`` does, in fewer steps.
            array: Array = np.ndarray(tensor.shape, tensor.dtype, bytearray(given))
            return array
        return decode(given, spec.dtype, tensor.shape, spec.name)


def _parse_head(serialised: bytes) -> _Head:
    return _read_head(service_pb2.ModelInferResponse.FromString(serialised))


def _read_head(message: Any) -> _Head:
    return _Head(
        id=message.id,
        model_version=message.model_version,
        parameters=read_parameters(message.parameters),
        tensors=tuple(
            _describe(tensor.name, tensor.datatype, tuple(tensor.shape))
            for tensor in message.outputs
        ),
    )


def _describe(name: str, datatype: str, shape: tuple[int, ...]) -> _Tensor:
    plain = _PLAIN.get(datatype)
    # What is wrong or empty is left to ``decode``. Few dimensions, so that the product is cheap.
    if plain is not None and len(shape) <= 32 and min(shape, default=1) > 0:
        dtype = plain.numpy_dtype
        size = math.prod(shape) * dtype.itemsize
        if size <= _SMALL:
            return _Tensor(name, datatype, shape, dtype, size)
    return _Tensor(name, datatype, shape)


def _read_contents(contents: Any, dtype: DataType, shape: tuple[int, ...], name: str) -> Array:
    """The array of an output that came as typed contents."""
    field = _CONTENTS.get(dtype)
    # FP16 and BF16 have no field, so that only an empty tensor of them can come this way.
    elements = getattr(contents, field) if field is not None else ()
    if any(dim < 0 for dim in shape):
        raise ProtocolError(f"output {name!r} has a negative dimension in its shape {list(shape)}")
    count = 1
    for dim in shape:
        count *= dim
    if len(elements) != count:
        raise ProtocolError(
            f"output {name!r} is {dtype}{list(shape)}: expected {count} elements, got "
            f"{len(elements)}"
        )
    if count == 0:
        return decode(b"", dtype, shape, name)
    if dtype is DataType.BYTES:
        array: Array = np.empty(count, object)
        array[:] = elements
    else:
        wide = np.fromiter(elements, _WIDE.get(dtype.numpy_dtype.kind, dtype.numpy_dtype), count)
        array = _narrow(wide, dtype, name)
    try:
        return array.reshape(shape)
    except ValueError as exc:
        raise ProtocolError(f"output {name!r} has {len(shape)} dimensions") from exc


def _narrow(wide: Array, dtype: DataType, name: str) -> Array:
    """Elements of 32 bits as the 8 or 16 that the datatype has."""
    array: Array = wide.astype(dtype.numpy_dtype)
    if dtype.numpy_dtype.kind in "iu" and not np.array_equal(array, wide):
        raise ProtocolError(f"output {name!r} has an element that is no {dtype}")
    return array
