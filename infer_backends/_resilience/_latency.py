"""How long an endpoint takes to answer, as calls have shown."""

from __future__ import annotations


class Latency:
    """A smoothed mean and deviation of durations, as TCP keeps them (RFC 6298, section 2).

    Not locked: a lost update changes nothing that matters.

    Attributes:
        typical: The smoothed mean, in seconds; None before the first answer.
    """

    __slots__ = ("_deviation", "typical")

    def __init__(self) -> None:
        self.typical: float | None = None
        self._deviation = 0.0

    def observe(self, duration: float) -> None:
        """An answer took ``duration`` seconds."""
        typical = self.typical
        if typical is None:
            self.typical, self._deviation = duration, duration / 2
            return
        error = duration - typical
        self.typical = typical + error / 8
        self._deviation += (abs(error) - self._deviation) / 4

    @property
    def ample(self) -> float | None:
        """The time within which nearly every answer comes, in seconds; None when unknown."""
        return None if self.typical is None else self.typical + 4 * self._deviation
