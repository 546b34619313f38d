"""A time-out says little of a member that was given less time than it usually takes."""

from __future__ import annotations

from infer_backends import DeadlineExceeded
from infer_backends._resilience._policy import Policy
from infer_backends.plugin import Array, InferRequest
from tests.core.fakes import ManualClock, double, request
from tests.core.resilience.members import NEVER, opening, pair


class Paced:
    """A pair whose first member takes so many seconds, or gives up after them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.first, second = pair()
        self.both = opening(self.first, second, policy=Policy(clock=self.clock, probe_period=NEVER))
        for endpoint in self.both.endpoints:
            endpoint._prober.stop()

    def call(self, seconds: float, *, late: bool = False) -> str:
        """Make a call; who answered."""

        def answer(request: InferRequest) -> dict[str, Array]:
            self.clock.advance(seconds)
            if late:
                raise DeadlineExceeded("no answer")
            return double(request)

        self.first.backend.answer = answer
        return self.both.fallback.infer(request()).backend_url

    @property
    def state(self) -> str:
        return self.both.states()[0]


def test_a_time_out_sooner_than_it_usually_answers_does_not_make_it_suspect() -> None:
    paced = Paced()
    paced.call(0.1)
    for _ in range(50):
        assert paced.call(0.05, late=True) == "fake://second/m"
        assert paced.call(0.1) == "fake://first/m"
        # Or half of the calls within ten seconds would have failed.
        assert paced.call(0.1) == "fake://first/m"
    assert paced.state == "ready"


def test_five_of_them_in_a_row_are_as_many_as_any_failures() -> None:
    paced = Paced()
    paced.call(0.1)
    for _ in range(4):
        paced.call(0.05, late=True)
    assert paced.state == "ready"
    paced.call(0.05, late=True)
    assert paced.state == "down"


def test_a_time_out_later_than_it_usually_answers_makes_it_suspect_at_once() -> None:
    paced = Paced()
    paced.call(0.01)
    paced.call(0.05, late=True)
    assert paced.state == "suspect"


def test_so_does_one_that_kept_its_caller_waiting_however_long_it_usually_takes() -> None:
    paced = Paced()
    paced.call(3.0)
    paced.call(0.25, late=True)
    assert paced.state == "suspect"


def test_so_does_one_of_a_member_that_never_answered() -> None:
    paced = Paced()
    paced.call(0.05, late=True)
    assert paced.state == "suspect"
