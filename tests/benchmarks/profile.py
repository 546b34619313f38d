"""``python -m tests.benchmarks.profile``: where the time of one call goes.

Of each call, with one caller: its time, what the client's process took of a processor outside of
the kernel and inside it, and what Triton says of itself (its own statistics). The same for a client
by hand, which does nothing but carry the bytes: what ours has over it is this library. No profiler
is in the way: the figures are the kernel's account of each process.
"""

from __future__ import annotations

import argparse
import cProfile
import datetime as dt
import io
import json
import pstats
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median
from time import perf_counter
from urllib.request import urlopen

from infer_backends_triton import LocalTriton
from tests.benchmarks.clients import Addresses, Call, open_sync
from tests.benchmarks.contenders import BY_NAME
from tests.benchmarks.machine import one_line
from tests.benchmarks.models import Array, array_of, write_repository
from tests.benchmarks.plan import BATCH, IMAGE, PAYLOADS
from tests.benchmarks.report import format_value, table
from tests.servers import environment

_CALLS = {16: 400, IMAGE: 30, BATCH: 8}
_ROUNDS = 5
_WHO = {"http": ("limit-http", "ours-http-inline"), "grpc": ("limit-grpc", "ours-grpc-inline")}
_PARTS = "total", "user", "kernel", "server"
_HEADS = "time", "client, own code", "client, kernel", "Triton's request", "rest"


@dataclass(frozen=True, slots=True)
class Share:
    """One call, in seconds.

    Attributes:
        total: Its median time.
        user: What the client's process took of a processor, outside of the kernel.
        kernel: The same inside the kernel: copies to and from sockets, wake-ups.
        server: Triton's own account, from a complete request to a complete answer: queue, input,
            model, output.
    """

    total: float
    user: float
    kernel: float
    server: float

    @property
    def rest(self) -> float:
        """What nobody accounts for: the server's reading and writing, and waits for a core.

        Below zero where client and server, or threads of the client, work at the same time.
        """
        return self.total - self.user - self.kernel - self.server


def middle(shares: Sequence[Share]) -> Share:
    """The median of each part."""
    return Share(*(median(getattr(share, part) for share in shares) for part in _PARTS))


def served(statistics: str) -> tuple[int, float]:
    """From Triton's statistics of a model: its requests, and the seconds they took together."""
    success = json.loads(statistics)["model_stats"][0]["inference_stats"]["success"]
    return success.get("count", 0), success.get("ns", 0) / 1e9


def take(call: Call, array: Array, calls: int, statistics: Callable[[], str]) -> Share:
    """Make some calls, and share their time out."""
    call(array)
    count, seconds = served(statistics())
    before, times = getrusage(RUSAGE_SELF), []
    for _ in range(calls):
        start = perf_counter()
        call(array)
        times.append(perf_counter() - start)
    after = getrusage(RUSAGE_SELF)
    new_count, new_seconds = served(statistics())
    return Share(
        median(times),
        (after.ru_utime - before.ru_utime) / calls,
        (after.ru_stime - before.ru_stime) / calls,
        (new_seconds - seconds) / max(new_count - count, 1),
    )


def rows(protocol: str, payload: int, shares: Sequence[tuple[str, Share]]) -> list[list[str]]:
    """The lines of a table: of who called, and what each part took."""
    label = {"http": "HTTP", "grpc": "gRPC"}[protocol]
    lines = []
    for who, share in shares:
        parts = share.total, share.user, share.kernel, share.server, share.rest
        lines.append(
            [label, PAYLOADS[payload], BY_NAME[who].label, *(_text(part) for part in parts)]
        )
    return lines


def _text(seconds: float) -> str:
    return f"-{format_value('wall', -seconds)}" if seconds < 0 else format_value("wall", seconds)


def functions(call: Call, array: Array, calls: int, lines: int = 12) -> str:
    """What Python's profiler says of the functions; its own cost is in the figures."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(calls):
        call(array)
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(lines)
    return text.getvalue()


def run(date: str, *, quick: bool = False, with_functions: bool = False) -> str:
    """Start a server, take all shares, and return them as Markdown."""
    lines: list[list[str]] = []
    profiles: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        repository = write_repository(Path(folder) / "models")
        arguments = ["--disable-auto-complete-config"]
        with LocalTriton(
            repository, environment=environment.find_or_build(), arguments=arguments
        ) as server:
            addresses = Addresses(server.ports.http, server.ports.grpc, Path(folder) / "none.onnx")

            def statistics() -> str:
                with urlopen(f"{server.http_url}/v2/models/echo/stats", timeout=10) as answer:
                    return str(answer.read(), "utf-8")

            for protocol, names in _WHO.items():
                calls = {name: open_sync(name, addresses)("echo") for name in names}
                for payload, number in _CALLS.items():
                    array, each = array_of(payload), 2 if quick else number
                    taken: dict[str, list[Share]] = {name: [] for name in names}
                    for _ in range(1 if quick else _ROUNDS):
                        for name in names:
                            taken[name].append(take(calls[name], array, each, statistics))
                    shares = [(name, middle(found)) for name, found in taken.items()]
                    lines += rows(protocol, payload, shares)
                    if with_functions:
                        title = f"{names[1]}, {PAYLOADS[payload]}"
                        profiles.append(f"{title}:{functions(calls[names[1]], array, each)}")
    text = [one_line(date), table(["protocol", "payload", "who", *_HEADS], lines), *profiles]
    return "\n\n".join(text) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.profile")
    parser.add_argument("--quick", action="store_true", help="see that it runs")
    parser.add_argument("--functions", action="store_true", help="add what Python's profiler says")
    parser.add_argument("--table", type=Path, help="the Markdown file to write (standard output)")
    chosen = parser.parse_args(arguments)
    date = dt.datetime.now(dt.timezone.utc).date().isoformat()
    text = run(date, quick=chosen.quick, with_functions=chosen.functions)
    if chosen.table is None:
        sys.stdout.write(text)
    else:
        chosen.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
