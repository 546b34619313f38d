"""Deadlines, and the end of a model: a part of the suite."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from infer_backends._errors import DeadlineExceeded, ModelClosed
from infer_backends._model import Model
from infer_backends._open import open_model
from infer_backends.testing._rules import keeps
from infer_backends.testing._subject import Subject, URLs
from infer_backends.testing._waist import PATIENCE, opened, request_of

#: How long a call of the model ``slow`` is to take, in seconds, and the deadline in its middle.
_LONG, _SHORT = 3.0, 0.3
#: The longest that the system may take to take note of what has ended, in seconds.
_SETTLED = 10.0
_CYCLES = 5


class DeadlineContract(Subject):
    """What a deadline means."""

    @keeps("deadline-passed")
    def test_a_deadline_that_has_passed_ends_the_call(
        self, main_model: Model, reference_url: URLs
    ) -> None:
        with pytest.raises(DeadlineExceeded):
            main_model.infer(self.inputs(), timeout=1e-9)
        with opened(reference_url(self.main.name)) as backend, pytest.raises(DeadlineExceeded):
            backend.infer(request_of(self.inputs(), timeout=-1))

    @keeps("deadline-interrupts")
    def test_a_deadline_ends_a_call_in_the_middle(self, reference_url: URLs) -> None:
        if not self.offers("slow"):
            return
        with open_model(reference_url("slow")) as model:
            rounds = rounds_of(model, _LONG)
            started = time.monotonic()
            try:
                model.infer({"rounds": [rounds]}, timeout=_SHORT)
                outcome = "an answer"
            except DeadlineExceeded:
                outcome = "DeadlineExceeded"
            in_time = time.monotonic() - started < _LONG / 2
        if self.interrupts:
            assert outcome == "DeadlineExceeded"
            assert in_time, "the call went on for long after its deadline"
        else:
            assert not (outcome == "DeadlineExceeded" and in_time), (
                "a call ends at its deadline: take `interrupts = False` out of the tests"
            )

    @keeps("deadline-after")
    def test_the_next_call_is_answered(self, reference_url: URLs) -> None:
        if not self.offers("slow"):
            self._next_call(reference_url)
            return
        with open_model(reference_url("slow")) as model:
            rounds = rounds_of(model, 4 * _SHORT)
            for _ in range(2):
                with contextlib.suppress(DeadlineExceeded):
                    model.infer({"rounds": [rounds]}, timeout=_SHORT)
                (total,) = model.infer({"rounds": [3]}, timeout=PATIENCE)["total"]
                np.testing.assert_allclose(total, 1, rtol=1e-3)

    def _next_call(self, reference_url: URLs) -> None:
        with open_model(reference_url(self.main.name)) as model:
            with pytest.raises(DeadlineExceeded):
                model.infer(self.inputs(), timeout=1e-9)
            self.still_answers(model)


class ClosingContract(Subject):
    """What is left of a model that is closed."""

    @keeps("close-again")
    def test_a_closed_model_stays_closed(self, reference_url: URLs) -> None:
        model = open_model(reference_url(self.main.name))
        self.still_answers(model)
        model.close()
        model.close()
        with pytest.raises(ModelClosed):
            model.infer(self.inputs())
        with opened(reference_url(self.main.name)) as backend:
            backend.close()
            backend.close()

    @keeps("close-ends")
    def test_calls_in_flight_end_when_the_model_is_closed(self, reference_url: URLs) -> None:
        name = "slow" if self.offers("slow") else self.main.name
        model = open_model(reference_url(name))
        inputs = {"rounds": np.array([rounds_of(model, 1.0)])} if name == "slow" else self.inputs()
        begun = threading.Barrier(4)

        def call() -> str:
            begun.wait(PATIENCE)
            try:
                while True:
                    model.infer(inputs)
            except ModelClosed:
                return "ModelClosed"
            except Exception as exc:  # noqa: BLE001 - shown by the assert
                return f"{type(exc).__name__}: {exc}"

        with ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(call) for _ in range(3)]
            begun.wait(PATIENCE)
            time.sleep(0.1)  # until the calls are in the middle of the model
            model.close(timeout=0)
            assert [call.result(PATIENCE) for call in calls] == ["ModelClosed"] * 3

    @keeps("close-releases")
    def test_no_thread_and_no_file_is_left_open(self, reference_url: URLs) -> None:
        url = reference_url(self.main.name)

        def use() -> None:
            with open_model(url) as model:
                self.still_answers(model)

        # What is made once, for all models, is there after the first two.
        use()
        use()
        before = _held()
        for _ in range(_CYCLES):
            use()
        assert _settled(lambda: _exceeding(before)) == {}


def rounds_of(model: Model, seconds: float) -> int:
    """How many rounds of the model ``slow`` take so long, about."""
    rounds, took = 8, 0.0
    while took < 0.1:
        rounds *= 2
        # The first may wait for what is made once, and any for other programs.
        took = min(_took(model, rounds) for _ in range(3))
    return int(rounds * seconds / took) + 1


def _took(model: Model, rounds: int) -> float:
    started = time.monotonic()
    model.infer({"rounds": [rounds]})
    return time.monotonic() - started


def _held() -> dict[str, int]:
    """What this process holds, of what can be counted here."""
    held = {"threads of Python": threading.active_count()}
    for what, folder in (("threads", "/proc/self/task"), ("file descriptors", "/proc/self/fd")):
        if Path(folder).is_dir():
            held[what] = len(list(Path(folder).iterdir()))
    return held


def _exceeding(before: dict[str, int]) -> dict[str, int]:
    """What there is more of than before, if it is more than what others may have opened."""
    return {
        what: count - before[what]
        for what, count in _held().items()
        if count - before[what] >= _CYCLES
    }


def _settled(left: Callable[[], dict[str, int]]) -> dict[str, int]:
    """What is left when the system has taken note of all that has ended."""
    end = time.monotonic() + _SETTLED
    while (found := left()) and time.monotonic() < end:
        time.sleep(0.02)
    return found
