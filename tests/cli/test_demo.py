"""``infer-backends demo``: all of it on a real Triton, and what it says when something is wrong."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console

import infer_backends as ib
from infer_backends._cli import _demo, _triton
from infer_backends._cli._demo import _outage
from infer_backends._cli._demo._comparison import Answer, difference
from infer_backends._cli._demo._digits import Digits, held_out_digits
from infer_backends._cli._demo._drawing import captions, draw_digits, palette
from infer_backends._cli._demo._outage import Log, Stream, run_outage
from infer_backends._cli._demo._timeline import timeline
from infer_backends._cli._failures import Failure
from infer_backends.plugin import (
    Array,
    Attempt,
    DataType,
    InferError,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelNotFound,
    TensorSpec,
    Unavailable,
)
from tests.cli.conftest import Invoke, start

REMOTE, LOCAL = "grpc://h/digits", "onnx:digits.onnx"


def test_the_whole_demo_on_a_real_triton(
    invoke: Invoke, triton_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFER_BACKENDS_TRITON_ENVIRONMENT", str(triton_environment))
    result = invoke("demo")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert [line for line in result.stdout.splitlines() if line != line.rstrip()] == []
    words = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for who in ("Triton over HTTP", "Triton over gRPC", "onnxruntime, here"):
        (row,) = (line for line in words if line.startswith(f"{who} 0 "))
        assert "0 6 1 7 3 5 53" in row
        assert " of 540 (98." in row
    assert any("Triton is told to stop" in line for line in words)
    assert any("the local model answers, after " in line for line in words)
    assert any("Triton answers again" in line for line in words)
    (total,) = (line for line in words if line.endswith("right answers:"))
    calls, right = total.split(" calls, ")
    assert right == f"{calls} right answers:"
    assert words[-1].startswith("All of it went well")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_ends_the_demo_and_its_server(
    triton_environment: Path, number: signal.Signals
) -> None:
    running = start("demo", INFER_BACKENDS_TRITON_ENVIRONMENT=str(triton_environment))
    assert running.stdout is not None
    try:
        while "The server stops" not in running.stdout.readline():
            assert running.poll() is None
        children = psutil.Process(running.pid).children(recursive=True)
        assert any(child.name() == "tritonserver" for child in children)
        running.send_signal(number)
    finally:
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in stderr
    assert not any(child.is_running() for child in children)


def test_where_triton_cannot_run_the_local_part_does(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_triton, "_PACKAGE", "infer_backends_gone")
    result = invoke("demo")
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.stdout.splitlines() if "Triton cannot run here" in line)
    assert line.endswith("pip install 'infer-backends-triton[http,grpc,server]'")
    assert "531 of 540" in result.stdout
    assert "Triton over" not in result.stdout


def test_a_missing_local_runtime_is_said_before_anything_else(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFER_BACKENDS_DISABLE", "onnx")
    result = invoke("demo")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the scheme 'onnx' of infer-backends-onnxruntime" in result.stderr
    assert "is disabled by INFER_BACKENDS_DISABLE" in result.stderr


def test_without_a_protocol_the_local_part_runs(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFER_BACKENDS_DISABLE", "grpc")
    result = invoke("demo")
    assert result.exit_code == 0, result.output
    assert "the scheme 'grpc' of infer-backends-triton" in result.stdout
    assert "is disabled by INFER_BACKENDS_DISABLE" in result.stdout
    assert "531 of 540" in result.stdout


def test_a_model_that_is_mostly_wrong_fails_the_demo(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = held_out_digits()
    wrong = Digits(digits.images, ((digits.labels + 1) % 10).astype(np.uint8))
    monkeypatch.setattr(_triton, "_PACKAGE", "infer_backends_gone")
    monkeypatch.setattr(_demo, "held_out_digits", lambda: wrong)
    result = invoke("demo")
    assert result.exit_code == 1
    assert "recognises too few digits" in result.stderr
    assert "went well" not in result.stdout


@pytest.fixture
def demo() -> _demo.Demo:
    return _demo.Demo(Console(file=io.StringIO(), width=80))


def test_backends_that_differ_fail_the_demo(demo: _demo.Demo) -> None:
    right = np.eye(10, dtype=np.float32)[held_out_digits().labels]
    local = Answer("here", LOCAL, right)
    with pytest.raises(Failure, match=f"{REMOTE} and {LOCAL} do not agree"):
        demo._compare([Answer("there", REMOTE, right * 0.99), local])
    assert difference(Answer("there", REMOTE, right[:3]), local) == float("inf")


@pytest.mark.parametrize(
    ("log", "complete", "message"),
    [
        (Log([""], lost=[Unavailable("gone")]), True, "1 calls were lost; the first: gone"),
        (Log([""], wrong=1), True, "1 answers were not the model's"),
        (Log([REMOTE]), False, "did not go to the local model and back in time"),
    ],
)
def test_a_stream_that_went_wrong_fails_the_demo(
    demo: _demo.Demo, log: Log, complete: bool, message: str
) -> None:
    with pytest.raises(Failure, match=message):
        demo._sum_up(log, complete)


class Switching:
    """A model whose answers come from where, and are as, the test says."""

    metadata = ModelMetadata(
        "digits",
        (),
        "memory",
        (TensorSpec("image", DataType.FP32, (-1, 64)),),
        (TensorSpec("probabilities", DataType.FP32, (-1, 10)),),
    )

    refusal: InferError = Unavailable("refused")

    def __init__(self) -> None:
        self.url = REMOTE
        self.answer: Callable[[], Array] = lambda: np.zeros((1, 10), np.float32)

    def infer(self, request: InferRequest) -> InferResponse:
        attempts: tuple[Attempt, ...] = ()
        if self.url != REMOTE:
            attempts = (Attempt(REMOTE, self.refusal, 0.0, 0.0),)
        outputs = {"probabilities": self.answer()}
        return InferResponse(outputs, backend_url=self.url, attempts=attempts)

    def close(self) -> None: ...


class Server:
    """Stops and starts at once; with ``gone``, only says that it has started."""

    http_url = grpc_url = "unused"
    pid = None

    def __init__(self, backend: Switching, gone: bool = False) -> None:
        self.backend = backend
        self.gone = gone

    def stop(self) -> None:
        self.backend.url = LOCAL

    def start(self) -> None:
        self.backend.url = LOCAL if self.gone else REMOTE


def outage(
    backend: Switching, monkeypatch: pytest.MonkeyPatch, *, gone: bool = False
) -> tuple[Log, bool]:
    monkeypatch.setattr(_outage, "PACE", 0.0)
    log = Log()
    expected = np.zeros((540, 10), np.float32)
    with ib.Model(backend) as model:
        stream = Stream(model, held_out_digits(), expected, log, lambda: None)
        server = Server(backend, gone)
        return log, run_outage(stream, server, log, REMOTE, LOCAL)  # type: ignore[arg-type]


def test_a_stream_goes_to_the_local_model_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    log, complete = outage(Switching(), monkeypatch)
    assert complete
    assert not log.lost
    assert not log.wrong
    assert set(log.counts()) == {REMOTE, LOCAL}
    assert [event.call for event in log.events] == sorted(event.call for event in log.events)
    assert "the local model answers, after Unavailable: refused" in [e.text for e in log.events]


def test_a_model_that_is_gone_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Switching, "refusal", ModelNotFound("no model"))
    log, _ = outage(Switching(), monkeypatch)
    assert "the local model answers, after ModelNotFound (the server is stopping): no model" in [
        event.text for event in log.events
    ]


def test_lost_and_wrong_answers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Switching()
    answers = iter(range(1_000_000))

    def answer() -> Array:
        number = next(answers)
        if number == 1:
            raise Unavailable("refused")
        return np.full((1, 10), number == 2, np.float32)

    backend.answer = answer
    log, complete = outage(backend, monkeypatch)
    assert complete
    assert (len(log.lost), log.wrong) == (1, 1)
    assert log.urls[:4] == [REMOTE, "", "", REMOTE]


def test_a_server_that_never_answers_or_never_returns_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_outage, "PATIENCE", 0.2)
    assert not outage(Switching(), monkeypatch, gone=True)[1]
    never = Switching()
    never.url = LOCAL
    assert not outage(never, monkeypatch)[1]


def test_digits_are_drawn_in_shades_in_colours_and_in_ascii() -> None:
    image = np.zeros((8, 8), np.uint8)
    image[0, 1:7] = (0, 4, 8, 12, 16, 16)
    assert draw_digits([image.ravel()], " ░▒▓█").plain.splitlines()[0] == "  ░░▒▒▓▓████"
    assert draw_digits([image.ravel()] * 2, " .:*#").plain.splitlines()[0] == (
        "  ..::**####" + " " + "  ..::**####"
    )
    coloured = draw_digits([image.ravel()], "")
    assert not coloured.plain.strip()
    assert len({str(span.style) for span in coloured.spans}) == 5
    assert captions(["0", "6"]) == "     0            6"


def test_the_demo_fits_into_80_columns(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(_triton, "_PACKAGE", "infer_backends_gone")
    lines = invoke("demo").stdout.splitlines()
    drawn = [line for line in lines if "█" in line or "▒" in line]
    assert len(drawn) == 8
    # The last digit is a five, whose upper stroke goes to the right end.
    assert drawn[0].endswith("  ▓▓████████")
    long = [line for line in lines if len(line.rstrip()) > 80]
    assert [line for line in long if "Triton cannot run here" not in line] == []


def test_the_palette_is_what_the_terminal_can_show() -> None:
    colours = Console(force_terminal=True, color_system="truecolor", no_color=False)
    assert palette(colours).shades == ""
    assert palette(Console(color_system=None)).shades == " ░▒▓█"
    assert palette(Console(color_system="truecolor", no_color=True)).shades == " ░▒▓█"
    ascii_only = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert palette(ascii_only).server == "#"


def test_the_timeline_marks_who_answered_and_what_was_lost() -> None:
    out = Console(file=io.StringIO(), width=80)
    log = Log([REMOTE] * 20 * 69 + [LOCAL] * 40 + [LOCAL] * 19 + [""])
    log.note("it said " + "blah " * 100)
    out.print(timeline(log, REMOTE, LOCAL, palette(out)))
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert lines[0] == "█" * 69 + "░"
    assert lines[1] == "░X"
    assert lines[-1].rstrip().endswith("...")
