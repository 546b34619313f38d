"""From the measurements of several rounds to the figures of the tables. No I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from tests.benchmarks.commands import Measurement

#: ``wall`` and ``p99`` are seconds, ``cpu`` is seconds of a processor for one call, ``rate`` is
#: calls in a second, and ``peak`` is bytes. Less is better, except of ``rate``.
Metric = Literal["wall", "p99", "rate", "cpu", "peak"]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` (0 to 1) of them do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of one contender in one cell.

    Attributes:
        wall: The median latency of each round, in seconds.
        rate: The calls in a second of each round.
        cpu: The time of processors for one call in each round, in seconds; empty if unknown.
        p99: The 99th percentile of all calls of all rounds, in seconds.
        calls: How many calls these are.
        peaks: The extra memory at the peak of single calls, in bytes; empty if not measured.
    """

    wall: tuple[float, ...]
    rate: tuple[float, ...]
    cpu: tuple[float, ...]
    p99: float
    calls: int
    peaks: tuple[int, ...] = ()

    @classmethod
    def of(cls, rounds: Sequence[Measurement], peaks: Sequence[int] = ()) -> Figures:
        """The figures of these rounds."""
        together = [latency for one in rounds for latency in one.latencies]
        return cls(
            wall=tuple(median(one.latencies) for one in rounds),
            rate=tuple(len(one.latencies) / one.wall for one in rounds),
            cpu=tuple(one.cpu / len(one.latencies) for one in rounds if one.cpu is not None),
            p99=percentile(together, 0.99),
            calls=len(together),
            peaks=tuple(peaks),
        )

    def rounds(self, metric: Metric) -> tuple[float, ...]:
        """The figure of each round; empty if it is not known."""
        if metric == "p99":
            return (self.p99,)
        if metric == "peak":
            return self.peaks
        return {"wall": self.wall, "rate": self.rate, "cpu": self.cpu}[metric]

    def value(self, metric: Metric) -> float | None:
        """The median over the rounds, or None if it is not known."""
        rounds = self.rounds(metric)
        return median(rounds) if rounds else None


@dataclass(frozen=True, slots=True)
class Ratio:
    """One contender's median over another's, and how far that moved from round to round."""

    value: float
    lowest: float
    highest: float


def ratio(ours: Figures, theirs: Figures, metric: Metric) -> Ratio | None:
    """Ours over theirs; None if either is not known.

    Who took too long in the first round was not measured in later ones: only rounds that both
    were measured in count. The contenders of a round were measured next to each other, so the
    range is of the quotients within the rounds.
    """
    pairs = list(zip(ours.rounds(metric), theirs.rounds(metric), strict=False))
    if not pairs:
        return None
    quotients = [mine / other for mine, other in pairs]
    value = median(mine for mine, _ in pairs) / median(other for _, other in pairs)
    return Ratio(value, min(quotients), max(quotients))
