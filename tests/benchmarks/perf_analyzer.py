"""NVIDIA's ``perf_analyzer``, a program in C++: run once for each round of a cell.

Its figures are of every single request, from the file of timestamps that it can write.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.clients import Addresses
from tests.benchmarks.commands import Cell, Measurement

VARIABLE = "INFER_BACKENDS_PERF_ANALYZER"
_PATIENCE = 120.0  # seconds for one run


def command_of(program: Path, protocol: str, address: str, cell: Cell, calls: int) -> list[str]:
    """The command that measures a cell, without the file it writes."""
    options = {
        "-m": cell.model,
        "-i": protocol,
        "-u": address,
        "--shape": f"INPUT:{cell.payload // 4}",
        "--concurrency-range": str(cell.callers),
        "--measurement-mode": "count_windows",
        "--measurement-request-count": str(calls),
        # One run of the benchmark has rounds of its own: it need not wait until figures are stable.
        "--stability-percentage": "999",
        "--max-trials": "3",
        "--max-threads": str(cell.callers),
    }
    return [str(program), *(word for option in options.items() for word in option)]


def parse_profile(text: str) -> Measurement:
    """The requests in the file of timestamps, which are in nanoseconds."""
    requests: list[Any] = json.loads(text)["experiments"][0]["requests"]
    begun = [request["timestamp"] for request in requests]
    ended = [request["response_timestamps"][-1] for request in requests]
    latencies = tuple((end - begin) / 1e9 for begin, end in zip(begun, ended, strict=True))
    # The program's own CPU time holds its start and the making of its payload: it is not told.
    return Measurement(latencies, (max(ended) - min(begun)) / 1e9, None)


class PerfAnalyzer:
    """A contender that is another program, with the interface of the driver's others."""

    def __init__(self, program: Path, protocol: str, addresses: Addresses) -> None:
        self._program, self._protocol = program, protocol
        self._address = addresses.of(protocol)

    def measure(self, cell: Cell, calls: int) -> Measurement:
        """Measure one round of a cell."""
        with tempfile.TemporaryDirectory() as folder:
            profile = Path(folder) / "profile.json"
            command = command_of(self._program, self._protocol, self._address, cell, calls)
            _run([*command, "--profile-export-file", str(profile)])
            return parse_profile(profile.read_text())


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_PATIENCE, env=os.environ
    )
    if done.returncode:
        raise RuntimeError(f"perf_analyzer failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
