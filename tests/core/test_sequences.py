"""Sequences of requests stay where they began, and nothing of them is sent twice."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidInput,
    Model,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends._async_model import AsyncModel
from infer_backends._batching import Splitting
from infer_backends._member_state import MemberState
from infer_backends._resilience._policy import Policy
from infer_backends._resilience._single import Single
from infer_backends.plugin import InferRequest, InferResponse, SequenceStep
from tests.core.fakes import FakeBackend, metadata
from tests.core.resilience.members import NEVER, OPEN, Switch, opened, opening
from tests.core.running import in_loop
from tests.core.test_streams import Counting

X = np.ones((1, 3), np.float32)


class Adding(FakeBackend):
    """Adds up what the steps of each sequence bring."""

    request_options = frozenset({"sequence"})

    def __init__(self, url: str = "fake://h/m", max_batch_size: int = 0) -> None:
        super().__init__(metadata=metadata(max_batch_size=max_batch_size), url=url)
        self.sums: dict[int, Any] = {}
        self.errors: list[BaseException] = []

    def infer(self, request: InferRequest) -> InferResponse:
        self.requests.append(request)
        if self.errors:
            raise self.errors.pop(0)
        step = self.step
        if step.start:
            self.sums[step.id] = 0
        self.sums[step.id] = self.sums[step.id] + request.inputs["x"]
        total = self.sums.pop(step.id) if step.end else self.sums[step.id]
        return InferResponse({"y": total.copy()}, backend_url=self.url)

    @property
    def step(self) -> SequenceStep:
        options = self.requests[-1].options
        assert options is not None
        assert options.sequence is not None
        return options.sequence


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def marks(backend: Adding) -> list[tuple[bool, bool]]:
    steps = [request.options.sequence for request in backend.requests if request.options]
    return [(step.start, step.end) for step in steps if step]


def pair() -> tuple[Adding, Adding, Model]:
    first, second = Adding("fake://a/m"), Adding("fake://b/m")
    model = Model(opened(Switch("fake://a/m", first), Switch("fake://b/m", second)))
    return first, second, model


def test_steps_say_where_they_are_and_return_what_a_call_does() -> None:
    backend = Adding()
    with Model(backend).sequence() as step:
        assert step(X).tolist() == [[1, 1, 1]]
        assert step(x=X).tolist() == [[2, 2, 2]]
        assert step.infer({"x": X}, last=True)["y"].tolist() == [[3, 3, 3]]
    assert marks(backend) == [(True, False), (False, False), (False, True)]
    assert {request.options.sequence.id for request in backend.requests} == {step.id}  # type: ignore[union-attr]
    assert backend.sums == {}


def test_a_sequence_of_one_step_starts_and_ends_with_it() -> None:
    backend = Adding()
    with Model(backend).sequence() as step:
        step(X, last=True)
    assert marks(backend) == [(True, True)]


def test_a_step_after_the_last_is_refused() -> None:
    backend = Adding()
    with Model(backend).sequence() as step:
        step(X, last=True)
        with pytest.raises(InvalidInput, match=r"ended: begin another one by model\.sequence\(\)"):
            step(X)
    with Model(backend).sequence() as other:
        other(X)
    with pytest.raises(InvalidInput, match="ended"):
        other(X)
    assert len(backend.requests) == 2


def test_ids_are_different_in_every_sequence_and_process() -> None:
    model = Model(Adding())
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, b" ".join(b"%d" % model.sequence().id for _ in range(100)))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = {int(part) for part in os.read(reading, 1 << 16).split()}
    os.close(reading)
    os.close(writing)
    ours = {model.sequence().id for _ in range(100)}
    assert len(ours | theirs) == 200
    assert all(0 < number < 2**63 for number in ours)


def test_wrong_inputs_are_no_step() -> None:
    backend = Adding()
    with Model(backend).sequence() as step:
        with pytest.raises(InvalidInput):
            step(np.ones((1, 7)))
        step(X)
    assert marks(backend) == [(True, False)]


def test_a_model_without_sequences_says_so() -> None:
    with pytest.raises(UnsupportedOperation, match="no sequence"):
        Model(FakeBackend()).sequence()


def test_no_step_is_sent_again() -> None:
    backend = Adding()
    model = Model(Single(backend, backend.url, Policy(idempotent=True)))
    with model.sequence() as step:
        step(X)
        for error in (Unavailable("reset"), Unavailable("refused", unprocessed=True)):
            backend.errors = [error]
            with pytest.raises(Unavailable):
                step(X)
    assert len(backend.requests) == 3


def test_the_first_step_goes_to_the_next_member_if_no_work_was_done() -> None:
    first, second, model = pair()
    first.errors = [Unavailable("refused", unprocessed=True)]
    with model.sequence() as step:
        assert step.infer({"x": X}).backend_url == "fake://b/m"
        assert step.infer({"x": X}).backend_url == "fake://b/m"
    assert len(first.requests) == 1
    assert marks(second) == [(True, False), (False, False)]


def test_the_first_step_goes_nowhere_else_if_work_may_have_been_done() -> None:
    first, second, model = pair()
    first.errors = [Unavailable("reset")]
    with model.sequence() as step, pytest.raises(Unavailable, match="reset"):
        step(X)
    assert second.requests == []


def test_a_later_step_never_goes_elsewhere() -> None:
    first, second, model = pair()
    with model.sequence() as step:
        step(X)
        first.errors = [Unavailable("refused", unprocessed=True)]
        with pytest.raises(Unavailable, match="refused"):
            step(X)
        assert step(X).tolist() == [[2, 2, 2]]
    assert second.requests == []


def test_a_sequence_whose_member_is_down_says_to_begin_another_one() -> None:
    first, second = Adding("fake://a/m"), Adding("fake://b/m")
    found = opening(
        Switch("fake://a/m", first),
        Switch("fake://b/m", second),
        policy=Policy(probe_period=NEVER),
    )
    model = Model(found.fallback)
    with model.sequence() as step:
        step(X)
        found.take_down(0)
        assert found.endpoints[0].breaker.state is MemberState.DOWN
        with pytest.raises(Unavailable, match=r"fake://a/m.* is down: begin a new sequence"):
            step(X)
    with model.sequence() as step:
        assert step.infer({"x": X}).backend_url == "fake://b/m"


def test_a_member_that_keeps_no_sequences_is_passed_over() -> None:
    second = Adding("fake://b/m")
    plain = Switch("fake://a/m", FakeBackend(url="fake://a/m"))
    model = Model(opened(plain, Switch("fake://b/m", second)))
    with model.sequence() as step:
        assert step.infer({"x": X}).backend_url == "fake://b/m"
    assert plain.backend.requests == []


def test_an_error_of_the_model_leaves_the_sequence_where_it_is() -> None:
    backend = Adding()
    with Model(backend).sequence() as step:
        step(X)
        backend.errors = [InferenceFailed("bad value")]
        with pytest.raises(InferenceFailed):
            step(X)
        assert step(X, last=True).tolist() == [[2, 2, 2]]


def test_a_step_is_never_split() -> None:
    backend = Adding(max_batch_size=2)
    with Model(Splitting(backend, backend.url)).sequence() as step:
        with pytest.raises(InvalidInput, match="a step of a sequence has one request"):
            step(np.ones((3, 3)))
    assert backend.requests == []


def test_steps_of_several_threads_are_made_one_after_the_other() -> None:
    backend = Adding()
    with Model(backend).sequence() as step:
        threads = [threading.Thread(target=step, args=(X,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert step(X, last=True).tolist() == [[21, 21, 21]]
    assert [start for start, _ in marks(backend)] == [True, *[False] * 20]


def test_sequences_in_event_loops_are_the_same() -> None:
    import asyncio

    backend = Adding()

    async def work() -> list[Any]:
        async with AsyncModel(backend) as model:
            async with model.sequence() as step:
                await asyncio.gather(*(step(X) for _ in range(5)))
                last = await step.infer({"x": X}, last=True)
                with pytest.raises(InvalidInput, match="ended"):
                    await step(X)
                first: list[Any] = last["y"].tolist()
                return first

    assert in_loop(work()) == [[6, 6, 6]]
    assert marks(backend) == [(True, False), *[(False, False)] * 4, (False, True)]


def test_a_step_that_was_not_sent_does_not_begin_the_sequence() -> None:
    backend = Adding(max_batch_size=2)
    with Model(Splitting(backend, backend.url)).sequence() as step:
        with pytest.raises(InvalidInput):
            step(np.ones((3, 3)))
        with pytest.raises(DeadlineExceeded):
            step.infer({"x": X}, timeout=1e-9)
        backend.errors = [UnsupportedOperation("not with these headers")]
        with pytest.raises(UnsupportedOperation):
            step(X)
        del backend.requests[:]
        assert step(X).tolist() == [[1, 1, 1]]
    assert marks(backend) == [(True, False)]


def test_waiting_for_a_turn_ends_at_the_deadline() -> None:
    backend = Adding()
    go_on, inside = threading.Event(), threading.Event()
    infer = backend.infer

    def slow(request: InferRequest) -> InferResponse:
        inside.set()
        go_on.wait(10)
        return infer(request)

    backend.infer = slow  # type: ignore[method-assign]
    with Model(backend).sequence() as step:
        first = threading.Thread(target=step, args=(X,))
        first.start()
        assert inside.wait(10)
        with pytest.raises(DeadlineExceeded, match="step before is still under way"):
            step.infer({"x": X}, timeout=0.05)
        go_on.set()
        first.join()
        assert step(X, last=True).tolist() == [[2, 2, 2]]


def test_sequences_in_event_loops_wait_for_their_turn_until_the_deadline() -> None:
    import asyncio

    class Slow(Adding):
        async def infer_async(self, request: InferRequest) -> InferResponse:
            await asyncio.sleep(0.3)
            return self.infer(request)

        async def close_async(self) -> None:
            self.close()

    backend = Slow()

    async def work() -> Any:
        async with AsyncModel(backend) as model, model.sequence() as step:
            first = asyncio.ensure_future(step(X))
            await asyncio.sleep(0)
            with pytest.raises(DeadlineExceeded, match="turn"):
                await step.infer({"x": X}, timeout=0.05)
            await first
            return step

    step = in_loop(work())

    async def elsewhere() -> None:
        with pytest.raises(UnsupportedOperation, match="another event loop"):
            await step(X)

    in_loop(elsewhere())
    assert marks(backend) == [(True, False)]


def test_a_child_forked_during_a_step_is_not_held_up_by_it() -> None:
    backend = Adding()
    step = Model(backend).sequence()
    step._turn.here().acquire()
    if (child := os.fork()) == 0:
        try:
            step.infer({"x": X}, timeout=5)
        except BaseException:  # noqa: BLE001 - the child must end
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0


def test_sequences_go_on_while_their_member_recovers() -> None:
    first, second = Adding("fake://a/m"), Adding("fake://b/m")
    found = opening(
        Switch("fake://a/m", first),
        Switch("fake://b/m", second),
        policy=Policy(probe_period=NEVER),
    )
    model = Model(found.fallback)
    one, two = model.sequence(), model.sequence()
    one(X)
    two(X)
    breaker = found.endpoints[0].breaker
    found.take_down(0)
    breaker.recover("a probe was answered")
    permit = breaker.admit()
    assert permit is not None
    assert permit.trial
    assert one(X).tolist() == two(X).tolist() == [[2, 2, 2]]
    assert second.requests == []


def test_a_sequence_that_another_member_took_is_a_fallback() -> None:
    first, _, model = pair()
    first.errors = [Unavailable("refused", unprocessed=True)]
    model.sequence()(X)
    assert model.status().fallbacks == 1


def test_a_decoupled_model_has_no_sequences_and_last_is_true_or_false() -> None:
    with pytest.raises(UnsupportedOperation, match=r"model\.stream"):
        Model(Counting()).sequence()
    step: Any = Model(Adding()).sequence()
    with pytest.raises(InvalidInput, match="last= is True or False, not str"):
        step(X, last="yes")
