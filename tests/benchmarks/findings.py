"""What was found of failover: figures beside their targets, and what was left behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from infer_backends_triton import _regions
from tests.benchmarks.report import table

_INTRODUCTION = """\
# What failover costs

Written by `python -m tests.benchmarks.resilience`, part of `tox -e bench`. A real Triton over
HTTP comes first, the same model as a file second; `probe_period` is 0.2 s where a figure waits for
probes. What is added to a call is the difference of two medians of calls that take turns.
"""
_HEAD = "figure", "target", "measured", "met"


@dataclass(frozen=True, slots=True)
class Found:
    """One figure.

    Attributes:
        title: What it is of.
        target: What it has to be, in words.
        measured: What it was, in words.
        met: Whether that is enough; None where it could not be measured.
    """

    title: str
    target: str
    measured: str
    met: bool | None


def added(title: str, more: float, limit: float) -> Found:
    """A figure of time that something adds to a call at the median."""
    text = f"+ {limit * 1e6:.0f} µs at the median"
    return Found(title, text, f"{more * 1e6:+.1f} µs", more <= limit)


@dataclass(frozen=True, slots=True)
class Belongings:
    """How many threads, descriptors, regions and children this process has."""

    threads: int
    descriptors: int
    regions: int
    children: int

    @classmethod
    def now(cls) -> Belongings:
        """Those of now, without the server's."""
        gc.collect()
        return cls(
            threading.active_count(),
            len(list(Path("/proc/self/fd").iterdir())),
            len(list(_regions.FOLDER.glob(f"{_regions.PREFIX}*"))),
            len(psutil.Process().children()),
        )


def left(before: Belongings, after: Belongings) -> Found:
    """What is there at the end that was not there at the beginning."""
    names = ("threads", "descriptors", "regions", "children")
    more = {name: getattr(after, name) - getattr(before, name) for name in names}
    text = ", ".join(f"{count:+d} {name}" for name, count in more.items())
    return Found("left when all models are closed", "nothing", text, max(more.values()) <= 0)


def render(found: Sequence[Found], taken: str) -> str:
    """The figures as a page in Markdown; ``taken`` says when, and on what."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [[one.title, one.target, one.measured, words[one.met]] for one in found]
    return f"{_INTRODUCTION}\n{taken}\n\n{table(_HEAD, rows)}\n"
