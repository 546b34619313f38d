"""Calls over gRPC that are compressed on the way, and answers that become too large."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import grpc
import numpy as np
import pytest

from infer_backends.plugin import InferRequest, InferResponse, ProtocolError, RequestOptions
from infer_backends_triton._grpc_backend import GrpcBackend
from tests.faults.proxy import Fault, fault_proxy
from tests.triton.grpc_fakes import a_request, echo, fake_server, opened, respond

Coding = Literal["gzip", "deflate"]
Infer = Callable[[GrpcBackend, InferRequest], InferResponse]


def in_a_loop(backend: GrpcBackend, request: InferRequest) -> InferResponse:
    return asyncio.run(backend.infer_async(request))


WAYS: list[Infer] = [GrpcBackend.infer, in_a_loop]


def asking(size: int, coding: Coding | None) -> InferRequest:
    request = a_request(inputs={"x": np.zeros(size, np.float32)})
    request.options = RequestOptions(compression=coding)
    return request


@pytest.mark.parametrize("infer", WAYS)
def test_what_is_sent_is_as_small_as_compression_makes_it(infer: Infer) -> None:
    sent: list[int] = []

    def count(piece: bytes) -> bytes:
        sent.append(len(piece))
        return piece

    sizes = {}
    with fake_server() as server, fault_proxy(server.port) as proxy:
        with opened(f"grpc://127.0.0.1:{proxy.port}/m") as backend:
            proxy.set(Fault("request", edit=count))
            for coding in (None, "gzip", "deflate"):
                del sent[:]
                request = asking(250_000, coding)
                assert infer(backend, request).outputs["y"].shape == (250_000,)
                sizes[coding] = sum(sent)
    assert sizes[None] > 1_000_000
    assert sizes["gzip"] < 20_000
    assert sizes["deflate"] < 20_000


@pytest.mark.parametrize("infer", WAYS)
def test_an_answer_that_becomes_too_large_breaks_the_protocol(infer: Infer) -> None:
    size = 5_000_000
    large = respond(("y", "FP32", (size,)), raw=(bytes(4 * size),))

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_compression(grpc.Compression.Gzip)
        return large(request, context)

    with fake_server(answer) as server, opened(server.url, max_response_bytes=1_000_000) as backend:
        with pytest.raises(ProtocolError, match="max_response_bytes"):
            infer(backend, asking(1, "gzip"))


def test_an_answer_may_be_compressed_too() -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_compression(grpc.Compression.Gzip)
        return echo(request, context)

    with fake_server(answer) as server, opened(server.url) as backend:
        assert backend.request_options == {"compression"}
        assert "'classification'" in backend.advice("top_k")
        assert backend.advice("compression") == backend.advice("streaming") == ""
        assert backend.infer(asking(9, "deflate")).outputs["y"].shape == (9,)
