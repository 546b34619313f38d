"""What the calls of a fake come to, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.testing import (
    Answer,
    Down,
    ExtraOutput,
    FakeModel,
    FakePair,
    Hang,
    ManualClock,
    MissingOutput,
    Slow,
    WrongDtype,
    WrongShape,
)
from tests.testing.conftest import ONES


def test_outcomes_come_in_order_and_then_all_is_as_ever(fake: FakeModel) -> None:
    fake.script(
        ib.InferenceFailed("once"),
        Answer(),
        ib.ProtocolError,
        {"y": ONES * 7},
        lambda arrays: arrays["x"] + 3,
    )
    assert fake.scripted == 5
    with ib.open_model(fake.url) as model:
        with pytest.raises(ib.InferenceFailed, match="once"):
            model(ONES)
        assert model(ONES)[0, 0] == 2
        with pytest.raises(ib.ProtocolError):
            model(ONES)
        assert [model(ONES)[0, 0] for _ in range(3)] == [7, 4, 2]
    assert fake.scripted == 0
    assert [call.answered for call in fake.calls] == [False, True, False, True, True, True]


def test_one_error_may_be_raised_by_several_calls(fake: FakeModel) -> None:
    error = ib.InferenceFailed("again")
    fake.script(error, error)
    with ib.open_model(fake.url) as model:
        caught = []
        for _ in range(2):
            with pytest.raises(ib.InferenceFailed) as found:
                model(ONES)
            caught.append(found.value)
    assert caught[0] is not caught[1]


def test_down_is_for_one_call_or_for_some_time(pair: FakePair, clock: ManualClock) -> None:
    pair.server.script(Down(), Answer(), Down(2.0), Answer())
    with ib.open_model(pair.url) as model:

        def who() -> str:
            return model.infer({"x": ONES}).backend_url

        server, local = pair.server.url, pair.local.url
        assert [who() for _ in range(4)] == [local, server, local, local]
        # While it is down, nothing is taken out of the script.
        assert pair.server.scripted == 1
        clock.advance(2.0)
        assert who() == server
        pair.server.script(Down(None))
        assert [who(), who()] == [local, local]
        pair.server.up()
        assert who() == server


def test_slow_is_for_one_call(fake: FakeModel, clock: ManualClock) -> None:
    fake.script(Slow(0.5))
    with ib.open_model(fake.url) as model:
        future = model.submit(ONES)
        fake.wait_for_calls()
        assert model(ONES) is not None
        assert not future.done()
        clock.advance(0.5)
        future.result(30)


def test_hang_is_for_one_call_until_its_deadline_or_up(fake: FakeModel) -> None:
    fake.script(Hang(), Hang())
    with ib.open_model(fake.url) as model:
        with pytest.raises(ib.DeadlineExceeded):
            model.infer({"x": ONES}, timeout=0.05)
        future = model.submit(ONES)
        fake.wait_for_calls(2)
        assert model(ONES) is not None
        assert not future.done()
        fake.up()
        future.result(30)


def test_answers_may_be_wrong(fake: FakeModel) -> None:
    fake.script(
        MissingOutput(),
        WrongDtype(),
        WrongDtype(ib.DataType.FP64, "y"),
        WrongShape((4, 4)),
        WrongShape(),
        ExtraOutput(),
    )
    with ib.open_model(fake.url) as model:
        with pytest.raises(ib.ProtocolError, match="no output 'y'"):
            model(ONES)
        with pytest.raises(ib.ProtocolError, match="int64"):
            model(ONES)
        with pytest.raises(ib.ProtocolError, match="float64"):
            model(ONES)
        assert model(ONES).shape == (4, 4)
        assert model(ONES).shape == (2, 3, 1)
        assert list(model.infer({"x": ONES})) == ["y"]


def test_an_answer_that_breaks_the_protocol_is_made_good_by_the_next_member(
    pair: FakePair,
) -> None:
    pair.server.script(ib.ProtocolError("half an answer"))
    with ib.open_model(pair.url) as model:
        result = model.infer({"x": ONES})
    assert result.backend_url == pair.local.url
    assert [str(attempt.error) for attempt in result.attempts] == ["half an answer"]


@pytest.mark.parametrize(
    ("outcome", "match"),
    [
        (42, "int is no outcome"),
        ("down", "str is no outcome"),
        (Down, r"write Down\(\)"),
        (ValueError("x"), "ValueError is no outcome"),
        (Slow(-1.0), "a number of seconds"),
        (WrongShape(output="z"), r"has no output 'z'; it has \['y'\]"),
    ],
)
def test_what_is_no_outcome_is_refused_where_it_is_written(
    fake: FakeModel, outcome: Any, match: str
) -> None:
    with pytest.raises(ib.InvalidInput, match=match):
        fake.script(Answer(), outcome)
    assert fake.scripted == 0


def test_an_output_that_was_not_asked_for_is_not_spoilt(clock: ManualClock) -> None:
    x = ib.TensorSpec("x", ib.DataType.INT64, (2,))
    specs = [ib.TensorSpec(name, ib.DataType.INT64, (2,)) for name in "ab"]
    with FakeModel("two", [x], specs, clock=clock) as fake, ib.open_model(fake.url) as model:
        fake.script(MissingOutput("a"), WrongDtype())
        assert list(model.infer({"x": [1, 2]}, outputs=["b"])) == ["b"]
        with pytest.raises(ib.ProtocolError, match="float32"):
            model(np.array([1, 2]))
