"""Shared memory over gRPC: a server's list of regions, and requests whose tensors are in one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from infer_backends.plugin import (
    Deadline,
    InferRequest,
    InvalidInput,
    ModelMetadata,
    ProtocolError,
)
from infer_backends_triton._call_options import ranks
from infer_backends_triton._codec import encode
from infer_backends_triton._grpc_channel import GrpcConnection
from infer_backends_triton._grpc_messages import (
    parse,
    read_parameters,
    serialise,
    set_parameter,
)
from infer_backends_triton._grpc_runtime import service_pb2
from infer_backends_triton._shared_layout import Answer, AnsweredTensor, Layout, Slot
from infer_backends_triton._unsent import BEFORE_SENDING

if TYPE_CHECKING:
    from infer_backends_triton._grpc_loop import LoopChannel


class GrpcSharedServer:
    """One model on a server that speaks gRPC.

    Args:
        connection: How to ask the server.
        metadata: What the model says of itself.
        model: The name to ask for.
        version: The version to ask for; empty for the server's choice.
        url: Whom errors name.
    """

    def __init__(
        self,
        connection: GrpcConnection,
        metadata: ModelMetadata,
        *,
        model: str,
        version: str,
        url: str,
    ) -> None:
        self._connection = connection
        self._metadata = metadata
        self._model = model
        self._version = version
        self._url = url

    def register(self, name: str, size: int, deadline: Deadline) -> None:
        """Have the server open the region ``name``."""
        message = service_pb2.SystemSharedMemoryRegisterRequest(
            name=name, key=f"/{name}", byte_size=size
        )
        self._connection.call("SystemSharedMemoryRegister", serialise(message), deadline)

    def unregister(self, name: str, deadline: Deadline) -> None:
        """Have the server forget the region ``name``."""
        message = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        self._connection.call("SystemSharedMemoryUnregister", serialise(message), deadline)

    def registered(self, deadline: Deadline) -> Iterable[str]:
        """The names of the regions that the server knows."""
        message = serialise(service_pb2.SystemSharedMemoryStatusRequest())
        answer = self._connection.call("SystemSharedMemoryStatus", message, deadline)
        status = parse(service_pb2.SystemSharedMemoryStatusResponse, answer, self._url)
        return list(status.regions)

    def version(self, deadline: Deadline) -> str:
        """The server's version, as it says it."""
        message = serialise(service_pb2.ServerMetadataRequest())
        answer = self._connection.call("ServerMetadata", message, deadline)
        return str(parse(service_pb2.ServerMetadataResponse, answer, self._url).version)

    def infer(self, request: InferRequest, region: str, layout: Layout) -> Answer:
        """Ask the model; the inputs of the layout are in the region already."""
        message = self._build(request, region, layout)
        answer = self._connection.call("ModelInfer", message, request.deadline, request.headers)
        return read_infer(answer, request, layout, self._url)

    async def infer_async(
        self, channel: LoopChannel, request: InferRequest, region: str, layout: Layout
    ) -> Answer:
        """Do the same in the event loop of a channel."""
        message = self._build(request, region, layout)
        answer = await channel.call("ModelInfer", message, request.deadline, request.headers)
        return read_infer(answer, request, layout, self._url)

    def _build(self, request: InferRequest, region: str, layout: Layout) -> bytes:
        with BEFORE_SENDING:
            return self._message(request, region, layout)

    def _message(self, request: InferRequest, region: str, layout: Layout) -> bytes:
        dtypes = {spec.name: spec.dtype for spec in self._metadata.inputs}
        try:
            message = service_pb2.ModelInferRequest(
                model_name=self._model, model_version=self._version, id=request.request_id
            )
            for name, array in request.inputs.items():
                dtype = dtypes[name]
                tensor = message.inputs.add(name=name, datatype=dtype.value, shape=array.shape)
                if name in layout.inputs:
                    _place(tensor, region, layout.inputs[name])
                else:
                    message.raw_input_contents.append(bytes(encode(array, dtype)))
            top_k = ranks(request)
            for name in request.outputs or [spec.name for spec in self._metadata.outputs]:
                output = message.outputs.add(name=name)
                if top_k:
                    set_parameter(output.parameters["classification"], "classification", top_k)
                elif name in layout.outputs:
                    _place(output, region, layout.outputs[name])
            for name, value in request.parameters.items():
                set_parameter(message.parameters[name], name, value)
        except (UnicodeError, TypeError) as exc:
            raise InvalidInput("the request holds a name that is no Unicode text") from exc
        return serialise(message)


def read_infer(answer: bytes, request: InferRequest, layout: Layout, url: str) -> Answer:
    """What a serialised ``ModelInferResponse`` says; the region is not looked at.

    Raises:
        ProtocolError: The answer does not hold together, or is not one to this request.
    """
    message = parse(service_pb2.ModelInferResponse, answer, url)
    if request.request_id and message.id not in {"", request.request_id}:
        raise ProtocolError(f"{url} answered with the id of another request")
    raws: list[bytes] = list(message.raw_output_contents)
    if len(raws) != len(message.outputs):
        raise ProtocolError(
            f"{url} answered with {len(message.outputs)} outputs and the bytes of {len(raws)}"
        )
    tensors = [
        AnsweredTensor(
            tensor.name,
            tensor.datatype,
            tuple(tensor.shape),
            None if tensor.name in layout.outputs and not raw else raw,
        )
        for tensor, raw in zip(message.outputs, raws, strict=True)
    ]
    return Answer(tensors, message.model_version, read_parameters(message.parameters))


def _place(tensor: Any, region: str, slot: Slot) -> None:
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_offset"].int64_param = slot.offset
    tensor.parameters["shared_memory_byte_size"].int64_param = slot.size
