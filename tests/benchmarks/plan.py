"""What is measured, how often, and in which order. No I/O."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.benchmarks.commands import Cell

IMAGE = 1 * 3 * 640 * 640 * 4  # one image, FP32
BATCH = 8 * IMAGE
PAYLOADS = {16: "16 B", 65536: "64 KiB", IMAGE: "4.9 MB", BATCH: "39 MB"}

#: Calls of a round: with one caller, and with several, together. The slowest contender takes about
#: a second with one; the whole run, twelve minutes on two cores. Several callers of 16 bytes make
#: ten times as many, or a round of a tenth of a second would show the scheduler's mood alone.
_CALLS = {16: (400, 4000), 65536: (250, 500), IMAGE: (16, 16), BATCH: (4, 4)}
_TINY_CALLS = 8000, 8000
#: With more callers than that, they are tasks.
MOST_THREADS = 16
#: How many callers the tasks of an event loop are held to, each with a row in the targets.
TASKS = (1, 32, 256)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the benchmark.

    Attributes:
        cells: What is measured in every round.
        memory: Of which cells the peak of memory is taken, after the rounds.
        rounds: How many rounds there are.
        effort: By how much the usual number of calls is multiplied.
    """

    cells: tuple[Cell, ...]
    memory: tuple[Cell, ...]
    rounds: int
    effort: float = 1.0

    def calls(self, cell: Cell) -> int:
        """How many calls are measured in one round: a multiple of the callers."""
        one, several = _TINY_CALLS if cell.model == "tiny" else _CALLS[cell.payload]
        wanted = self.effort * (one if cell.callers == 1 else several)
        return max(round(wanted / cell.callers), 1) * cell.callers

    def warmup(self, cell: Cell) -> int:
        """How many calls are made first in every round, and do not count.

        A multiple of the callers, or one: large calls have less to warm up.
        """
        return self.calls(cell) // (10 * cell.callers) * cell.callers or 1


def _cells(model: str, payloads: Sequence[int], callers: Sequence[int]) -> tuple[Cell, ...]:
    return tuple(Cell(model, payload, number) for payload in payloads for number in callers)


FULL = Plan(
    cells=(
        *_cells("echo", (16, IMAGE), (1, 4, 8, 16, 32, 256)),
        *_cells("echo", (65536, BATCH), (1, 4, 16)),
        *_cells("reduce", (IMAGE,), (1, 4)),
        Cell("reduce", BATCH),
        Cell("tiny", 16),
    ),
    memory=(*_cells("echo", (IMAGE, BATCH), (1,)), *_cells("reduce", (IMAGE, BATCH), (1,))),
    rounds=5,
)
#: The same machinery on little work: whether everything runs, not how fast.
QUICK = Plan(
    cells=(
        *_cells("echo", (16, IMAGE), (1, 8)),
        Cell("echo", 16, 32),
        *_cells("reduce", (IMAGE,), (1,)),
        Cell("tiny", 16),
    ),
    memory=_cells("echo", (IMAGE,), (1,)),
    rounds=1,
    effort=0.05,
)


def shuffled(items: Sequence[T], seed: str) -> list[T]:
    """The items in an order that depends on ``seed`` alone.

    Nobody is to be always the first, or always behind the same one, who may leave caches warm.
    """
    return random.Random(seed).sample(items, len(items))  # noqa: S311 - an order is no secret
