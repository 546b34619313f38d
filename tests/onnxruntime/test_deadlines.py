"""A deadline that was asked for stops a run between operators; the default one does not."""

from __future__ import annotations

import gc
import math
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.plugin import Deadline, DeadlineExceeded, InferRequest
from infer_backends_onnxruntime import _watchdog
from infer_backends_onnxruntime._watchdog import Watchdog
from tests.onnxruntime import models
from tests.onnxruntime.conftest import OpenBackend, Save, request

ENDLESS: dict[str, Any] = {"rounds": np.array(10**12), "w": np.eye(16, dtype=np.float32)}
SHORT: dict[str, Any] = {"rounds": np.array(3), "w": np.eye(16, dtype=np.float32)}


class Options:
    def __init__(self) -> None:
        self.terminate = False


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "onnxruntime-deadlines" in thread.name]


def test_an_explicit_deadline_stops_a_run(open_backend: OpenBackend) -> None:
    backend = open_backend(models.loop(), threads=1)
    with pytest.raises(DeadlineExceeded, match="while the model 'model' was running") as caught:
        backend.infer(request(ENDLESS, timeout=0.1))
    assert "terminate" in str(caught.value.__cause__)
    assert backend.infer(request(SHORT, timeout=60)).outputs["y"].shape == (16, 16)


def test_a_deadline_that_has_passed_starts_no_run(open_backend: OpenBackend) -> None:
    backend = open_backend(models.loop(), threads=1)
    for explicit in (False, True):
        late = Deadline.after(-1, explicit=explicit)
        with pytest.raises(DeadlineExceeded, match="passed before running the model"):
            backend.infer(InferRequest(ENDLESS, None, late))


def test_the_default_deadline_does_not_stop_a_run(open_backend: OpenBackend) -> None:
    backend = open_backend(models.loop(), threads=1)
    rounds = {**SHORT, "rounds": np.array(20_000)}
    soon = Deadline.after(0.001, explicit=False)
    answer = backend.infer(InferRequest(rounds, None, soon))
    assert soon.expired
    assert answer.outputs["y"].shape == (16, 16)


def test_a_timeout_in_the_url_or_the_call_is_explicit(save: Save) -> None:
    path = save(models.loop())
    with ib.open_model(f"onnx:{path}?timeout=0.1&threads=1") as model:
        with pytest.raises(DeadlineExceeded):
            model.infer(ENDLESS)
        with pytest.raises(DeadlineExceeded):
            model.infer(ENDLESS, timeout=0.05)


def test_calls_at_once_end_at_their_own_deadlines(open_backend: OpenBackend) -> None:
    backend = open_backend(models.loop(), threads=1)
    before = set(watchdogs())

    def late(timeout: float) -> None:
        with pytest.raises(DeadlineExceeded):
            backend.infer(request(ENDLESS, timeout=timeout))

    with ThreadPoolExecutor(4) as pool:
        failing = [pool.submit(late, 0.1 * n) for n in (3, 1, 2)]
        answer = pool.submit(backend.infer, request(SHORT, timeout=math.inf))
        assert answer.result(60).outputs["y"].shape == (16, 16)
        for future in failing:
            future.result(60)
    assert len(set(watchdogs()) - before) == 1


def test_without_an_explicit_deadline_no_thread_is_started(open_backend: OpenBackend) -> None:
    before = set(watchdogs())
    open_backend(models.loop(), threads=1).infer(request(SHORT))
    assert not set(watchdogs()) - before


def test_where_the_system_has_no_thread_left_a_call_is_answered_all_the_same(
    open_backend: OpenBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    backend = open_backend(models.loop(), threads=1)
    before = set(watchdogs())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert backend.infer(request(SHORT, timeout=60)).outputs["y"].shape == (16, 16)
    with pytest.raises(DeadlineExceeded):
        backend.infer(request(ENDLESS, timeout=0.1))
    assert set(watchdogs()) - before


def test_close_ends_the_thread(open_backend: OpenBackend) -> None:
    backend = open_backend(models.loop(), threads=1)
    before = set(watchdogs())
    backend.infer(request(SHORT, timeout=60))
    (thread,) = set(watchdogs()) - before
    backend.close()
    thread.join(30)
    assert not thread.is_alive()


def test_a_model_that_is_dropped_takes_its_thread_with_it(save: Save) -> None:
    before = set(watchdogs())
    model = ib.open_model(save(models.loop()), threads=1)
    model.infer(SHORT, timeout=60)
    (thread,) = set(watchdogs()) - before
    dropped = weakref.ref(model)
    del model
    gc.collect()
    assert dropped() is None
    thread.join(30)
    assert not thread.is_alive()


def test_a_watch_that_ends_in_time_is_left_alone() -> None:
    watchdog = Watchdog()
    options = Options()
    watch = watchdog.begin(60, options)
    watchdog.end(watch)
    assert not watchdog._watches
    watchdog.close()
    assert not options.terminate
    assert not watch.fired


def test_a_watch_begun_after_close_is_stopped_at_once() -> None:
    watchdog = Watchdog()
    watchdog.close()
    options = Options()
    watch = watchdog.begin(60, options)
    assert options.terminate
    assert not watch.fired


def test_the_earliest_of_many_watches_fires_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watchdog, "_LONGEST_WAIT", 0.01)
    watchdog = Watchdog()
    late, early = Options(), Options()
    watchdog.begin(600, late)
    watchdog.begin(0.05, early)
    end = time.monotonic() + 30
    while not early.terminate and time.monotonic() < end:
        time.sleep(0.005)
    assert early.terminate
    assert not late.terminate
    watchdog.close()
    assert late.terminate
