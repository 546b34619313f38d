"""The process of one contender: reads commands from its standard input, and answers each.

``python -m tests.benchmarks.worker NAME HTTP_PORT GRPC_PORT TINY_ONNX``. It may run from another
environment than the driver, with whatever Python and NumPy its client needs.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import TextIO

import numpy as np

from tests.benchmarks import memory
from tests.benchmarks.clients import Addresses
from tests.benchmarks.commands import Cell, Command, Reply
from tests.benchmarks.crews import Crew, make_crew
from tests.benchmarks.models import Array, answer_of, array_of, digest

_PACKAGES = (
    "infer-backends", "tritonclient", "nvidia-pytriton", "onnxruntime", "grpcio", "protobuf",
    "geventhttpclient", "aiohttp", "numpy",
)  # fmt: skip

_array_of = functools.lru_cache(maxsize=8)(array_of)


def installed_versions() -> dict[str, str]:
    """The packages of this environment that matter to a contender."""
    found = {one.name.lower(): one.version for one in distributions()}
    present = {name: found[name] for name in _PACKAGES if name in found}
    return {"python": platform.python_version(), **present}


def execute(crew: Crew, command: Command) -> Reply:
    """Do what a command says; answers are compared when the clock has stopped."""
    cell = command.cell
    array = _array_of(cell.payload)
    if command.action == "check":
        (answer,) = crew.run(Cell(cell.model, cell.payload), array, 1).answers
        return Reply(digest=digest(answer))
    if command.warmup:
        callers = min(cell.callers, command.warmup)
        crew.run(Cell(cell.model, cell.payload, callers), array, command.warmup)
    if command.action == "memory":
        return Reply(peaks=tuple(_extra(crew, cell, array) for _ in range(command.calls)))
    outcome = crew.run(cell, array, command.calls)
    expected = answer_of(cell.model, array)
    if not all(np.array_equal(answer, expected) for answer in outcome.answers):
        return Reply(error=f"a wrong answer in {cell}")
    return Reply(measurement=outcome.measurement)


def _extra(crew: Crew, cell: Cell, array: Array) -> int:
    before = memory.reset_peak()
    outcome = crew.run(cell, array, 1)
    highest = memory.peak()
    # The answer is part of the peak: it has to live until here.
    del outcome
    return highest - before


def serve(crew: Crew, commands: TextIO, replies: TextIO) -> None:
    """Answer commands until ``stop``, or the end of the stream."""
    for line in commands:
        command = Command.from_line(line)
        if command.action == "stop":
            return
        try:
            reply = execute(crew, command)
        except Exception as exc:  # noqa: BLE001 - of any client; the driver reports it
            reply = Reply(error=f"{type(exc).__name__}: {exc}")
        replies.write(reply.to_line())
        replies.flush()


def main(name: str, http: str, grpc: str, tiny: str) -> None:
    """Run the contender ``name`` until the driver stops it."""
    # Whatever a client prints must not be taken for a reply.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    crew = make_crew(name, Addresses(int(http), int(grpc), Path(tiny)))
    replies.write(Reply(versions=installed_versions()).to_line())
    replies.flush()
    serve(crew, sys.stdin, replies)
    # Some clients have threads and loops that do not end by themselves.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
