"""One URL of a model, as it is watched over: its state, its probes, and who is told."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from copy import copy

from infer_backends._deadline import Deadline
from infer_backends._errors import InferError, MetadataMismatch, ModelClosed, PluginError
from infer_backends._events import ProbeEvent, TransitionEvent
from infer_backends._member_state import MemberState
from infer_backends._registry import serving
from infer_backends._resilience._breaker import Breaker, Transition
from infer_backends._resilience._contact import Contact
from infer_backends._resilience._latency import Latency
from infer_backends._resilience._likeness import Likeness
from infer_backends._resilience._policy import SLOWEST_PROBES, Policy
from infer_backends._resilience._prober import Prober
from infer_backends._resilience._remembered import remembered
from infer_backends._status import MemberStatus
from infer_backends._tensors import ModelMetadata

logger = logging.getLogger("infer_backends")

#: How long a probe may take, in seconds; and one that has to open the model first.
PROBE_TIMEOUT, _FIRST_PROBE_TIMEOUT = 2.0, 5.0


class Watched:
    """One URL of a model, probed in the background while it does not answer.

    Args:
        contact: The way to it.
        policy: How it is watched over.

    Attributes:
        url: The URL, secrets masked.
        breaker: Whether it is asked.
        latency: How long it takes to answer.
        contact: The way to it.
    """

    def __init__(self, contact: Contact, policy: Policy) -> None:
        self.url = contact.url
        self.contact = contact
        self.breaker = Breaker(policy.clock, policy.random)
        self.latency = Latency()
        self._policy = policy
        self._clock = policy.clock
        self._name = ""
        self._likeness: Likeness | None = None
        self._prober = Prober(self._probe, "infer-backends-probe")
        self._pace = policy.probe_period
        self._next_probe: float | None = None
        self._probes = 0
        self._last_error: InferError | None = None
        self._loaded = False
        self._closed = False
        self._telling = threading.Lock()
        _WATCHED.add(self)

    def start(self, agreed: ModelMetadata, state: MemberState, reason: str) -> None:
        """Begin to be a member of a model.

        Args:
            agreed: The metadata that its members agree on.
            state: The state to begin in.
            reason: Why, if it is not to be asked at first.
        """
        self.contact.agreed = agreed
        self._likeness = Likeness(agreed)
        self._name = agreed.name
        self._loaded = state is MemberState.READY
        transition = self.breaker.shut(state, reason)
        if state is MemberState.UNOPENED:
            self.breaker.news.clear()
        else:
            self._announce(transition)

    def failed_to_open(self, error: InferError) -> None:
        """Remember why it could not be opened."""
        self._last_error = error

    def _probe(self) -> float | None:
        """See whether it would answer now; the seconds until the next time, or None."""
        self._next_probe = None
        state = self.breaker.state
        if self._closed or state not in _PROBED:
            return self._policy.probe_period if self.contact.openings.sweep() else None
        delay = self.breaker.held(probed=self.contact.can_be_probed)
        if delay <= 0:
            self._see()
            if self.breaker.state is MemberState.EXCLUDED:
                delay = self._policy.probe_period * SLOWEST_PROBES
            else:
                delay = self._pace = self._policy.pace(self._pace)
        self._next_probe = self._policy.clock() + delay
        return 0.0 if self.breaker.state not in _PROBED else delay

    def probe_now(self) -> None:
        """Probe in this thread, if it is probed at all: for tests, which do not want to wait."""
        probed = not self._closed and self.breaker.state in _PROBED
        if probed and self.breaker.held(probed=self.contact.can_be_probed) <= 0:
            self._see()

    def _see(self) -> None:
        started = self._policy.clock()
        found: list[str] = []
        error: InferError | None = None
        opened = self.contact.openings.current is not None
        self._probes += 1
        try:
            timeout = PROBE_TIMEOUT if opened else _FIRST_PROBE_TIMEOUT
            found = self.contact.renew(Deadline.after(timeout), strict=self._policy.strict)
        except InferError as exc:
            error = remembered(exc)
        except Exception as exc:  # noqa: BLE001 - nobody is there to catch it
            error = PluginError(
                f"{serving(self.url)} raised {type(exc).__name__} when it was probed"
            )
            error.__cause__ = exc
            remembered(error)
        self._tell_of_probe(started, error)
        if isinstance(error, ModelClosed):
            return
        if error is not None:
            if self.breaker.state is not MemberState.EXCLUDED:
                self._last_error = error
        elif found and self._policy.strict:
            self._exclude(found)
        else:
            self._announce(self.breaker.recover("it is ready; a few calls will show"))

    def _tell_of_probe(self, started: float, error: InferError | None) -> None:
        duration = self._policy.clock() - started
        logger.debug("%s was probed: %s", self.url, "ready" if error is None else error)
        if self._policy.observers:
            self._policy.observers.notify(
                ProbeEvent(
                    model=self._name,
                    time=time.time(),
                    url=self.url,
                    ready=error is None,
                    duration=duration,
                    error=error,
                )
            )

    def _announce(self, transition: Transition | None) -> None:
        """Say that the state has changed, and probe if that is what it needs now.

        In the order in which it changed: where several threads are at it, one tells all.
        """
        news, telling = self.breaker.news, self._telling
        while transition is not None and news and telling.acquire(blocking=False):
            try:
                while news:
                    self._tell(news.popleft())
            finally:
                telling.release()

    def _tell(self, transition: Transition) -> None:
        needed = transition.before is MemberState.UNOPENED and transition.after is MemberState.READY
        level = logging.INFO if needed else logging.WARNING
        logger.log(level, "%s is %s: %s", self.url, transition.after, transition.reason)
        if self._policy.observers:
            self._policy.observers.notify(
                TransitionEvent(
                    model=self._name,
                    time=time.time(),
                    url=self.url,
                    before=transition.before,
                    after=transition.after,
                    reason=transition.reason,
                )
            )
        if transition.after in _PROBED:
            self._pace = self._policy.probe_period
            self._watch()

    def _watch(self) -> None:
        """Have it probed, if its state asks for that."""
        state = self.breaker.state
        if state not in _PROBED or self._closed:
            return
        # One that timed out may be well again by now, and its callers wait.
        delay = 0.0 if state is MemberState.SUSPECT else self._policy.probe_period
        self._next_probe = self._policy.clock() + delay
        self._prober.wake(delay)

    def _exclude(self, found: list[str]) -> MetadataMismatch:
        reason = (
            f"it is not the same model: {'; '.join(found)}. Serve the same model, or open with "
            "parity=warn"
        )
        self._announce(self.breaker.shut(MemberState.EXCLUDED, reason))
        error = MetadataMismatch(f"{self.url} is not asked any more: {reason}")
        self._last_error = copy(error)
        return error

    @property
    def unopened(self) -> bool:
        """Whether it is loaded when it is needed, and was not needed yet."""
        return self.breaker.state is MemberState.UNOPENED

    def status(self) -> MemberStatus:
        """How it does."""
        now = self._policy.clock()
        breaker = self.breaker
        next_probe = self._next_probe if breaker.state in _PROBED else None
        return MemberStatus(
            url=self.url,
            state=breaker.state,
            since=now - breaker.since,
            calls=breaker.calls,
            failures=breaker.failures,
            in_flight=self.contact.openings.in_flight(),
            latency=self.latency.typical,
            last_error=self._last_error,
            probes=self._probes,
            retry_in=None if next_probe is None else max(0.0, next_probe - now),
        )

    def end_probing(self) -> None:
        """Begin no more probes; does not wait for one that is under way."""
        self._closed = True
        self._prober.stop(0.0)

    def close(self) -> None:
        """Close it, and end what goes on in the background. May be called more than once."""
        self._closed = True
        try:
            self.contact.close()
        finally:
            self._prober.stop()

    def reset_in_child(self) -> None:
        """Forget the threads that were at it: they do not exist in a forked child."""
        self.breaker.reset_in_child()
        self._telling = threading.Lock()


_PROBED = frozenset({MemberState.SUSPECT, MemberState.DOWN, MemberState.EXCLUDED})
_WATCHED: weakref.WeakSet[Watched] = weakref.WeakSet()


def _reset_watched() -> None:
    for watched in list(_WATCHED):
        watched.reset_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_watched)
