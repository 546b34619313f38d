"""``python -m tests.benchmarks.resilience``: what failover costs, and whether it keeps its word.

Each figure is a function, which takes a :class:`Stage` and returns what it found. Figures are told
beside their targets; nothing here fails because a machine is slow.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

import infer_backends as ib
from infer_backends import plugin
from tests.benchmarks.findings import Belongings, Found, added, left, render
from tests.benchmarks.machine import one_line
from tests.faults.servers import Server, wait_until, write_onnx
from tests.servers import environment

_X = np.arange(4, dtype=np.float32)
_PERIOD = 0.2  # seconds between probes, in the figures that wait for one


@dataclass(frozen=True, slots=True)
class Stage:
    """What the figures are taken on.

    Attributes:
        server: A real Triton that can be hurt.
        local: The URL of the same model as a file.
        quick: Whether only to see that it runs.
    """

    server: Server
    local: str
    quick: bool

    @property
    def pair(self) -> list[str]:
        """The server first, the file second, loaded at open."""
        return [f"{self.server.url('http')}", f"{self.local}?preload=true"]

    def number(self, full: int, quick: int) -> int:
        """How often something is done."""
        return quick if self.quick else full


def timed(call: Callable[[], object]) -> float:
    """How long one call took, in seconds."""
    start = perf_counter()
    call()
    return perf_counter() - start


def apart(base: Callable[[], object], other: Callable[[], object], rounds: int) -> float:
    """By how much the median of ``other`` is above that of ``base``, in seconds; interleaved."""
    times: tuple[list[float], list[float]] = [], []
    for number in range(rounds):
        pairs = list(zip(times, (base, other), strict=True))
        for kept, call in pairs if number % 2 else reversed(pairs):
            kept.append(timed(call))
    return median(times[1]) - median(times[0])


def restarts(stage: Stage) -> Found:
    """Threads call while the server is killed and started again and again."""
    threads, calls, cycles = 8, stage.number(20_000, 80), stage.number(20, 1)
    wrong: list[str] = []
    begun, stop = [0] * threads, threading.Event()

    def work(model: ib.Model, index: int) -> None:
        x = np.full(4, index, np.float32)
        while begun[index] < calls // threads or not stop.is_set():
            begun[index] += 1
            x = x + np.float32(threads)
            try:
                if not np.array_equal(model.infer({"x": x}, timeout=20)["y"], x):
                    wrong.append("a wrong answer")
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is counted
                wrong.append(type(exc).__name__)
            stop.wait(0.005)

    with ib.open_model(stage.pair, probe_period=_PERIOD) as model:
        crew = [threading.Thread(target=work, args=(model, index)) for index in range(threads)]
        for thread in crew:
            thread.start()
        try:
            for _ in range(cycles):
                stage.server.kill()
                wait_until(lambda: not answered_by(model, stage.server), within=60)
                stage.server.start()
                wait_until(lambda: answered_by(model, stage.server), within=60)
        finally:
            stop.set()
            for thread in crew:
                thread.join()
    made = sum(begun)
    return Found(
        f"{made} calls of {threads} threads, {cycles} times kill and restart",
        f"at least {calls} calls, 0 errors, 0 wrong answers",
        f"{made} calls, {len(wrong)} not answered rightly" + "".join(f"; {w}" for w in wrong[:3]),
        made >= calls and not wrong,
    )


def answered_by(model: ib.Model, server: Server) -> bool:
    """Whether the server is who answers now."""
    return model.infer({"x": _X}, timeout=20).backend_url == server.url("http")


def first_call_after_a_kill(stage: Stage) -> Found:
    """The call that finds out that nobody listens."""
    with ib.open_model(stage.local) as local, ib.open_model(stage.pair) as model:
        alone = median(timed(lambda: local(_X)) for _ in range(200))
        model(_X)
        stage.server.kill()
        taken = timed(lambda: model(_X))
    stage.server.start()
    limit = alone + 0.010
    return Found(
        "first call after a kill, local model loaded",
        f"{limit * 1e3:.2f} ms (local model + 10 ms)",
        f"{taken * 1e3:.2f} ms",
        taken <= limit,
    )


def first_calls_while_hung(stage: Stage) -> Found:
    """The call that finds out that nobody answers, and those that come next."""
    with ib.open_model(stage.pair) as model:
        model(_X)
        stage.server.hang()
        try:
            first = timed(lambda: model.infer({"x": _X}, timeout=1))
            later = max(timed(lambda: model.infer({"x": _X}, timeout=1)) for _ in range(20))
        finally:
            stage.server.resume()
    return Found(
        "calls with `timeout=1` on a hung server: first, slowest of the next 20",
        "1 s, 50 ms",
        f"{first:.2f} s, {later * 1e3:.2f} ms",
        first <= 1 and later <= 0.05,
    )


def calls_while_open(stage: Stage) -> Found:
    """What a breaker that is open adds to the local model."""
    with ib.open_model(stage.local) as local, ib.open_model(stage.pair, probe_period=5) as model:
        stage.server.kill()
        wait_until(lambda: model(_X) is not None and not is_asked(model))
        more = apart(lambda: local(_X), lambda: model(_X), stage.number(20_000, 200))
    stage.server.start()
    return added("a call while the breaker is open, over the local model", more, 10e-6)


def is_asked(model: ib.Model) -> bool:
    """Whether calls go to the first member."""
    return model.status().members[0].state is ib.MemberState.READY


def healthy(stage: Stage) -> Found:
    """What a fallback that is not needed adds to a call of the server."""
    url = stage.server.url("http")
    with ib.open_model(url) as alone, ib.open_model(stage.pair) as model:
        more = apart(lambda: alone(_X), lambda: model(_X), stage.number(4000, 50))
    return added(
        "a healthy server with a fallback, over none (network noise is larger)", more, 5e-6
    )


class _Memory:
    """Answers with its input, at once."""

    def __init__(self, metadata: ib.ModelMetadata, url: str) -> None:
        self.metadata, self._url = metadata, url

    def infer(self, request: plugin.InferRequest) -> plugin.InferResponse:
        """The input as the output."""
        outputs = {"y": request.inputs["x"]}
        return plugin.InferResponse(outputs, model_version="1", backend_url=self._url)

    def close(self) -> None:
        """Nothing to do."""


def healthy_in_memory(stage: Stage) -> Found:
    """The same, of a server without a network."""
    with ib.open_model(stage.local) as local:
        metadata = local.metadata

    def opener(url: ib.ModelURL, options: plugin.OpenOptions) -> _Memory:
        return _Memory(metadata, str(url))

    with (
        ib.register_backend("memory", opener),
        ib.open_model("memory://here/m") as alone,
        ib.open_model(["memory://here/m", stage.local]) as model,
    ):
        more = apart(lambda: alone(_X), lambda: model(_X), stage.number(40_000, 400))
    return added("a healthy backend in memory with a fallback, over none", more, 5e-6)


def probes(stage: Stage) -> Found:
    """A server comes back while many threads call: how many ask whether it is there."""
    with ib.open_model(stage.pair, probe_period=_PERIOD) as model:
        stage.server.kill()
        wait_until(lambda: model(_X) is not None and not is_asked(model))
        before, begun = model.status().members[0].probes, time.monotonic()
        most = [0]

        def work() -> None:
            while time.monotonic() < begun + 2 * _PERIOD:
                model(_X)
                running = sum(thread.name.startswith(_PROBER) for thread in threading.enumerate())
                most[0] = max(most[0], running)
                time.sleep(0.01)

        crew = [threading.Thread(target=work, name=f"caller {n}") for n in range(100)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        made = model.status().members[0].probes - before
        periods = (time.monotonic() - begun) / (0.9 * _PERIOD) + 1
    stage.server.start()
    return Found(
        "probes in one period, with 100 threads that call",
        "1",
        f"{made} in {periods:.0f} periods; {most[0]} at once",
        made <= periods and most[0] <= 1,
    )


_PROBER = "infer-backends-probe"


def traffic_back(stage: Stage) -> Found:
    """How long after a server is ready again its calls go to it, and the slowest of them."""
    with ib.open_model(stage.pair, probe_period=_PERIOD) as model:
        stage.server.kill()
        wait_until(lambda: model(_X) is not None and not is_asked(model))
        stage.server.start()
        slowest, ready = 0.0, perf_counter()
        while not is_asked(model) and perf_counter() < ready + 60:
            slowest = max(slowest, timed(lambda: model(_X)))
            time.sleep(0.001)
        taken = perf_counter() - ready
    # Probes come less often the longer a server is away: up to five times the first period.
    limit = 5 * _PERIOD
    return Found(
        "traffic back on the server after it is ready; the slowest call meanwhile",
        f"{limit:g} s (the longest period between probes), 250 ms",
        f"{taken:.2f} s, {slowest * 1e3:.1f} ms",
        taken <= limit + 0.1 and slowest <= 0.25,
    )


FIGURES: tuple[Callable[[Stage], Found], ...] = (
    restarts,
    first_call_after_a_kill,
    first_calls_while_hung,
    calls_while_open,
    healthy,
    healthy_in_memory,
    probes,
    traffic_back,
)


def attempt(figure: Callable[[Stage], Found], stage: Stage) -> Found:
    """Take a figure; one that can't be taken says why, and the others go on."""
    try:
        return figure(stage)
    except Exception as exc:  # noqa: BLE001 - told in the table
        title = (figure.__doc__ or figure.__name__).strip().splitlines()[0]
        return Found(title, "", f"{type(exc).__name__}: {exc}".split("\n")[0], None)
    finally:
        stage.server.resume()
        stage.server.start()


