"""The gRPC backend against a real Triton."""

from __future__ import annotations

import subprocess
import sys
import threading
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
    InvalidInput,
    InvalidURL,
    MissingDependency,
    ModelClosed,
    ModelNotFound,
    UnsupportedOperation,
)
from infer_backends_triton import LocalTriton, grpc_plugin
from tests.servers import repository
from tests.triton.grpc_fakes import a_request, opened

URL = Callable[..., str]


def sample(dtype: DataType, shape: tuple[int, ...]) -> Array:
    """An array of the datatype, with its extremes in it."""
    count = int(np.prod(shape))
    array: Array
    if dtype is DataType.BYTES:
        elements = [b"", b"a\0b\0", "grüße 🙂".encode(), bytes(range(256)), b"x" * 70_000]
        array = np.empty(count, object)
        array[:] = [elements[i % len(elements)] for i in range(count)]
    elif dtype is DataType.BOOL:
        array = np.arange(count) % 2 == 0
    elif dtype.numpy_dtype.kind in "iu":
        limits = np.iinfo(np.dtype(dtype.numpy_dtype.name))
        array = np.resize(np.array([limits.min, limits.max, 0, 1], dtype.numpy_dtype), count)
    else:
        values = np.array([0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan])
        array = np.resize(values, count).astype(dtype.numpy_dtype)
    return array.reshape(shape)


@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (7, 1), (0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("dtype", list(DataType))
def test_every_datatype_comes_back_as_it_went(
    triton_url: URL, dtype: DataType, shape: tuple[int, ...]
) -> None:
    sent = sample(dtype, shape)
    kept = sent.copy()
    with opened(triton_url(f"identity_{dtype.value.lower()}", "grpc")) as backend:
        got = backend.infer(a_request(inputs={"INPUT": sent})).outputs["OUTPUT"]
    assert (got.shape, got.dtype) == (shape, dtype.numpy_dtype)
    assert got.flags.writeable
    assert got.flags.c_contiguous
    assert not np.shares_memory(got, sent)
    if dtype is DataType.BYTES:
        assert got.tolist() == kept.tolist()
    else:
        assert got.tobytes() == kept.tobytes()


def test_metadata_comes_from_the_model_and_its_configuration(triton_url: URL) -> None:
    with opened(triton_url("add_sub", "grpc")) as backend:
        described = backend.metadata
    assert (described.name, described.versions, described.platform) == ("add_sub", ("1",), "python")
    assert [str(spec) for spec in described.inputs] == ["b: INT32[-1, 4]", "a: INT32[-1, 4]"]
    assert [spec.name for spec in described.outputs] == ["sum", "difference"]
    assert described.max_batch_size == 8
    with opened(triton_url("optional", "grpc")) as backend:
        assert [spec.optional for spec in backend.metadata.inputs] == [False, True]
    with opened(triton_url("decoupled", "grpc")) as backend:
        assert backend.metadata.decoupled
    with opened(triton_url("parameters", "grpc")) as backend:
        assert backend.metadata.parameters["metadata"] == repository.METADATA


@pytest.mark.parametrize(("path", "factor"), [("", 2), ("/versions/1", 1), ("?version=2", 2)])
def test_the_url_chooses_the_version(triton_url: URL, path: str, factor: int) -> None:
    x = np.array([1, 2, 3], np.float32)
    with opened(triton_url("versions", "grpc") + path) as backend:
        response = backend.infer(a_request(inputs={"INPUT": x}))
        assert backend.ready(Deadline.after(10))
    assert response.outputs["OUTPUT"].tolist() == (x * factor).tolist()
    assert response.model_version == str(factor)


@pytest.mark.parametrize("path", ["nope", "versions/versions/9", "versions/versions/latest"])
def test_a_model_or_version_that_is_not_there_is_not_found(triton_url: URL, path: str) -> None:
    with pytest.raises(ModelNotFound), opened(triton_url(path, "grpc")):
        pass


def test_the_outputs_asked_for_come_in_the_order_asked_for(triton_url: URL) -> None:
    a, b = np.array([[1, 2, 3, 4]], np.int32), np.array([[5, 5, 5, 5]], np.int32)
    with opened(triton_url("add_sub", "grpc")) as backend:
        every = backend.infer(a_request(inputs={"b": b, "a": a}))
        some = backend.infer(a_request(inputs={"b": b, "a": a}, outputs=("difference", "sum")))
        one = backend.infer(a_request(inputs={"b": b, "a": a}, outputs=("sum",)))
    assert list(every.outputs) == ["sum", "difference"]
    assert every.outputs["difference"].tolist() == (b - a).tolist()
    assert list(some.outputs) == ["difference", "sum"]
    assert list(one.outputs) == ["sum"]


def test_an_optional_input_may_be_left_out(triton_url: URL) -> None:
    x = np.array([1, 2], np.float32)
    with opened(triton_url("optional", "grpc")) as backend:
        with_bias = {"INPUT": x, "BIAS": np.array([10], np.float32)}
        assert backend.infer(a_request(inputs={"INPUT": x})).outputs["OUTPUT"].tolist() == [1, 2]
        assert backend.infer(a_request(inputs=with_bias)).outputs["OUTPUT"].tolist() == [11, 12]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (b"exception", InferenceFailed),
        (b"error", InferenceFailed),
        (b"invalid", InvalidInput),
    ],
)
def test_a_models_own_failure_is_told_apart_from_wrong_input(
    triton_url: URL, kind: bytes, error: type[InferError]
) -> None:
    with opened(triton_url("failing", "grpc")) as backend:
        with pytest.raises(error) as caught:
            backend.infer(a_request(inputs={"KIND": np.array([kind], object)}))
    assert type(caught.value) is error


