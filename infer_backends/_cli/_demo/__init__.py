"""``infer-backends demo``: handwritten digits, a real Triton, and what happens when it stops."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from infer_backends._cli._console import console, plain, plain_lines
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
from infer_backends._errors import MissingDependency, UnknownScheme, UnsupportedOperation
from infer_backends._open import open_model
from infer_backends._registry import REGISTRY

_SHOWN = 6
#: Columns: of titles at most, and of the space to the left of everything else.
_WIDTH = 80
#: And of everything, where it is no terminal.
_REDIRECTED = 100
_INDENT = (0, 0, 0, 2)
#: The model got this many right when it was made; other builds of the runtime may round apart.
_ACCURACY = 0.97


@click.command()
@traceback_option
def demo() -> None:
    """Read handwritten digits over HTTP, over gRPC and locally, and stop the server on the way.

    Starts a real Triton on this machine (on Linux, with the extra `demo`) and takes about ten
    seconds.
    """
    out = console(_REDIRECTED)
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
            MissingDependency: The local runtime is not installed; nothing has been shown then.
            UnknownScheme: Nor is its plugin.
        """
        REGISTRY.find("onnx").check("onnx")
        self._introduce()
        with contextlib.ExitStack() as stack:
            try:
                server = self._start_triton(stack)
            except (MissingDependency, UnknownScheme, UnsupportedOperation) as exc:
                # One line, whatever the width: it says what to type.
                reason = plain(f"  Triton cannot run here, so this is the local part: {exc}")
                self._out.print(reason, soft_wrap=True)
                self._out.print()
                self._compare([self._ask_locally()])
            else:
                local = self._ask_everywhere(server)
                self._stop_and_start(server, local)
        seconds = time.monotonic() - self._started
        self._out.print(f"All of it went well, in {seconds:.0f} seconds.", style="bold green")

    def _introduce(self) -> None:
        self._title("Handwritten digits that the model has never seen")
        images = [self._digits.images[index] for index in self._shown]
        self._print(draw_digits(images, self._palette.shades))
        words = [str(self._digits.labels[index]) for index in self._shown]
        self._print(captions(words), style="dim")
        self._print(f"\n{_SHOWN} of {len(self._digits.labels)}, and what they are.\n")

    def _start_triton(self, stack: contextlib.ExitStack) -> LocalServer:
        started = time.monotonic()
        server = local_triton({MODEL_NAME: MODEL_PATH})
        for scheme in ("http", "grpc"):
            REGISTRY.find(scheme).check(scheme)
        with self._out.status("Starting a real Triton that serves the model ..."):
            stack.enter_context(server)
        seconds = time.monotonic() - started
        self._print(f"A real Triton serves the model now; it took {seconds:.1f} s to start.\n")
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
            self._print(f"open_model('{_shorten(answer.url)}')", style="dim")
        self._out.print()
        self._print(comparison_table(answers, self._digits, self._shown))
        self._out.print()
        for answer in answers:
            if self._digits.accuracy(answer.probabilities) < _ACCURACY:
                raise Failure(f"{answer.url} recognises too few digits")
            if difference(answer, answers[-1]) > TOLERANCE:
                raise Failure(f"{answer.url} and {answers[-1].url} do not agree")

    def _stop_and_start(self, server: LocalServer, expected: Answer) -> None:
        remote, local = f"{server.grpc_url}/{MODEL_NAME}", expected.url
        self._title("The server stops in the middle of a stream of calls")
        self._print(f"open_model('{remote} {_shorten(local)}')\n", style="dim")
        log = Log()
        # Seen in a terminal while it runs; what stays is printed afterwards, everywhere alike.
        view = Live(console=self._out, refresh_per_second=8, transient=True)

        def picture() -> Padding:
            return Padding(timeline(log, remote, local, self._palette), _INDENT, expand=False)

        def show() -> None:
            view.update(picture())

        with open_model([remote, MODEL_PATH], timeout=5.0) as model, view:
            stream = Stream(model, self._digits, expected.probabilities, log, show)
            complete = run_outage(stream, server, log, remote, local)
        self._out.print(picture())
        self._sum_up(log, complete)

    def _sum_up(self, log: Log, complete: bool) -> None:
        counts = log.counts()
        right = sum(counts.values())
        self._print(f"\n{len(log.urls):,} calls, {right:,} right answers:", style="bold")
        for url, count in counts.items():
            self._print(f"{count:>7,} from {_shorten(url)}")
        self._print(f"The slowest took {log.slowest * 1000:.0f} ms.\n")
        if log.lost:
            raise Failure(f"{len(log.lost)} calls were lost; the first: {log.lost[0]}")
        if log.wrong:
            raise Failure(f"{log.wrong} answers were not the model's")
        if not complete:
            raise Failure("the calls did not go to the local model and back in time")

    def _print(self, what: RenderableType, style: str = "") -> None:
        text = plain_lines(what) if isinstance(what, str) else what
        self._out.print(Padding(text, _INDENT, expand=False), style=style)

    def _title(self, text: str) -> None:
        width = min(self._out.width, _WIDTH)
        self._out.print(Rule(Text(text, "bold"), align="left", style="dim"), width=width)
        self._out.print()


def _shorten(url: str) -> str:
    """A URL for a narrow terminal: of a local model, no more than the name of its file."""
    scheme, colon, path = url.partition(":")
    if path.startswith("//"):
        return url
    return f"{scheme}{colon}.../{path.rpartition('/')[2]}"


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep the library's warnings from the terminal: the demo shows the same events itself."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