@contextlib.contextmanager
def staged(*, quick: bool) -> Iterator[Stage]:
    """A server and a file with the same model."""
    with tempfile.TemporaryDirectory() as folder:
        local = write_onnx(Path(folder) / "m.onnx")
        server = Server(Path(folder) / "models", environment.find_or_build())
        try:
            server.start()
            yield Stage(server, f"onnx:{local}", quick)
        finally:
            server.resume()
            server.stop()


def run(
    *, quick: bool = False, tell: Callable[[str], object] = lambda _: None
) -> tuple[Found, ...]:
    """Take every figure."""
    with staged(quick=quick) as stage:
        for url in (stage.local, stage.server.url("http")):  # what is made once and stays
            with ib.open_model(url) as model:
                model(_X)
        before, found = Belongings.now(), []
        for figure in FIGURES:
            tell(figure.__name__)
            found.append(attempt(figure, stage))
        return (*found, left(before, Belongings.now()))


def main(arguments: Sequence[str]) -> None:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.resilience")
    parser.add_argument("--quick", action="store_true", help="see that it runs; no figures to keep")
    parser.add_argument("--table", type=Path, help="the Markdown file to write (standard output)")
    chosen = parser.parse_args(arguments)
    found = run(quick=chosen.quick, tell=lambda line: sys.stderr.write(f"{line}\n"))
    text = render(found, one_line(dt.datetime.now(dt.timezone.utc).date().isoformat()))
    if chosen.table is None:
        sys.stdout.write(text)
    else:
        chosen.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
