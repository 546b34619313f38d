"""One run: a server, a process for each contender, and rounds in which all take their turns."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.request import urlopen

from infer_backends_triton import LocalTriton
from tests.benchmarks.clients import Addresses
from tests.benchmarks.commands import Cell, Command, Measurement, Reply
from tests.benchmarks.contenders import CONTENDERS, PERF_ANALYZER, Contender
from tests.benchmarks.machine import Machine, describe
from tests.benchmarks.models import answer_of, array_of, digest, write_repository, write_tiny
from tests.benchmarks.perf_analyzer import PerfAnalyzer
from tests.benchmarks.plan import MOST_THREADS, Plan, shuffled
from tests.benchmarks.statistic import Figures

_ROOT = Path(__file__).parents[2]
_PATIENCE = 180.0  # seconds for one answer of a contender
_LONG = 5.0  # seconds of one measurement; what takes longer is measured once
_MEMORY_CALLS = 3
_LARGE = 128 * 1024  # bytes of a block that is large

Measure = Callable[[Cell], Measurement]


@dataclass(frozen=True, slots=True)
class Run:
    """What came out.

    Attributes:
        plan: What was measured.
        figures: Of each cell and contender, by its name.
        machine: What it was taken on.
    """

    plan: Plan
    figures: Mapping[tuple[Cell, str], Figures]
    machine: Machine


class Worker:
    """The process of a contender.

    Args:
        contender: Who.
        python: The interpreter of its environment.
        addresses: Where the models are.
        frugal: Whether its C library gives every large block back as soon as it is freed, so
            that what an earlier call left cannot hide what a call needs.

    Raises:
        RuntimeError: It ended, failed, answered wrongly, or took too long.
    """

    def __init__(
        self, contender: Contender, python: Path, addresses: Addresses, *, frugal: bool = False
    ) -> None:
        self._name = contender.name
        # As long as the process; close() closes it.
        self._log: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        ports = str(addresses.http), str(addresses.grpc)
        settings = {"MALLOC_MMAP_THRESHOLD_": str(_LARGE)} if frugal else {}
        self._process = subprocess.Popen(
            [str(python), "-m", "tests.benchmarks.worker", contender.name, *ports, addresses.tiny],
            cwd=_ROOT,
            env={**os.environ, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def greet(self) -> Mapping[str, str]:
        """Wait until it is there; returns the versions of its packages."""
        return self._read().versions or {}

    def ask(self, command: Command) -> Reply:
        """Have a command executed."""
        assert self._process.stdin is not None
        self._process.stdin.write(command.to_line())
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Reply:
        assert self._process.stdout is not None
        # Nothing but the one reply can be on its way, so that none waits in the stream's buffer.
        readable, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        line = self._process.stdout.readline() if readable else ""
        reply = Reply.from_line(line) if line else Reply(error="it ended, or took too long")
        if reply.error:
            self._log.seek(0)
            raise RuntimeError(f"{self._name}: {reply.error}\n{self._log.read()[-2000:]}")
        return reply

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


def run(
    plan: Plan,
    environment: Path,
    date: str,
    *,
    perf_analyzer: Path | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Run:
    """Run the benchmark.

    Args:
        plan: What to measure.
        environment: The Python environment of the server.
        date: The day, as YYYY-MM-DD.
        perf_analyzer: NVIDIA's load tester, or None to go without.
        tell: Is told what happens, for people who wait.

    Raises:
        RuntimeError: A contender failed, or answered wrongly.
    """
    before = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(_server(folder, environment))
        addresses = Addresses(
            server.ports.http, server.ports.grpc, write_tiny(folder / "tiny.onnx")
        )
        workers = {}
        for contender in CONTENDERS:
            worker = Worker(contender, _python(contender, environment), addresses)
            stack.callback(worker.close)
            workers[contender] = worker
        tell(f"{len(workers)} contenders start")
        versions = {who.name: worker.greet() for who, worker in workers.items()}
        _check(plan, workers)
        extra = _perf_analyzers(perf_analyzer, addresses)
        rounds = measure_rounds(plan, workers, extra, tell)
        tell("memory")
        peaks = {
            key: taken
            for contender in workers
            for key, taken in _measure_memory(plan, contender, environment, addresses).items()
        }
        named = _server_version(server)
    figures = {key: Figures.of(taken, peaks.get(key, ())) for key, taken in rounds.items()}
    machine = describe(date, (before, os.getloadavg()[0]), named, versions)
    return Run(plan, figures, machine)


@contextmanager
def _server(folder: Path, environment: Path) -> Iterator[LocalTriton]:
    repository = write_repository(folder / "models")
    arguments = ["--disable-auto-complete-config"]
    with LocalTriton(
        repository, environment=environment, arguments=arguments, startup_timeout=120
    ) as server:
        yield server


def _python(contender: Contender, environment: Path) -> Path:
    return environment / "bin" / "python" if contender.served else Path(sys.executable)


def _server_version(server: LocalTriton) -> str:
    with urlopen(f"{server.http_url}/v2", timeout=10) as answer:
        told = json.load(answer)
    return f"{told['name']} {told['version']}"


def takes_part(contender: Contender, cell: Cell) -> bool:
    """Whether a contender is measured in a cell."""
    if contender.limit and cell.callers > 1:
        return False
    if cell.callers > MOST_THREADS and not contender.awaited:
        return False
    return (contender.where == "local") == (cell.model == "tiny")


def _check(plan: Plan, workers: Mapping[Contender, Worker]) -> None:
    """Every contender answers every cell, to the bit, before any clock runs."""
    for cell in {Cell(cell.model, cell.payload): None for cell in plan.cells}:
        expected = digest(answer_of(cell.model, array_of(cell.payload)))
        for contender, worker in workers.items():
            if takes_part(contender, cell):
                got = worker.ask(Command("check", cell)).digest
                if got != expected:
                    raise RuntimeError(f"{contender.name} answers {cell} wrongly")


def _perf_analyzers(program: Path | None, addresses: Addresses) -> dict[Contender, PerfAnalyzer]:
    if program is None:
        return {}
    return {who: PerfAnalyzer(program, who.where, addresses) for who in PERF_ANALYZER}


def measure_rounds(
    plan: Plan,
    workers: Mapping[Contender, Worker],
    extra: Mapping[Contender, PerfAnalyzer],
    tell: Callable[[str], object],
) -> Mapping[tuple[Cell, str], list[Measurement]]:
    """Round by round, cell by cell, every contender in turn."""
    taken: dict[tuple[Cell, str], list[Measurement]] = defaultdict(list)
    for number in range(plan.rounds):
        tell(f"round {number + 1} of {plan.rounds}")
        for cell in plan.cells:
            for contender in shuffled([*workers, *extra], f"{number} {cell}"):
                earlier = taken[cell, contender.name]
                if earlier and earlier[0].wall > _LONG:
                    continue
                if contender in workers and takes_part(contender, cell):
                    command = Command("measure", cell, plan.warmup(cell), plan.calls(cell))
                    measurement = workers[contender].ask(command).measurement
                    assert measurement is not None
                    earlier.append(measurement)
                elif contender in extra and cell.model == "echo" and cell.callers == 1:
                    earlier.append(extra[contender].measure(cell, plan.calls(cell)))
    return {key: rounds for key, rounds in taken.items() if rounds}


def _measure_memory(
    plan: Plan, contender: Contender, environment: Path, addresses: Addresses
) -> Mapping[tuple[Cell, str], tuple[int, ...]]:
    """The peaks of one contender, in a process of its own for this."""
    cells = [cell for cell in plan.memory if takes_part(contender, cell)]
    if not cells:
        return {}
    worker = Worker(contender, _python(contender, environment), addresses, frugal=True)
    with closing(worker):
        worker.greet()
        commands = [Command("memory", cell, plan.warmup(cell), _MEMORY_CALLS) for cell in cells]
        return {(command.cell, contender.name): worker.ask(command).peaks for command in commands}
