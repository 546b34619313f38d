"""A deadline that was asked for ends a call in time; the default one does not. So does a close."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.plugin import Deadline, DeadlineExceeded, InferRequest, ModelClosed
from infer_backends.testing import REFERENCE_MODELS
from infer_backends_openvino._backend import OpenVINOBackend
from tests.openvino import models
from tests.openvino.conftest import OpenBackend, request

SLOW = REFERENCE_MODELS["slow"].onnx_file
LONG: dict[str, Any] = {"rounds": np.array([15_000])}  # for a second or so, in one operator
SHORT: dict[str, Any] = {"rounds": np.array([3])}


def leftovers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "openvino-leftovers" in thread.name]


def wait_until_running(backend: OpenVINOBackend) -> None:
    end = time.monotonic() + 30
    while not backend._requests._running and time.monotonic() < end:
        time.sleep(0.001)


def test_an_explicit_deadline_ends_a_call_in_time_even_within_an_operator(
    open_backend: OpenBackend,
) -> None:
    backend = open_backend(SLOW)
    with pytest.raises(DeadlineExceeded, match="while the model 'slow' was running"):
        backend.infer(request(LONG, timeout=0.1))
    # The run itself cannot be stopped there: it is told to, and is set aside.
    assert len(backend._requests._aside) == 1
    assert not backend._requests._running


def test_a_run_that_was_left_is_used_again_when_it_is_at_rest(open_backend: OpenBackend) -> None:
    backend = open_backend(SLOW)
    with pytest.raises(DeadlineExceeded):
        backend.infer(request(LONG, timeout=0.05))
    assert backend.infer(request(SHORT, timeout=60)).outputs["total"] == pytest.approx(1)
    (left, _), *_ = backend._requests._aside or [(None, None)]
    if left is not None:
        with pytest.raises(RuntimeError):  # As it says of one that was cancelled.
            left.wait()
    backend.infer(request(SHORT))
    assert not backend._requests._aside
    assert backend.infer(request(SHORT)).outputs["total"] == pytest.approx(1)


def test_between_operators_a_run_stops_at_once(open_backend: OpenBackend) -> None:
    backend = open_backend(models.chain())
    x = np.eye(1024, dtype=np.float32)
    with pytest.raises(DeadlineExceeded):
        backend.infer(request({"x": x}, timeout=0.05))
    began = time.monotonic()
    (left, _), *_ = backend._requests._aside
    with pytest.raises(RuntimeError):
        left.wait()
    stopped = time.monotonic() - began
    backend.infer(request({"x": x}))
    assert stopped < (time.monotonic() - began) / 2


def test_a_deadline_that_has_passed_starts_no_run(open_backend: OpenBackend) -> None:
    backend = open_backend(SLOW)
    for explicit in (False, True):
        late = Deadline.after(-1, explicit=explicit)
        with pytest.raises(DeadlineExceeded, match="passed before running the model"):
            backend.infer(InferRequest(SHORT, None, late))


def test_the_default_deadline_does_not_stop_a_run(open_backend: OpenBackend) -> None:
    backend = open_backend(SLOW)
    soon = Deadline.after(0.001, explicit=False)
    answer = backend.infer(InferRequest({"rounds": np.array([2000])}, None, soon))
    assert soon.expired
    assert answer.outputs["total"] == pytest.approx(1, abs=0.01)


def test_a_timeout_in_the_url_or_the_call_is_explicit() -> None:
    with ib.open_model(f"openvino:{SLOW}?timeout=0.1") as model:
        with pytest.raises(DeadlineExceeded):
            model.infer(LONG)
        with pytest.raises(DeadlineExceeded):
            model.infer(LONG, timeout=0.05)


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_close_stops_a_call_between_operators(
    open_backend: OpenBackend, timeout: float | None
) -> None:
    backend = open_backend(models.chain())
    x = np.eye(1024, dtype=np.float32)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(backend.infer, request({"x": x}, timeout=timeout))
        wait_until_running(backend)
        time.sleep(0.02)  # A run that has not begun is not stopped.
        backend.close()
        with pytest.raises(ModelClosed, match="was closed while it was running"):
            call.result(60)


def test_a_close_waits_for_no_operator_and_neither_does_a_call_with_a_deadline(
    open_backend: OpenBackend,
) -> None:
    backend = open_backend(SLOW)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(backend.infer, request(LONG, timeout=600))
        wait_until_running(backend)
        time.sleep(0.02)
        backend.close()
        with pytest.raises(ModelClosed):
            call.result(60)
    for thread in leftovers():
        thread.join(60)
        assert not thread.is_alive()


def test_a_closed_model_says_so(open_backend: OpenBackend) -> None:
    backend = open_backend(SLOW)
    assert backend.ready(Deadline.after(1))
    assert backend.describe(Deadline.after(1)) == backend.metadata
    backend.close()
    backend.close()
    assert not backend.ready(Deadline.after(1))
    for call in (
        lambda: backend.infer(request(SHORT)),
        lambda: backend.describe(Deadline.after(1)),
    ):
        with pytest.raises(ModelClosed, match="open it again"):
            call()


def test_a_close_lets_go_of_the_compiled_model(open_backend: OpenBackend) -> None:
    backend = open_backend(SLOW)
    backend.infer(request(SHORT))
    backend.close()
    assert backend._requests._compiled is None
    assert not backend._requests._idle


def test_a_model_that_is_dropped_is_collected() -> None:
    model = ib.open_model(f"openvino:{SLOW}")
    model.infer(SHORT, timeout=60)
    dropped = weakref.ref(model)
    del model
    gc.collect()
    assert dropped() is None
