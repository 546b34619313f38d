"""What the members that would be asked next need of a call's time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infer_backends._deadline import Clock, Deadline
from infer_backends._resilience._budget import need, reserve
from infer_backends._resilience._endpoint import Endpoint
from infer_backends._resilience._replicas import Replicas

#: How long what was found is good for, in seconds: it changes slowly, and calls are many.
_GOOD_FOR = 0.1


class Later:
    """The members after one of them, looked at now and then.

    Args:
        members: The members, in order of preference.
        clock: The monotonic clock.
    """

    __slots__ = ("_again", "_anybody", "_begin", "_clock", "_known", "_members", "_unknown")

    def __init__(self, members: Sequence[Replicas], clock: Clock) -> None:
        self._members = tuple(members)
        self._clock = clock
        self._again = float("-inf")
        self._anybody = False
        self._known = 0.0
        self._unknown = 0
        self._begin: Callable[[], None] | None = None

    def share(self, deadline: Deadline, now: float) -> Deadline | None:
        """The part of the time that an attempt may use; None for all of it, if nobody is left.

        When half of that is over, those which have to be loaded first begin to be.

        Args:
            deadline: The call's.
            now: The time, on the clock.
        """
        if now >= self._again:
            self._look(now)
        if not self._anybody:
            return None
        remaining = deadline.remaining()
        kept = reserve(remaining, self._known, self._unknown)
        share = deadline.less(kept)
        if self._begin is not None:
            share = share.with_alarm((remaining - kept) / 2, self._begin)
        return share

    def _look(self, now: float) -> None:
        left = [member for member in self._members if member.available]
        unopened = [one for member in left for one in member.endpoints if one.unopened]
        needs = [member.needed() for member in left]
        self._anybody = bool(left)
        self._known = sum(need(measured) for measured in needs if measured is not None)
        self._unknown = needs.count(None)
        self._begin = _loader(unopened) if unopened else None
        self._again = now + _GOOD_FOR


def _loader(endpoints: Sequence[Endpoint]) -> Callable[[], None]:
    def begin() -> None:
        for endpoint in endpoints:
            endpoint.begin_loading()

    return begin
