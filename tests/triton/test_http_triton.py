"""The HTTP backend against a real Triton."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infer_backends.plugin import (
    Array,
    DataType,
    Deadline,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InferRequest,
    InvalidInput,
    InvalidURL,
    ModelNotFound,
    ProtocolError,
    TLSError,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends_triton._http import HTTPBackend
from infer_backends_triton._local import LocalTriton
from tests.servers.repository import write_repository
from tests.triton.http_faults import opened

URL = Callable[..., str]


def call(
    backend: HTTPBackend, outputs: tuple[str, ...] | None = None, **inputs: Any
) -> list[Array]:
    timeout = inputs.pop("timeout", 30.0)
    response = backend.infer(InferRequest(inputs, outputs, Deadline.after(timeout)))
    return list(response.outputs.values())


def example(dtype: DataType, shape: tuple[int, ...]) -> Array:
    size = int(np.prod(shape))
    if dtype is DataType.BYTES:
        array = np.empty(size, object)
        array[:] = [b"", b"a\0", b"\xff" * 9, "é".encode(), b"e", b"f"][:size]
        return array.reshape(shape)
    limits = np.array([0, 1, 2, 3, 100, 127]) % (2 if dtype is DataType.BOOL else 128)
    values: Array = limits[:size].reshape(shape).astype(dtype.numpy_dtype)
    return values


@pytest.mark.parametrize("dtype", list(DataType))
@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (0, 3), (3, 0)])
def test_every_datatype_comes_back_as_it_went(
    triton_url: URL, dtype: DataType, shape: tuple[int, ...]
) -> None:
    array = example(dtype, shape)
    with opened(triton_url(f"identity_{dtype.value.lower()}")) as backend:
        for wanted in (None, ("OUTPUT",)):
            (back,) = call(backend, wanted, INPUT=array)
            assert (back.dtype, back.shape, back.tolist()) == (array.dtype, shape, array.tolist())
            assert back.flags.writeable
            assert back.flags.c_contiguous


def test_nan_and_infinities_come_back(triton_url: URL) -> None:
    array = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)
    with opened(triton_url("identity_1d")) as backend:
        assert call(backend, INPUT=array)[0].tobytes() == array.tobytes()


def test_a_large_tensor_comes_back(triton_url: URL) -> None:
    array = np.random.default_rng(0).random(3_000_000, np.float32)
    with opened(triton_url("identity_1d")) as backend:
        assert (call(backend, INPUT=array)[0] == array).all()


def test_metadata_and_configuration_are_read(triton_url: URL) -> None:
    with opened(triton_url("add_sub")) as backend:
        metadata = backend.metadata
    assert metadata.name == "add_sub"
    assert metadata.versions == ("1",)
    assert metadata.platform == "python"
    assert metadata.max_batch_size == 8
    assert [str(spec) for spec in metadata.inputs] == ["b: INT32[-1, 4]", "a: INT32[-1, 4]"]
    assert [spec.name for spec in metadata.outputs] == ["sum", "difference"]
    with opened(triton_url("optional")) as backend:
        assert [spec.optional for spec in backend.metadata.inputs] == [False, True]
    with opened(triton_url("decoupled")) as backend:
        assert backend.metadata.decoupled
    with opened(triton_url("parameters")) as backend:
        assert '"cat"' in backend.metadata.parameters["metadata"]


def test_outputs_come_in_the_order_wanted(triton_url: URL) -> None:
    a, b = np.full((1, 4), 1, np.int32), np.full((1, 4), 10, np.int32)
    with opened(triton_url("add_sub")) as backend:
        everything = call(backend, None, b=b, a=a)
        turned = call(backend, ("difference", "sum"), b=b, a=a)
        one = call(backend, ("difference",), b=b, a=a)
    assert [array[0, 0] for array in everything] == [11, 9]
    assert [array[0, 0] for array in turned] == [9, 11]
    assert [array[0, 0] for array in one] == [9]


def test_an_optional_input_may_be_left_out(triton_url: URL) -> None:
    value, bias = np.array([1.0], np.float32), np.array([5.0], np.float32)
    with opened(triton_url("optional")) as backend:
        assert call(backend, INPUT=value)[0].tolist() == [1.0]
        assert call(backend, INPUT=value, BIAS=bias)[0].tolist() == [6.0]


def test_a_version_is_the_one_that_was_asked_for(triton_url: URL) -> None:
    value = np.array([1.0], np.float32)
    for version in ("1", "2"):
        with opened(triton_url("versions") + f"/versions/{version}") as backend:
            response = backend.infer(InferRequest({"INPUT": value}, None, Deadline.after(30)))
        assert response.model_version == version
        assert response.outputs["OUTPUT"].tolist() == [float(version)]
    with opened(triton_url("versions")) as backend:
        assert sorted(backend.metadata.versions) == ["1", "2"]
    for wrong in ("9", "abc"):
        with pytest.raises(ModelNotFound), opened(triton_url("versions") + f"/versions/{wrong}"):
            pass


def test_the_long_form_of_a_url_is_the_same_model(triton_url: URL) -> None:
    with opened(triton_url("v2/models/identity_1d")) as backend:
        assert backend.metadata.name == "identity_1d"


def test_a_model_that_is_not_there_is_not_found(triton_url: URL) -> None:
    for name in ("nope", "no%2Fpe", "n%C3%A9", "no%20pe%3F"):
        with pytest.raises(ModelNotFound), opened(triton_url(name)):
            pass


def test_a_url_without_a_model_lists_those_that_are_ready(triton_url: URL) -> None:
    with pytest.raises(InvalidURL, match="'add_sub'"), opened(triton_url("")):
        pass


def test_the_only_model_of_a_server_needs_no_name(triton_environment: Path, tmp_path: Path) -> None:
    models = write_repository(tmp_path / "models", {"identity_1d"})
    value = np.array([1.0], np.float32)
    with LocalTriton(models, environment=triton_environment) as server:
        for url in (server.http_url, f"{server.http_url}/v2"):
            with opened(url) as backend:
                assert backend.metadata.name == "identity_1d"
                response = backend.infer(InferRequest({"INPUT": value}, None, Deadline.after(30)))
                assert response.backend_url == server.http_url


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (b"exception", InferenceFailed),
        (b"error", InferenceFailed),
        (b"invalid", InvalidInput),
        (b"unavailable", Unavailable),
        (b"not found", ModelNotFound),
    ],
)
def test_a_failure_of_the_model_is_told_from_others(
    triton_url: URL, kind: bytes, error: type[InferError]
) -> None:
    with opened(triton_url("failing")) as backend:
        with pytest.raises(error) as caught:
            call(backend, KIND=np.array([kind], object))
        assert type(caught.value) is error
        assert "the model" in str(caught.value)
        assert call(backend, KIND=np.array([b"none"], object))[0].tolist() == [b"none"]


def test_a_shape_that_the_model_does_not_take_is_invalid_input(triton_url: URL) -> None:
    with opened(triton_url("add_sub")) as backend:
        wrong = np.zeros((1, 3), np.int32)
        with pytest.raises(InvalidInput, match="shape"):
            call(backend, b=wrong, a=wrong)
        many = np.zeros((9, 4), np.int32)
        with pytest.raises(InvalidInput, match="batch"):
            call(backend, b=many, a=many)


def test_an_output_that_the_model_does_not_have_is_invalid_input(triton_url: URL) -> None:
    with opened(triton_url("identity_1d")) as backend, pytest.raises(InvalidInput, match="nope"):
        call(backend, ("nope",), INPUT=np.zeros(1, np.float32))


def test_a_decoupled_model_is_not_for_plain_calls(triton_url: URL) -> None:
    with opened(triton_url("decoupled")) as backend, pytest.raises(UnsupportedOperation):
        call(backend, COUNT=np.array([1], np.int32))


def test_a_slow_model_costs_the_deadline_and_the_next_call_is_unharmed(triton_url: URL) -> None:
    with opened(triton_url("slow")) as backend:
        with pytest.raises(DeadlineExceeded):
            call(backend, SECONDS=np.array([1.5], np.float32), timeout=0.2)
        assert call(backend, SECONDS=np.array([0.0], np.float32))[0].tolist() == [0.0]


def test_an_answer_over_the_limit_is_refused(triton_url: URL) -> None:
    with opened(triton_url("big"), max_response_bytes=1000) as backend:
        assert call(backend, COUNT=np.array([10], np.int64))[0].size == 10
        with pytest.raises(ProtocolError, match="max_response_bytes"):
            call(backend, COUNT=np.array([1_000_000], np.int64))
        assert call(backend, COUNT=np.array([10], np.int64))[0].size == 10


def test_a_request_has_its_id_and_parameters(triton_url: URL) -> None:
    with opened(triton_url("identity_1d")) as backend:
        inputs: dict[str, Array] = {"INPUT": np.zeros(1, np.float32)}
        request = InferRequest(inputs, None, Deadline.after(30), "é-1", {"priority": 1, "own": "x"})
        assert backend.infer(request).outputs["OUTPUT"].tolist() == [0.0]


def test_readiness_is_the_models(triton_url: URL) -> None:
    with opened(triton_url("identity_1d")) as backend:
        assert backend.ready(Deadline.after(30)) is True
        assert backend.ready(Deadline.after(0)) is False


def test_tls_to_its_plain_port_is_a_tls_error(triton: LocalTriton) -> None:
    url = triton.http_url.replace("http:", "https:") + "/identity_1d"
    with pytest.raises(TLSError, match="speak TLS"), opened(url):
        pass


def test_http_to_its_grpc_port_is_a_protocol_error(triton: LocalTriton) -> None:
    url = triton.grpc_url.replace("grpc:", "http:") + "/identity_1d"
    with pytest.raises(ProtocolError, match="right port"), opened(url):
        pass


def test_threads_share_a_backend(triton_url: URL) -> None:
    with opened(triton_url("identity_1d")) as backend, ThreadPoolExecutor(8) as threads:

        def one(number: int) -> bool:
            array = np.full(number, number, np.float32)
            return np.array_equal(call(backend, INPUT=array)[0], array)

        assert all(threads.map(one, range(1, 100)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_fork_calls_while_its_parent_does(triton_url: URL) -> None:
    value = np.array([1.0], np.float32)
    with opened(triton_url("identity_1d")) as backend:
        call(backend, INPUT=value)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if call(backend, INPUT=value)[0].tolist() == [1.0] else 2
            finally:
                os._exit(code)
        for _ in range(20):
            assert call(backend, INPUT=value)[0].tolist() == [1.0]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_killed_server_is_unavailable_at_once_and_used_again_when_it_is_back(
    triton_environment: Path, tmp_path: Path
) -> None:
    models = write_repository(tmp_path / "models", {"slow"})
    nothing = np.array([0], np.float32)
    with (
        LocalTriton(models, environment=triton_environment) as server,
        opened(f"{server.http_url}/slow") as backend,
        ThreadPoolExecutor(1) as threads,
    ):
        waiting = threads.submit(call, backend, SECONDS=np.array([60], np.float32), timeout=100)
        wait_until(lambda: any(used.request_sent for used in backend._server._pool._busy))
        server.kill()
        with pytest.raises(Unavailable):
            waiting.result(30)
        with pytest.raises(Unavailable):
            call(backend, SECONDS=nothing)
        assert backend.ready(Deadline.after(5)) is False
        server.start()
        assert call(backend, SECONDS=nothing)[0].tolist() == [0.0]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that another thread makes true, for 10 seconds at most."""
    deadline = Deadline.after(10)
    while not condition():
        assert not deadline.expired
        time.sleep(0.005)
