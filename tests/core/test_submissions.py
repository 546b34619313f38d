"""Calls that go on while their callers do."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import Future, as_completed, wait
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    DataType,
    DeadlineExceeded,
    InferenceFailed,
    InvalidInput,
    Model,
    ModelClosed,
    PluginError,
    ProtocolError,
    TensorSpec,
    UnsupportedOperation,
)
from infer_backends._submissions import MOST, WORKERS
from infer_backends.plugin import Array, InferRequest, InferResponse, ModelMetadata
from tests.core.fakes import FakeBackend, double, metadata

X = np.ones((2, 3), np.float32)


class Held(FakeBackend):
    """Answers when it is let go; counts who is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.full = threading.Event()
        self.most = 0
        self._at_work = 0
        self._count = threading.Lock()

    def infer(self, request: InferRequest) -> InferResponse:
        with self._count:
            self._at_work += 1
            self.most = max(self.most, self._at_work)
            if self._at_work == WORKERS:
                self.full.set()
        assert self.go.wait(60)
        with self._count:
            self._at_work -= 1
        if self.closed:
            raise InferenceFailed("the connection was cut")
        return super().infer(request)

    def close(self) -> None:
        super().close()
        self.go.set()


def test_a_future_has_what_the_call_returns() -> None:
    model = Model(FakeBackend())
    np.testing.assert_array_equal(model.submit(X).result(30), X * 2)
    np.testing.assert_array_equal(model.submit(x=X).result(30), X * 2)
    np.testing.assert_array_equal(model.submit({"x": X}).result(30), X * 2)


def test_several_outputs_are_a_tuple() -> None:
    two = metadata(outputs=[TensorSpec(name, DataType.FP32, (-1, 3)) for name in "ba"])
    backend = FakeBackend(lambda r: {"a": r.inputs["x"], "b": r.inputs["x"] * 2}, metadata=two)
    b, a = Model(backend).submit(X).result(30)
    np.testing.assert_array_equal(a * 2, b)


def test_what_does_not_fit_is_refused_at_once() -> None:
    backend = FakeBackend()
    with pytest.raises(InvalidInput):
        Model(backend).submit(X, X)
    with pytest.raises(UnsupportedOperation, match="decoupled"):
        Model(FakeBackend(metadata=ModelMetadata("m", (), "", (), (), decoupled=True))).submit()
    assert backend.requests == []


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(InferenceFailed("it broke"), InferenceFailed), (KeyError("hunter2"), PluginError)],
)
def test_a_future_raises_what_the_call_raises(raised: Exception, expected: type[Exception]) -> None:
    backend = FakeBackend()
    backend.error = raised
    future = Model(backend).submit(X)
    assert type(future.exception(30)) is expected
    with pytest.raises(ProtocolError, match="no output 'y'"):
        Model(FakeBackend(lambda _: {})).submit(X).result(30)


def test_so_many_are_at_work_and_so_many_more_may_wait() -> None:
    backend = Held()
    model = Model(backend)
    futures = [model.submit(X) for _ in range(MOST)]
    assert backend.full.wait(30)
    one_more: list[Future[Any]] = []
    waiter = threading.Thread(target=lambda: one_more.append(model.submit(X)))
    waiter.start()
    waiter.join(0.1)
    assert waiter.is_alive()
    backend.go.set()
    waiter.join(30)
    done = wait([*futures, *one_more], timeout=60).done
    assert len(done) == MOST + 1
    assert backend.most == WORKERS


def test_without_room_submitting_ends_at_the_deadline_of_the_call() -> None:
    backend = Held()
    model = Model(backend, timeout=0.5)
    futures = [model.submit(X) for _ in range(MOST)]
    with pytest.raises(DeadlineExceeded, match=f"while {MOST} calls were submitted") as caught:
        model.submit(X)
    assert caught.value.unprocessed
    backend.go.set()
    # The time of a call begins when it is submitted: those that waited are not sent.
    assert len(wait(futures, timeout=60).done) == MOST
    late = [future.exception(30) for future in futures[WORKERS:]]
    assert {type(error) for error in late} == {DeadlineExceeded}
    assert "before the call began" in str(late[0])
    assert len(backend.requests) == WORKERS


def test_one_that_has_not_begun_can_be_cancelled_and_makes_room() -> None:
    backend = Held()
    model = Model(backend)
    futures = [model.submit(X) for _ in range(MOST)]
    assert backend.full.wait(30)
    assert futures[-1].cancel()
    assert not futures[0].cancel()
    futures.append(model.submit(X))
    backend.go.set()
    assert len(wait(futures, timeout=60).done) == MOST + 1
    assert len(backend.requests) == MOST


def test_closing_lets_calls_in_flight_end_and_begins_no_more() -> None:
    backend = Held()
    model = Model(backend)
    futures = [model.submit(X) for _ in range(WORKERS + 10)]
    assert backend.full.wait(30)
    closer = threading.Thread(target=model.close)
    closer.start()
    while not model._submissions._closed:  # type: ignore[union-attr]
        closer.join(0.01)
    backend.go.set()
    closer.join(30)
    for future in futures[:WORKERS]:
        np.testing.assert_array_equal(future.result(30), X * 2)
    for future in futures[WORKERS:]:
        with pytest.raises(ModelClosed, match="before this call began"):
            future.result(30)
    with pytest.raises(ModelClosed):
        model.submit(X)


def test_closing_cancels_what_lasts_too_long() -> None:
    backend = Held()
    model = Model(backend)
    futures = [model.submit(X) for _ in range(WORKERS + 2)]
    assert backend.full.wait(30)
    model.close(timeout=0)
    assert {type(future.exception(30)) for future in futures} == {ModelClosed}


def test_a_closed_model_takes_no_submission_even_if_it_had_none() -> None:
    model = Model(FakeBackend())
    model.close()
    with pytest.raises(ModelClosed):
        model.submit(X)


def test_many_threads_submit_to_one_model() -> None:
    backend = FakeBackend()
    model = Model(backend)
    start, answers = threading.Barrier(20), []
    made: set[int] = set()

    def submit(value: int) -> None:
        x = np.full((1, 3), value, np.float32)
        start.wait(30)
        futures = [model.submit(x) for _ in range(50)]
        made.add(id(model._submissions))
        answers.extend([f.result(60)[0, 0] == 2 * value for f in as_completed(futures, 60)])

    threads = [threading.Thread(target=submit, args=(value,)) for value in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [True] * 1000
    assert len(made) == 1


def in_child(model: Model, answers: Any) -> None:
    futures = [model.submit(X) for _ in range(MOST + 1)]
    answers.put([float(future.result(30).sum()) for future in futures])
    model.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking is the point
def test_a_forked_child_has_all_the_room_for_itself() -> None:
    parent, go = os.getpid(), threading.Event()

    def answer(request: InferRequest) -> dict[str, Array]:
        if os.getpid() == parent:
            assert go.wait(60)
        return double(request)

    model = Model(FakeBackend(answer))
    futures = [model.submit(X) for _ in range(MOST)]
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=in_child, args=(model, answers))
    child.start()
    child.join(60)
    go.set()
    assert child.exitcode == 0
    assert answers.get() == [12.0] * (MOST + 1)
    assert len(wait(futures, timeout=60).done) == MOST
