"""Fakes in event loops; fakes that stream, and fakes that keep sequences."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.testing import Down, FakeModel, FakePair, ManualClock, probe_now
from tests.testing.conftest import ONES, X, Y


def count(arrays: Mapping[str, Any]) -> Iterator[Any]:
    for index in range(len(arrays["x"])):
        yield arrays["x"][index : index + 1]


def test_event_loops_await_fakes(pair: FakePair) -> None:
    async def work() -> None:
        async with await ib.open_async_model(pair.url) as model:
            np.testing.assert_array_equal(await model(ONES), ONES * 2)
            with pair.server.down():
                for _ in range(6):
                    result = await model.infer({"x": ONES})
                    assert result.backend_url == pair.local.url
            probe_now(model)
            assert (await model.infer({"x": ONES})).backend_url == pair.server.url

    asyncio.run(work())


def test_a_task_that_is_cancelled_does_not_wait_for_what_hangs(fake: FakeModel) -> None:
    async def work() -> None:
        async with await ib.open_async_model(fake.url) as model:
            fake.hang()
            task = asyncio.create_task(model(ONES))
            await asyncio.to_thread(fake.wait_for_calls)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            fake.up()

    asyncio.run(work())


def test_a_decoupled_fake_streams_what_its_function_yields(clock: ManualClock) -> None:
    with FakeModel("count", [X], [Y], compute=count, decoupled=True, clock=clock) as fake:
        with ib.open_model(fake.url) as model:
            assert [part["y"].shape for part in model.stream({"x": ONES})] == [(1, 3)] * 2
            (call,) = fake.calls
            assert call.answered
            # One that is left early was not answered in full.
            next(model.stream({"x": ONES}))
            fake.wait_for_calls(2)
            assert not fake.calls[1].answered


def test_a_stream_may_break_in_the_middle(clock: ManualClock) -> None:
    with FakeModel("count", [X], [Y], compute=count, decoupled=True, clock=clock) as fake:
        with ib.open_model(fake.url) as model:
            stream = model.stream({"x": ONES})
            next(stream)
            fake.down()
            with pytest.raises(ib.Unavailable):
                next(stream)
            fake.up()
            fake.script(Down())
            with pytest.raises(ib.Unavailable):
                list(model.stream({"x": ONES}))


def test_a_decoupled_fake_without_a_function_sends_one_response() -> None:
    with FakeModel("one", [X], [Y], decoupled=True) as fake, ib.open_model(fake.url) as model:
        assert len(list(model.stream({"x": ONES}))) == 1


def test_a_function_that_streams_nothing_iterable_or_raises_is_at_fault() -> None:
    def broken(arrays: Any) -> Iterator[Any]:
        yield ONES
        raise KeyError("x")

    for compute, match in ((lambda _: 7, "raised TypeError"), (broken, "raised KeyError")):
        with FakeModel("bad", [X], [Y], compute=compute, decoupled=True) as fake:
            with ib.open_model(fake.url) as model:
                with pytest.raises(ib.InferenceFailed, match=match):
                    list(model.stream({"x": ONES}))


def test_a_stateful_fake_keeps_what_its_function_puts_down() -> None:
    def total(arrays: Mapping[str, Any], state: dict[str, Any]) -> Any:
        state["sum"] = state.get("sum", 0) + arrays["x"]
        return state["sum"]

    with FakeModel("sum", [X], [Y], compute=total, stateful=True) as fake:
        with ib.open_model(fake.url) as model:
            with model.sequence() as one, model.sequence() as two:
                one(ONES)
                two(ONES)
                assert one(ONES, last=True)[0, 0] == 2
                assert two(ONES)[0, 0] == 2
            steps = [call.options.sequence for call in fake.calls if call.options is not None]
            assert [(step.start, step.end) for step in steps if step is not None] == [
                (True, False),
                (True, False),
                (False, True),
                (False, False),
            ]
            with pytest.raises(ib.InvalidInput, match=r"call it by model.sequence\(\)"):
                model(ONES)


def test_a_fake_that_keeps_no_sequences_says_so(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model, pytest.raises(ib.UnsupportedOperation, match="sequence"):
        model.sequence()
