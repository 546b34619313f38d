"""A fake that is down, slow, or hangs: by a clock that the test moves."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.testing import FakeModel, ManualClock
from tests.testing.conftest import ONES, X, Y


def test_down_for_two_seconds_is_down_for_two_seconds(fake: FakeModel, clock: ManualClock) -> None:
    with ib.open_model(fake.url) as model:
        fake.down(2.0)
        assert fake.state == "down"
        with pytest.raises(ib.Unavailable, match="'double' is down"):
            model(ONES)
        with pytest.raises(ib.Unavailable):
            ib.open_model(fake.url)
        clock.advance(1.5)
        with pytest.raises(ib.Unavailable):
            model(ONES)
        clock.advance(0.5)
        assert fake.state == "up"
        np.testing.assert_array_equal(model(ONES), ONES * 2)


def test_down_lasts_until_up_or_for_a_with_block(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model:
        with fake.down() as same:
            assert same is fake
            with pytest.raises(ib.Unavailable):
                model(ONES)
        assert model(ONES) is not None
        fake.down()
        fake.up()
        assert model(ONES) is not None


def test_a_call_that_finds_it_down_did_no_work_and_one_that_was_begun_may_have(
    fake: FakeModel,
) -> None:
    with ib.open_model(fake.url) as model:
        with fake.down(), pytest.raises(ib.Unavailable) as found:
            model(ONES)
        assert found.value.unprocessed
        # One URL: what did no work is sent again, as ever.
        assert model.status().retries == len(fake.calls) - 1
        fake.forget_calls()
        fake.hang()
        future = model.submit(ONES)
        fake.wait_for_calls()
        fake.down()
        with pytest.raises(ib.Unavailable) as found:
            future.result(30)
        assert not found.value.unprocessed


def test_down_may_have_an_error_of_its_own(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model:
        with fake.down(error=ib.ModelNotFound("unloaded")):
            with pytest.raises(ib.ModelNotFound, match="unloaded"):
                model(ONES)
        with fake.down(error=ib.TLSError), pytest.raises(ib.TLSError, match="told to raise"):
            model(ONES)


def test_a_slow_answer_is_there_when_its_time_has_come(fake: FakeModel, clock: ManualClock) -> None:
    with ib.open_model(fake.url) as model:
        fake.slow(0.5)
        assert fake.state == "slow"
        future = model.submit(ONES)
        fake.wait_for_calls()
        clock.advance(0.4)
        assert not future.done()
        clock.advance(0.1)
        np.testing.assert_array_equal(future.result(30), ONES * 2)


def test_a_slow_answer_ends_at_the_deadline(fake: FakeModel) -> None:
    with ib.open_model(fake.url, timeout=0.05) as model, fake.slow(3600.0):
        with pytest.raises(ib.DeadlineExceeded):
            model(ONES)
    (call,) = fake.calls
    assert isinstance(call.error, ib.DeadlineExceeded)


def test_what_hangs_is_answered_when_it_is_up(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model:
        with fake.hang():
            assert fake.state == "hanging"
            future = model.submit(ONES)
            fake.wait_for_calls()
        np.testing.assert_array_equal(future.result(30), ONES * 2)


def test_opening_waits_for_what_hangs_until_the_deadline(fake: FakeModel) -> None:
    with fake.hang(), pytest.raises(ib.DeadlineExceeded):
        ib.open_model(fake.url, timeout=0.05)


@pytest.mark.parametrize("clock", [time.monotonic, time.perf_counter])
def test_any_clock_that_only_grows_will_do(clock: Any) -> None:
    with FakeModel("ticking", [X], [Y], clock=clock) as fake:
        with ib.open_model(fake.url) as model, fake.slow(0.02):
            started = time.monotonic()
            model(ONES)
            assert time.monotonic() - started >= 0.02


@pytest.mark.parametrize("seconds", [-1, float("nan"), "2", True])
def test_what_is_no_time_is_refused(fake: FakeModel, seconds: Any) -> None:
    with pytest.raises(ib.InvalidInput, match="a number of seconds"):
        fake.down(seconds)
    with pytest.raises(ib.InvalidInput, match="a number of seconds"):
        fake.slow(seconds)
    assert fake.state == "up"


def test_openings_fail_as_scripted_and_then_succeed(fake: FakeModel) -> None:
    fake.script_openings(ib.PermissionDenied("no"), ib.Unavailable)
    with pytest.raises(ib.PermissionDenied, match="no"):
        ib.open_model(fake.url)
    with pytest.raises(ib.Unavailable, match="told to raise Unavailable"):
        ib.open_model(fake.url)
    ib.open_model(fake.url).close()
    with pytest.raises(ib.InvalidInput, match="not by ValueError"):
        fake.script_openings(ValueError("x"))  # type: ignore[arg-type]
