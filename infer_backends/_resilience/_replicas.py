"""One member of a model that several hosts serve: they share its load."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from infer_backends._member_state import MemberState
from infer_backends._resilience._breaker import Permit
from infer_backends._resilience._endpoint import Endpoint
from infer_backends._status import MemberStatus

#: How many times as fast is clearly faster.
_CLEARLY = 2.0
#: How often a replica is taken without regard to its speed, which may have changed.
_EXPLORE = 0.05


class Replicas:
    """Endpoints of the same model, one or more; each call goes to one of them.

    Of two that are picked at random, the one with fewer calls in flight is taken (M. Mitzenmacher,
    "The Power of Two Choices in Randomized Load Balancing"), and of equals one that is clearly
    faster: so one slow replica does not set the pace, even where there is only one caller.

    Args:
        endpoints: The endpoints.
        random: Numbers from 0 to 1.

    Attributes:
        url: The URL of the first, secrets masked.
        endpoints: The endpoints.
    """

    def __init__(self, endpoints: Sequence[Endpoint], random: Callable[[], float]) -> None:
        self.url = endpoints[0].url
        self.endpoints = tuple(endpoints)
        self._only = endpoints[0] if len(endpoints) == 1 else None
        self._random = random

    def admit(self, tried: Collection[Endpoint] = ()) -> tuple[Endpoint, Permit] | None:
        """Whom to ask, with leave to; None if none of them is to be asked now.

        Args:
            tried: Those that this call has asked already.
        """
        endpoint = self._only
        if endpoint is not None:
            permit = None if endpoint in tried else endpoint.breaker.free or endpoint.admit()
            return None if permit is None else (endpoint, permit)
        left = [endpoint for endpoint in self.endpoints if endpoint not in tried]
        while left:
            endpoint = self._pick(left)
            permit = endpoint.admit()
            if permit is not None:
                return endpoint, permit
            left.remove(endpoint)
        return None

    def admit_when_nobody_else_can(self) -> tuple[Endpoint, Permit] | None:
        """Whom to ask rather than nobody, with leave to."""
        for endpoint in self.endpoints:
            permit = endpoint.breaker.admit_when_nobody_else_can()
            if permit is not None:
                return endpoint, permit
        return None

    @property
    def available(self) -> bool:
        """Whether one of them would be asked now."""
        return self.available_besides(())

    def available_besides(self, tried: Collection[Endpoint]) -> bool:
        """Whether one that was not tried would be asked now."""
        return any(
            endpoint.breaker.state in _AVAILABLE
            for endpoint in self.endpoints
            if endpoint not in tried
        )

    def needed(self) -> float | None:
        """The seconds within which nearly every answer comes; None when it is not known."""
        known = [
            ample for endpoint in self.endpoints if (ample := endpoint.latency.ample) is not None
        ]
        return max(known, default=None)

    def status(self) -> MemberStatus:
        """How they do."""
        parts = tuple(endpoint.status() for endpoint in self.endpoints)
        if len(parts) == 1:
            return parts[0]
        best = min(parts, key=lambda part: _PREFERENCE.index(part.state))
        known = [part.latency for part in parts if part.latency is not None]
        due = [part.retry_in for part in parts if part.retry_in is not None]
        errors = [part.last_error for part in parts if part.last_error is not None]
        return MemberStatus(
            url=self.url,
            state=best.state,
            since=best.since,
            calls=sum(part.calls for part in parts),
            failures=sum(part.failures for part in parts),
            in_flight=sum(part.in_flight for part in parts),
            latency=sum(known) / len(known) if known else None,
            last_error=errors[-1] if errors else None,
            probes=sum(part.probes for part in parts),
            retry_in=min(due, default=None),
            replicas=parts,
        )

    def _pick(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        count = len(endpoints)
        if count == 1:
            return endpoints[0]
        index = int(self._random() * count) % count
        # One of the others, each as likely.
        other = (index + 1 + int(self._random() * (count - 1))) % count
        one, two = endpoints[index], endpoints[other]
        difference = one.contact.openings.in_flight() - two.contact.openings.in_flight()
        if difference == 0 and self._random() >= _EXPLORE:
            return two if _clearly_slower(one, two) else one
        return two if difference > 0 else one


def _clearly_slower(one: Endpoint, two: Endpoint) -> bool:
    first, second = one.latency.typical, two.latency.typical
    return first is not None and second is not None and first > _CLEARLY * second


_AVAILABLE = frozenset({MemberState.READY, MemberState.UNOPENED, MemberState.RECOVERING})
_PREFERENCE = (
    MemberState.READY,
    MemberState.UNOPENED,
    MemberState.RECOVERING,
    MemberState.SUSPECT,
    MemberState.DOWN,
    MemberState.EXCLUDED,
)
