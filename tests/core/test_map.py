"""What bulk work by threads leaves behind, however it ends."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from infer_backends import Model, UnsupportedOperation
from infer_backends.plugin import Array, InferRequest, InferResponse
from tests.core.fakes import FakeBackend, double

X = np.ones(3, np.float32)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "backends-map" in thread.name]


def test_leaving_the_loop_early_leaves_no_thread_and_sends_nothing_more() -> None:
    backend = FakeBackend()
    for result in Model(backend).map(itertools.repeat(X), batch_size=1, concurrency=2):
        assert result.sample_index == 0
        break
    gc.collect()
    assert threads() == []
    assert len(backend.requests) <= 4


def test_an_iterator_that_is_never_asked_has_no_threads() -> None:
    iterator = Model(FakeBackend()).map([X])
    assert threads() == []
    del iterator


def test_closing_waits_for_the_requests_in_flight() -> None:
    begun, go = threading.Event(), threading.Event()

    def answer(request: InferRequest) -> dict[str, Array]:
        if len(backend.requests) > 1:
            begun.set()
            assert go.wait(30)
        return double(request)

    backend = FakeBackend(answer)
    iterator: Any = Model(backend).map(itertools.repeat(X), batch_size=1, concurrency=2)
    next(iterator)
    assert begun.wait(30)
    closer = threading.Thread(target=iterator.close)
    closer.start()
    assert threads() != []
    go.set()
    closer.join(30)
    assert threads() == []


def test_an_interruption_ends_all_of_it() -> None:
    def samples() -> Iterator[Array]:
        yield from itertools.repeat(X, 5)
        raise KeyboardInterrupt

    iterator = Model(FakeBackend()).map(samples(), batch_size=1, concurrency=1)
    with pytest.raises(KeyboardInterrupt):
        for _ in iterator:
            pass
    assert threads() == []


def test_several_iterations_of_one_model_go_on_at_the_same_time() -> None:
    model = Model(FakeBackend())
    together = zip(model.map([X] * 50), model.map([X * 2] * 50), strict=True)
    assert [(a["y"][0], b["y"][0]) for a, b in together] == [(2, 4)] * 50


def in_child(model: Model, answers: Any, iterator: Any) -> None:
    own = [float(result["y"][0]) for result in model.map([X] * 3)]
    try:
        for _ in iterator:
            pass
    except UnsupportedOperation as exc:
        answers.put((own, str(exc)))
    iterator.close()


@forks
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking is the point
def test_a_forked_child_maps_for_itself_and_does_not_wait_for_the_parents_threads() -> None:
    go = threading.Event()
    parent = os.getpid()

    class Slow(FakeBackend):
        def infer(self, request: InferRequest) -> InferResponse:
            if os.getpid() == parent and len(self.requests) > 1:
                assert go.wait(60)
            return super().infer(request)

    model = Model(Slow())
    iterator = model.map(itertools.repeat(X), batch_size=1, concurrency=2)
    next(iterator)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=in_child, args=(model, answers, iterator))
    child.start()
    child.join(60)
    go.set()
    assert child.exitcode == 0
    own, refusal = answers.get()
    assert own == [2, 2, 2]
    assert "call model.map again in the forked child" in refusal
    assert next(iterator).sample_index == 1


def test_prints_stay_on_standard_output_while_a_bar_is_shown_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for result in Model(FakeBackend()).map([X] * 3, progress=True):
        print("result", result.sample_index, file=sys.stdout)  # noqa: T201 - as a user does
    shown = capsys.readouterr()
    assert shown.out == "result 0\nresult 1\nresult 2\n"
    assert "\x1b[" in shown.err
    assert "3/3" in shown.err