def test_a_decoupled_model_is_not_called_like_another(triton_url: URL) -> None:
    with opened(triton_url("decoupled", "grpc")) as backend:
        with pytest.raises(UnsupportedOperation):
            backend.infer(a_request(inputs={"COUNT": np.array([2], np.int32)}))


def test_a_call_ends_at_its_deadline_and_the_next_one_works(triton_url: URL) -> None:
    with opened(triton_url("slow", "grpc")) as backend:
        with pytest.raises(DeadlineExceeded, match="larger timeout"):
            backend.infer(a_request(inputs={"SECONDS": np.array([2], np.float32)}, timeout=0.2))
        with pytest.raises(DeadlineExceeded):
            backend.infer(a_request(inputs={"SECONDS": np.array([0], np.float32)}, timeout=0))
        answer = backend.infer(a_request(inputs={"SECONDS": np.array([0], np.float32)}))
    assert answer.outputs["OUTPUT"].tolist() == [0]


def test_a_deadline_may_be_endless(triton_url: URL) -> None:
    x = np.array([1], np.float32)
    with opened(triton_url("identity_1d", "grpc")) as backend:
        request = a_request(inputs={"INPUT": x}, timeout=float("inf"))
        assert backend.infer(request).outputs["OUTPUT"].tolist() == [1]


def test_many_threads_get_their_own_answers(triton_url: URL) -> None:
    with opened(triton_url("identity_1d", "grpc")) as backend:

        def call(number: int) -> bool:
            x = np.full(number % 50 + 1, number, np.float32)
            got = backend.infer(a_request(inputs={"INPUT": x})).outputs["OUTPUT"]
            return bool(np.array_equal(got, x))

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(call, range(400)))


def test_a_large_tensor_travels_both_ways(triton_url: URL) -> None:
    x = np.arange(5_000_000, dtype=np.float32)
    with opened(triton_url("identity_1d", "grpc")) as backend:
        got = backend.infer(a_request(inputs={"INPUT": x})).outputs["OUTPUT"]
    assert np.array_equal(got, x)


