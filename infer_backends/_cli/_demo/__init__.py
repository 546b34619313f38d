"""``infer-backends demo``: handwritten digits, a real Triton, and what happens when it stops."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

import click
from rich.console import Console
from rich.live import Live

from infer_backends._cli._console import console, one_line, plain
from infer_backends._cli._demo._comparison import (
    TOLERANCE,
    Answer,
    ask,
    comparison_table,
    difference,
)
from infer_backends._cli._demo._digits import MODEL_NAME, MODEL_PATH, held_out_digits
from infer_backends._cli._demo._drawing import captions, draw_digits, palette
from infer_backends._cli._demo._outage import Log, Stream, run_outage
from infer_backends._cli._demo._timeline import timeline
from infer_backends._cli._failures import Failure, traceback_option
from infer_backends._cli._signals import interruptible
from infer_backends._cli._triton import LocalServer, local_triton
from infer_backends._errors import MissingDependency, UnsupportedOperation
from infer_backends._open import open_model

_SHOWN = 6
#: The model got this many right when it was made; other builds of the runtime may round apart.
_ACCURACY = 0.97


@click.command()
@traceback_option
def demo() -> None:
    """Read handwritten digits over HTTP, over gRPC and locally, and stop the server on the way.

    Starts a real Triton on this machine (on Linux, with the extra `demo`) and takes half a minute.
    """
    out = console()
    with interruptible(), _without_log():
        Demo(out).run()


class Demo:
    """One performance.

    Args:
        out: Where it is shown.
    """

    def __init__(self, out: Console) -> None:
        self._out = out
        self._palette = palette(out)
        self._digits = held_out_digits()
        self._shown = self._digits.some(_SHOWN)
        self._started = time.monotonic()

    def run(self) -> None:
        """All of it.

        Raises:
            Failure: An answer was wrong, missing, or from another backend than it should be.
        """
        self._introduce()
        with contextlib.ExitStack() as stack:
            try:
                server = self._start_triton(stack)
            except (MissingDependency, UnsupportedOperation) as exc:
                self._out.print(plain(f"  Triton cannot run here: {exc}"), soft_wrap=True)
                self._out.print("  So the model runs in this process alone.\n")
                self._compare([self._ask_locally()])
            else:
                local = self._ask_everywhere(server)
                self._stop_and_start(server, local)
        seconds = time.monotonic() - self._started
        self._out.print(f"All of it went well, in {seconds:.0f} seconds.", style="bold green")

    def _introduce(self) -> None:
        count = len(self._digits.labels)
        self._title("Handwritten digits that the model has never seen")
        images = [self._digits.images[index] for index in self._shown]
        self._out.print(draw_digits(images, self._palette.shades))
        words = [str(self._digits.labels[index]) for index in self._shown]
        self._out.print(captions(words), style="dim")
        self._out.print(f"  {_SHOWN} of {count}, with what they are.\n", style="dim")

    def _start_triton(self, stack: contextlib.ExitStack) -> LocalServer:
        started = time.monotonic()
        with self._out.status("Starting a real Triton with that very model ..."):
            server = stack.enter_context(local_triton({MODEL_NAME: MODEL_PATH}))
        seconds = time.monotonic() - started
        self._out.print(f"  A real Triton serves that very model, after {seconds:.1f} s.\n")
        return server

    def _ask_locally(self) -> Answer:
        return ask("onnxruntime, here", MODEL_PATH, self._digits)

    def _ask_everywhere(self, server: LocalServer) -> Answer:
        answers = [
            ask("Triton over HTTP", f"{server.http_url}/{MODEL_NAME}", self._digits),
            ask("Triton over gRPC", f"{server.grpc_url}/{MODEL_NAME}", self._digits),
            self._ask_locally(),
        ]
        self._compare(answers)
        return answers[-1]

    def _compare(self, answers: list[Answer]) -> None:
        self._title("The same call, wherever the model runs")
        for answer in answers:
            self._out.print(f"  open_model({answer.url!r})", soft_wrap=True, style="dim")
        self._out.print(comparison_table(answers, self._digits, self._shown))
        for answer in answers:
            if self._digits.accuracy(answer.probabilities) < _ACCURACY:
                raise Failure(f"{answer.url} recognises too few digits")
            if difference(answer, answers[-1]) > TOLERANCE:
                raise Failure(f"{answer.url} and {answers[-1].url} do not agree")

    def _stop_and_start(self, server: LocalServer, expected: Answer) -> None:
        remote, local = f"{server.grpc_url}/{MODEL_NAME}", MODEL_PATH
        self._title("The server stops in the middle of a stream of calls")
        log = Log()
        with open_model([remote, local], timeout=5.0) as model:
            remote_url = remote
            view = Live(console=self._out, refresh_per_second=8)

            def show() -> None:
                view.update(timeline(log, remote_url, expected.url, self._palette))

            stream = Stream(model, self._digits, expected.probabilities, log, show)
            with view:
                complete = run_outage(stream, server, log, remote_url, expected.url)
                show()
        self._sum_up(log, complete)

    def _sum_up(self, log: Log, complete: bool) -> None:
        counts = " and ".join(
            f"{count:,} by {one_line(url)}" for url, count in log.counts().items()
        )
        answered = sum(log.counts().values())
        self._out.print(
            f"\n  {len(log.urls):,} calls, {answered:,} right answers: {counts}.", soft_wrap=True
        )
        if log.lost:
            raise Failure(f"{len(log.lost)} calls were lost; the first: {log.lost[0]}")
        if log.wrong:
            raise Failure(f"{log.wrong} answers were not the model's")
        if not complete:
            raise Failure("the calls did not go to the local model and back in time")
        self._out.print(f"  None was lost; the slowest took {log.slowest * 1000:.0f} ms.\n")

    def _title(self, text: str) -> None:
        self._out.rule(f"[bold]{text}", align="left", style="dim")


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep the library's warnings from the terminal: the demo shows the same events itself."""
    logger = logging.getLogger("infer_backends")
    before = logger.propagate
    handler = logging.NullHandler()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = before
        logger.removeHandler(handler)
