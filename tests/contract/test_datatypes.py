"""Every cell of the table of datatypes, against the runtime that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from infer_backends import open_model
from infer_backends.plugin import Array, DataType, Deadline, InferRequest
from infer_backends.testing._values import assert_same
from infer_backends_triton import _shared_memory
from infer_backends_triton._codec import decode
from infer_backends_triton._grpc_responses import _CONTENTS as TYPED
from infer_backends_triton._local import LocalTriton
from tests.contract import datatypes
from tests.contract.datatypes import WAYS, Case, Limit, Way
from tests.servers.mlserver import MLServer
from tests.triton.endpoints import opened_at
from tests.triton.grpc_fakes import fake_server

Urls = Callable[[Way, Case], str]
CASES = list(datatypes.cases())
SHARED = ("shared-http", "shared-grpc")


def in_typed_contents(request: Any, context: object) -> Any:
    """The tensor that came raw, as typed contents; without elements if there are none for it."""
    tensor, raw = request.inputs[0], request.raw_input_contents[0]
    dtype = DataType(tensor.datatype)
    array = decode(raw, dtype, tuple(tensor.shape), "x")
    response = service_pb2.ModelInferResponse()
    output = response.outputs.add(name="y", datatype=tensor.datatype, shape=tensor.shape)
    if dtype in TYPED:
        getattr(output.contents, TYPED[dtype]).extend(array.ravel().tolist())
    return response


@contextmanager
def served(way: Way, case: Case, urls: Urls) -> Iterator[str]:
    """The URL of a model that gives the case's tensor back in this way."""
    if way != "typed":
        yield urls(way, case)
        return
    shape = (-1,) * case.array.ndim
    tensors = [((name, case.dtype, shape),) for name in "xy"]
    with fake_server(in_typed_contents, inputs=tensors[0], outputs=tensors[1]) as server:
        yield server.url


@pytest.fixture
def urls(
    triton: LocalTriton,
    mlserver: MLServer,
    reference_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Urls:
    """From a way, but for typed contents, and a case to the URL of a model on a real runtime."""

    def url(way: Way, case: Case) -> str:
        name = case.model if case.model != "matrix" else f"identity_{case.dtype.value.lower()}"
        if way in {"mlserver-http", "mlserver-grpc"}:
            served_as = "scalar_fp32" if name == "scalar" else name
            return mlserver.url(served_as, way.removeprefix("mlserver-"))
        if way in {"onnxruntime", "openvino"}:
            scheme = "onnx" if way == "onnxruntime" else "openvino"
            return f"{scheme}:{reference_folder / name}.onnx"
        base = triton.http_url if way.endswith("http") else triton.grpc_url
        if way not in SHARED:
            return f"{base}/{name}?shared_memory=off"
        monkeypatch.setattr(_shared_memory, "THRESHOLD", 1)
        return f"{base}/{name}?shared_memory=system"

    return url


def in_loop(url: str, array: Array) -> Array:
    """What the backend answers in an event loop, below all that the core does."""
    with opened_at(url) as backend:
        name, output = backend.metadata.inputs[0].name, backend.metadata.outputs[0].name
        request = InferRequest({name: array}, None, Deadline.after(30))

        async def infer() -> Array:
            response = await backend.infer_async(request)
            await backend.close_async()
            return response.outputs[output]

        return asyncio.run(infer())


def in_thread(url: str, array: Array) -> Array:
    with open_model(url) as model:
        return model(array)  # type: ignore[no-any-return]


def limit_of(way: Way, case: Case) -> Limit | None:
    return datatypes.LIMITS[case.row].get(way)


def every_cell(belongs: Callable[[Way, Case], bool]) -> pytest.MarkDecorator:
    """The cells of the table for which there can be a model, and that belong."""
    cells = []
    for way in WAYS:
        for case in CASES:
            limit = limit_of(way, case)
            if (limit is None or limit.error is not None) and belongs(way, case):
                cells.append(pytest.param(way, case, id=f"{way}, {case}"))
    return pytest.mark.parametrize(("way", "case"), cells)


def check(way: Way, case: Case, call: Callable[[Array], Array]) -> None:
    """Call with the tensor; it comes back, or the error that the table says comes instead."""
    limit, sent = limit_of(way, case), case.array
    sent.flags.writeable = False
    if limit is None:
        assert_same(call(sent), sent)
        return
    with pytest.raises(limit.error or AssertionError) as caught:
        call(sent)
    assert type(caught.value) is limit.error


@every_cell(lambda way, case: True)
def test_the_table_is_true(way: Way, case: Case, urls: Urls) -> None:
    with served(way, case, urls) as url:
        check(way, case, lambda array: in_thread(url, array))


@every_cell(lambda way, case: way not in {"onnxruntime", "openvino"} and case.model != "batching")
def test_the_table_is_true_in_event_loops(way: Way, case: Case, urls: Urls) -> None:
    """Of the backends themselves: what the core does for a model without rows is not theirs."""
    with served(way, case, urls) as url:
        check(way, case, lambda array: in_loop(url, array))


@every_cell(lambda way, case: limit_of(way, case) is not None)
def test_what_cannot_be_is_refused_when_the_table_says(way: Way, case: Case, urls: Urls) -> None:
    limit = limit_of(way, case)
    assert limit is not None
    with served(way, case, urls) as url:
        if limit.at == "open":
            with pytest.raises(limit.error or AssertionError):
                open_model(url)
        else:
            open_model(url).close()


def test_every_datatype_is_in_the_table() -> None:
    rows = [case.row for case in CASES]
    assert {case.dtype for case in CASES if case.array.size} == set(DataType)
    assert set(rows) == set(datatypes.LIMITS)


def test_the_page_shows_this_table() -> None:
    assert datatypes.PAGE.read_text(encoding="utf-8") == datatypes.page(), (
        "write it again: python -m tests.contract.datatypes"
    )