def test_inputs_over_what_a_message_holds_are_refused_before_they_are_sent(
    triton_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infer_backends_triton import _grpc_messages

    monkeypatch.setattr(_grpc_messages, "MAX_MESSAGE_BYTES", 1000)
    with opened(triton_url("identity_1d", "grpc")) as backend:
        for size in (245, 251):
            with pytest.raises(InvalidInput, match="at most 1000"):
                backend.infer(a_request(inputs={"INPUT": np.zeros(size, np.float32)}))


def test_a_base_path_has_no_meaning_over_grpc(triton: LocalTriton) -> None:
    with pytest.raises(InvalidURL, match="base path"):
        with opened(f"{triton.grpc_url}/base/v2/models/identity_1d"):
            pass


def test_the_server_is_asked_which_model_is_ready(triton_environment: Path, tmp_path: Path) -> None:
    models = repository.write_repository(tmp_path / "models", only=["identity_1d"])
    with LocalTriton(models, environment=triton_environment) as server:
        with opened(server.grpc_url) as backend:
            assert backend.metadata.name == "identity_1d"
            assert backend.ready(Deadline.after(10))
            server.stop()
            assert not backend.ready(Deadline.after(10))


def test_a_restarted_server_is_found_again_by_the_next_call(
    triton_environment: Path, tmp_path: Path
) -> None:
    models = repository.write_repository(tmp_path / "models", only=["identity_1d"])
    x = np.array([3], np.float32)
    with LocalTriton(models, environment=triton_environment) as server:
        with opened(f"{server.grpc_url}/identity_1d") as backend:
            backend.infer(a_request(inputs={"INPUT": x}))
            server.stop()
            for _ in range(20):
                with pytest.raises(InferError):
                    backend.infer(a_request(inputs={"INPUT": x}))
            server.start()
            answer = backend.infer(a_request(inputs={"INPUT": x}))
    assert answer.outputs["OUTPUT"].tolist() == [3]


def test_closing_ends_the_calls_in_flight(triton_url: URL) -> None:
    outcome: list[Any] = []
    with opened(triton_url("slow", "grpc")) as backend:

        def call() -> None:
            try:
                seconds = np.array([5], np.float32)
                outcome.append(backend.infer(a_request(inputs={"SECONDS": seconds})))
            except InferError as exc:
                outcome.append(exc)

        thread = threading.Thread(target=call)
        thread.start()
        _wait_until(lambda: _in_flight(backend) == 1)
        backend.close()
        thread.join(10)
        assert not thread.is_alive()
        assert type(outcome[0]) is ModelClosed
        backend.close()
        for _ in range(2):
            with pytest.raises(ModelClosed):
                backend.infer(a_request(inputs={"SECONDS": np.array([0], np.float32)}))
            with pytest.raises(ModelClosed):
                backend.ready(Deadline.after(5))


def test_closing_between_the_steps_of_a_call_is_told_as_such(triton_url: URL) -> None:
    with opened(triton_url("identity_1d", "grpc")) as backend:
        request = a_request(inputs={"INPUT": np.array([1], np.float32)})

        def clock() -> float:
            backend.close()
            return time.monotonic()

        request.deadline = Deadline(time.monotonic() + 20, clock=clock)
        with pytest.raises(ModelClosed):
            backend.infer(request)


def test_opening_imports_nothing_of_the_other_protocol(triton_url: URL) -> None:
    program = f"""
import sys
import infer_backends_triton.grpc_plugin as plugin
from infer_backends.plugin import ModelURL, OpenOptions
assert not {{"grpc", "tritonclient", "google.protobuf"}} & set(sys.modules)
values = {{option.name: option.default for option in plugin.infer_backends_options()}}
url = ModelURL.parse({triton_url("identity_1d", "grpc")!r})
plugin.infer_backends_open(url, OpenOptions(values)).close()
assert "grpc" in sys.modules
found = {{"gevent", "geventhttpclient", "aiohttp", "onnxruntime"}} & set(sys.modules)
assert not found, found
"""
    done = run(program)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    grpc_plugin.infer_backends_check("grpc")
    monkeypatch.setattr(grpc_plugin, "_NEEDED", ("grpc", "no_such_package.part"))
    with pytest.raises(MissingDependency) as caught:
        grpc_plugin.infer_backends_check("grpc")
    assert "pip install 'infer-backends-triton[grpc]'" in str(caught.value)
    assert "no_such_package.part" in str(caught.value)


def test_opening_without_grpc_names_what_to_install() -> None:
    program = """
import sys
sys.modules["grpc"] = None
import infer_backends_triton.grpc_plugin as plugin
from infer_backends.plugin import MissingDependency, ModelURL, OpenOptions
try:
    plugin.infer_backends_open(ModelURL.parse("grpc://127.0.0.1:1/m"), OpenOptions())
except MissingDependency as exc:
    print(exc, exc.__cause__ is not None)
"""
    done = run(program)
    assert "pip install 'infer-backends-triton[grpc]' True" in done.stdout, done.stderr


def run(program: str) -> subprocess.CompletedProcess[str]:
    """What a Python program wrote, in a process of its own."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, check=False, text=True)


def _in_flight(backend: Any) -> int:
    return sum(len(link.calls) for link in backend._connection._links.all)


def _wait_until(reached: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.005)
