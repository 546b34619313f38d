"""Pure: how much of a call's time one attempt may use, and how many retries there may be."""

from __future__ import annotations

#: What a member of unknown speed is left, as a part of the time and in seconds.
SHARE, LEAST = 0.25, 0.25
#: What a member of known speed is left at least, in seconds: schedulers are not exact.
LEAST_MEASURED = 0.05


def reserve(remaining: float, known: float, unknown: int) -> float:
    """The seconds that an attempt leaves to the members which would be asked after it.

    Args:
        remaining: The time that the call has left, in seconds.
        known: What those of them need whose speed is known, together; see :func:`need`.
        unknown: How many there are whose speed is not known.

    Returns:
        What they need, and never more than half of the time.
    """
    kept = known
    if unknown:
        share = remaining * SHARE
        kept += unknown * (max(LEAST, share))
    half = remaining / 2
    return min(half, kept)


def need(measured: float) -> float:
    """The seconds to leave to a member that was measured to answer within ``measured``."""
    return max(measured, LEAST_MEASURED)


class RetryBudget:
    """Bounds retries to a share of the calls, so that they never become the load.

    Not locked: a retry more or less changes nothing that matters.

    Attributes:
        calls: How many calls were made; whoever makes them counts.
        retries: How many of them were sent again.
    """

    __slots__ = ("_credited", "_tokens", "calls", "retries")

    #: Retries for each call, and how many may be saved up.
    SHARE = 0.2
    SAVED = 10.0

    def __init__(self) -> None:
        self.calls = 0
        self.retries = 0
        self._credited = 0
        self._tokens = self.SAVED

    def withdraw(self) -> bool:
        """Whether one more retry may be made; counts it if so."""
        calls = self.calls
        self._tokens = min(self._tokens + self.SHARE * (calls - self._credited), self.SAVED)
        self._credited = calls
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        self.retries += 1
        return True


def pause(retry: int, random: float) -> float:
    """Seconds to wait before a retry: full jitter of 50 ms, doubling, up to a second.

    Args:
        retry: 0 for the first.
        random: A number from 0 to 1.
    """
    longest: float = min(0.05 * 2**retry, 1.0)
    return longest * random
