"""What the driver and a contender's process say to each other: one JSON object in a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured: a model, a payload, and how many call it at once.

    Attributes:
        model: The model's name: ``echo``, ``reduce`` or ``tiny``.
        payload: The size of the input tensor in bytes.
        callers: How many threads, or tasks of asyncio, call the model at once.
    """

    model: str
    payload: int
    callers: int = 1


@dataclass(frozen=True, slots=True)
class Command:
    """One order to a contender.

    Attributes:
        action: ``check`` answers once and compares it; ``measure`` takes the time of ``calls``
            calls; ``memory`` takes the peak of memory of each of ``calls`` calls; ``stop`` ends.
        cell: What to call, and how.
        warmup: Calls made before, which count for nothing.
        calls: Calls that count, all callers together.
    """

    action: Literal["check", "measure", "memory", "stop"]
    cell: Cell
    warmup: int = 0
    calls: int = 0

    def to_line(self) -> str:
        """The command as one line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Command:
        """The command in a line that :meth:`to_line` wrote."""
        fields = json.loads(line)
        return cls(**{**fields, "cell": Cell(**fields["cell"])})


@dataclass(frozen=True, slots=True)
class Measurement:
    """What came out of one round of a cell.

    Attributes:
        latencies: Of each call, in seconds.
        wall: From the first call's beginning to the last one's end, in seconds.
        cpu: What the contender's process, all its threads together, took meanwhile, in seconds;
            None if that is not known.
    """

    latencies: tuple[float, ...]
    wall: float
    cpu: float | None


@dataclass(frozen=True, slots=True)
class Reply:
    """A contender's answer.

    Attributes:
        error: Why there is none of what was asked for, or the empty text.
        digest: ``check``: of the answer's dtype, shape and bytes.
        measurement: ``measure``: the times.
        peaks: ``memory``: the extra memory at the peak of each call, in bytes.
        versions: At the start: the packages that this contender is made of.
    """

    error: str = ""
    digest: str = ""
    measurement: Measurement | None = None
    peaks: tuple[int, ...] = ()
    versions: Mapping[str, str] | None = None

    def to_line(self) -> str:
        """The reply as one line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Reply:
        """The reply in a line that :meth:`to_line` wrote."""
        fields: dict[str, Any] = json.loads(line)
        fields["peaks"] = tuple(fields["peaks"])
        if (taken := fields["measurement"]) is not None:
            latencies = tuple(taken.pop("latencies"))
            fields["measurement"] = Measurement(latencies=latencies, **taken)
        return cls(**fields)
