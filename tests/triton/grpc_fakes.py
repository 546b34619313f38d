"""A gRPC server that describes one model like a real one, and answers calls as a test wants.

For what a real server cannot be made to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from infer_backends.plugin import (
    DataType,
    Deadline,
    InferRequest,
    ModelURL,
    OpenOptions,
    ParameterValue,
)
from infer_backends_triton import grpc_plugin
from infer_backends_triton._grpc_backend import GrpcBackend
from infer_backends_triton._settings import TRITON_OPTIONS

Answer = Callable[[Any, grpc.ServicerContext], Any]
Tensors = tuple[tuple[str, DataType, tuple[int, ...]], ...]

ONE_IN: Tensors = (("x", DataType.FP32, (-1,)),)
ONE_OUT: Tensors = (("y", DataType.FP32, (-1,)),)


def refuse(code: grpc.StatusCode, details: str = "") -> Answer:
    """An answer that is this status."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(code, details)

    return answer


def respond(
    *outputs: tuple[str, str, tuple[int, ...]],
    raw: tuple[bytes, ...] = (),
    contents: Mapping[str, Mapping[str, Any]] | None = None,
    **fields: Any,
) -> Answer:
    """An answer with these outputs: name, datatype, shape; raw or typed contents by name."""
    response = service_pb2.ModelInferResponse(raw_output_contents=raw, **fields)
    for name, datatype, shape in outputs:
        response.outputs.add(
            name=name, datatype=datatype, shape=shape, contents=(contents or {}).get(name)
        )
    return lambda request, context: response


def echo(request: Any, context: grpc.ServicerContext) -> Any:
    """The first input, as the output ``y``."""
    tensor = request.inputs[0]
    response = service_pb2.ModelInferResponse(
        model_name=request.model_name,
        id=request.id,
        raw_output_contents=list(request.raw_input_contents)[:1],
    )
    response.outputs.add(name="y", datatype=tensor.datatype, shape=tensor.shape)
    return response


@dataclass
class FakeServer:
    """What tests ask a running fake for.

    Attributes:
        port: Its port on 127.0.0.1.
        requests: The calls of ModelInfer, in order.
        metadata: The gRPC metadata of every call, in order.
        stop: Ends the server, and the calls in flight, at once.
    """

    port: int = 0
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    stop: Callable[[], Any] = lambda: None

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}/m"


def _describe(inputs: Tensors, outputs: Tensors) -> Any:
    response = service_pb2.ModelMetadataResponse(name="m", versions=["1"], platform="fake")
    for tensors, target in ((inputs, response.inputs), (outputs, response.outputs)):
        for name, dtype, shape in tensors:
            target.add(name=name, datatype=dtype.value, shape=shape)
    return response


def _handler(
    method: str, answer: Answer, seen: FakeServer, *, raw: bool
) -> grpc.RpcMethodHandler[Any, Any]:
    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        seen.metadata.append(dict(context.invocation_metadata()))
        if method == "ModelInfer":
            seen.requests.append(request)
        return answer(request, context)

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=getattr(service_pb2, f"{method}Request").FromString,
        response_serializer=None if raw else lambda response: response.SerializeToString(),
    )


def _streaming(answer: Callable[[Any, grpc.ServicerContext], Iterator[Any]]) -> Any:
    """What handles ModelStreamInfer: each of these answers to the first request, in its message."""

    def handle(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for response in answer(next(requests), context):
            yield service_pb2.ModelStreamInferResponse(infer_response=response)

    return grpc.stream_stream_rpc_method_handler(
        handle,
        request_deserializer=service_pb2.ModelInferRequest.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


@contextmanager
def fake_server(
    infer: Answer = echo,
    *,
    inputs: Tensors = ONE_IN,
    outputs: Tensors = ONE_OUT,
    answers: Mapping[str, Answer] | None = None,
    raw: bool = False,
    credentials: grpc.ServerCredentials | None = None,
    port: int = 0,
    stream: Callable[[Any, grpc.ServicerContext], Iterator[Any]] | None = None,
) -> Iterator[FakeServer]:
    """A running server.

    Args:
        infer: The answer to ModelInfer; returns bytes if ``raw`` is given.
        inputs: The model's inputs.
        outputs: The model's outputs.
        answers: Answers to other methods, by name. Without one, ModelMetadata describes the
            model, and everything else is UNIMPLEMENTED.
        raw: Whether ``infer`` answers with bytes.
        credentials: For TLS.
        port: 0 takes a free one.
        stream: The answers to ModelStreamInfer, each as to ModelInfer.
    """
    seen = FakeServer()
    described = _describe(inputs, outputs)
    methods: dict[str, Answer] = {
        "ModelMetadata": lambda request, context: described,
        **(answers or {}),
        "ModelInfer": infer,
    }
    handlers = {
        name: _handler(name, answer, seen, raw=raw and name == "ModelInfer")
        for name, answer in methods.items()
    }
    if stream is not None:
        handlers["ModelStreamInfer"] = _streaming(stream)
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(
            pool,
            handlers=[
                grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
            ],
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)],
        )
        address = f"127.0.0.1:{port}"
        if credentials is None:
            seen.port = server.add_insecure_port(address)
        else:
            seen.port = server.add_secure_port(address, credentials)
        server.start()
        seen.stop = lambda: server.stop(0)
        try:
            yield seen
        finally:
            server.stop(0).wait()


def make_options(
    *, timeout: float = 30.0, connect_timeout: float = 10.0, headers: Any = None, **given: Any
) -> OpenOptions:
    """Options with the plugin's defaults for what is not given."""
    values = {option.name: option.default for option in TRITON_OPTIONS}
    assert given.keys() <= values.keys()
    return OpenOptions(
        values | given,
        deadline=Deadline.after(timeout),
        connect_timeout=connect_timeout,
        headers=headers,
    )


@contextmanager
def opened(url: str, **options: Any) -> Iterator[GrpcBackend]:
    """The backend for ``url``, made through the hook and closed at the end."""
    backend = grpc_plugin.infer_backends_open(ModelURL.parse(url), make_options(**options))
    assert isinstance(backend, GrpcBackend)
    try:
        yield backend
    finally:
        backend.close()


def a_request(
    *,
    inputs: Mapping[str, Any] | None = None,
    outputs: tuple[str, ...] | None = None,
    timeout: float = 20.0,
    request_id: str = "",
    parameters: Mapping[str, ParameterValue] | None = None,
    headers: Mapping[str, str] | None = None,
) -> InferRequest:
    """A request for the fake's model."""
    return InferRequest(
        inputs=dict(inputs) if inputs is not None else {"x": np.array([1, 2], np.float32)},
        outputs=outputs,
        deadline=Deadline.after(timeout),
        request_id=request_id,
        parameters=parameters or {},
        headers=headers or {},
    )
