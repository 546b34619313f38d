"""``infer-backends map``: a model over any number of samples in files."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from infer_backends._backend import Array
from infer_backends._cli._arrays import BadFile
from infer_backends._cli._console import note
from infer_backends._cli._failures import FAILED, Failure, describe, traceback_option
from infer_backends._cli._inputs import BadInput
from infer_backends._cli._map_files import Folder, RowFiles, missing_rows, numbered
from infer_backends._cli._map_inputs import SampleFiles, SampleRows, read_samples
from infer_backends._cli._models import open_from_terminal, timeout_option, url_argument
from infer_backends._cli._strangers import strangers_aside
from infer_backends._errors import (
    InferError,
    ModelNotFound,
    PermissionDenied,
    TLSError,
    Unavailable,
)
from infer_backends._model import CONCURRENCY, Model
from infer_backends._progress import progress_of

#: So many requests in a row that nobody answered end the run: more would hardly fare better.
_PATIENCE = 8
_NOBODY = (Unavailable, PermissionDenied, TLSError, ModelNotFound)
_ROWS_PER_FILE = 1000


def _batch_size(_ctx: click.Context, _parameter: click.Parameter, value: str) -> int | str:
    if value == "auto":
        return value
    if not value.isdecimal() or not int(value):
        raise click.BadParameter(f"{value!r} is not auto, nor a whole number from 1 on")
    return int(value)


@click.command(name="map")
@url_argument
@click.argument("inputs", type=click.Path(path_type=Path))
@click.argument("outputs", type=click.Path(path_type=Path))
@click.option("--batch-size", callback=_batch_size, default="auto", show_default=True,
              metavar="N|auto",
              help="Samples in one request; auto is what the model likes.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(min=1), default=CONCURRENCY,
              show_default=True, metavar="N", help="Requests at the same time.")  # fmt: skip
@click.option("--on-error", type=click.Choice(["continue", "stop"]), default="continue",
              show_default=True, help="What to do when a sample fails.")  # fmt: skip
@click.option("--outputs", "names", metavar="NAME,...",
              help="The outputs wanted; all by default.")  # fmt: skip
@click.option("--rows-per-file", type=click.IntRange(min=1), default=_ROWS_PER_FILE,
              show_default=True, metavar="N",
              help="The most rows in one file of outputs, when INPUTS is a file.")  # fmt: skip
@click.option("--strings", type=click.Choice(["fixed", "packed"]), default="fixed",
              show_default=True, help="How BYTES outputs are written: as NumPy's strings of fixed "
              "length, or as NAME.bytes and NAME.lengths, which hold any.")  # fmt: skip
@click.option("--progress/--no-progress", default=None,
              help="Show a progress bar on standard error; by default in a terminal.")  # fmt: skip
@timeout_option
@traceback_option
@click.pass_context
def map_(  # noqa: PLR0913 - the options of the command
    ctx: click.Context,
    /,
    *,
    url: str,
    inputs: Path,
    outputs: Path,
    names: str | None,
    rows_per_file: int,
    strings: str,
    progress: bool | None,
    timeout: float | None,
    **options: Any,
) -> None:
    """Run the model at URL on every sample of INPUTS, and write what it makes of each to OUTPUTS.

    INPUTS is a folder of .npy and .npz files, each one sample: an array, or arrays by input name,
    without the batch axis. OUTPUTS then has a .npz file for each of them. Or INPUTS is one .npz
    file, and every row of its arrays a sample; OUTPUTS then has files rows-FIRST-LAST.npz.

    What OUTPUTS has already is not made again, so the same command goes on after it was stopped.
    A sample that fails is told on standard error, and the exit code is 1. Files are read and
    written without pickle.

    Example: infer-backends map http://localhost:8000/digits samples/ results/
    """
    wanted = None if names is None else [name.strip() for name in names.split(",")]
    try:
        samples = read_samples(inputs)
        folder = Folder(outputs, packed=strings == "packed")
        _require_other_folder(inputs, outputs)
        with folder.open():
            work = (
                _OfFiles(samples, folder)
                if isinstance(samples, SampleFiles)
                else _OfRows(samples, folder, rows_per_file)
            )
            if work.todo:
                with strangers_aside(), open_from_terminal(url, timeout) as model:
                    samples.check(model.metadata)
                    shown = sys.stderr.isatty() if progress is None else progress
                    run = _Run(work, model, stop=options.pop("on_error") == "stop")
                    run.go(shown, outputs=wanted, timeout=timeout, **options)
            else:
                note(f"nothing to do: all {work.skipped} samples have outputs")
                return
    except BadInput as exc:
        raise click.UsageError(str(exc)) from exc
    if run.failed:
        ctx.exit(FAILED)


def _require_other_folder(inputs: Path, outputs: Path) -> None:
    if outputs.exists() and inputs.is_dir() and outputs.samefile(inputs):
        raise BadInput("OUTPUTS is the folder of the inputs: take another one")


class _OfFiles:
    """One file of outputs for each file of inputs.

    Attributes:
        todo: The numbers of the samples that have no outputs yet.
        skipped: How many have.
        ordered: Whether outputs have to come in order.
        samples: The inputs.
    """

    ordered = False

    def __init__(self, samples: SampleFiles, folder: Folder) -> None:
        self.samples = samples
        self._folder = folder
        there = {path.name for path in folder.path.iterdir()}
        self.todo: Sequence[int] = [
            number for number in range(len(samples.paths)) if self._output(number) not in there
        ]
        self.skipped = len(samples.paths) - len(self.todo)
        samples.say_what_is_left_out()

    def _output(self, number: int) -> str:
        return f"{self.samples.paths[number].stem}.npz"

    def name(self, first: int, last: int) -> str:  # noqa: ARG002 - each is told by itself
        return self.samples.paths[first].name

    def joins(self, last: int, number: int) -> bool:  # noqa: ARG002
        return False

    def write(self, number: int, outputs: Mapping[str, Array]) -> None:
        self._folder.require_storable(outputs)
        self._folder.write(self._output(number), outputs)

    def flush(self) -> None:
        """Nothing is kept back."""


class _OfRows:
    """Files of some rows each. The attributes are those of :class:`_OfFiles`."""

    ordered = True

    def __init__(self, samples: SampleRows, folder: Folder, most: int) -> None:
        self.samples = samples
        self._files = RowFiles(folder, most)
        self.todo = numbered(missing_rows(folder.path, samples.count))
        self.skipped = samples.count - len(self.todo)

    def name(self, first: int, last: int) -> str:
        return f"row {first}" if first == last else f"rows {first} to {last}"

    def joins(self, last: int, number: int) -> bool:
        return number == last + 1

    def write(self, number: int, outputs: Mapping[str, Array]) -> None:
        self._files.add(number, outputs)

    def flush(self) -> None:
        self._files.flush()


class _Run:
    """Goes through all samples, and tells what became of them.

    Attributes:
        failed: How many failed.
    """

    def __init__(self, work: _OfFiles | _OfRows, model: Model, *, stop: bool) -> None:
        self._work = work
        self._model = model
        self._stop = stop
        self._given: deque[int] = deque()
        self._numbers: dict[int, int] = {}
        self._failures = _Failures(work)
        self._unanswered = 0
        self._last: BaseException | None = None
        self._by: Counter[str] = Counter()
        self.failed = 0

    def go(self, shown: bool, **options: Any) -> None:
        """Work through all of it; what ended it early is raised after the summary."""
        started = time.monotonic()
        samples: Any = self._samples()
        results: Any = self._model.map(
            samples, ordered=self._work.ordered, on_error="return", **options
        )
        try:
            bar = progress_of(self._work.todo, wanted=shown)
            with bar as self._advance, closing(samples), closing(results):
                for outcome in results:
                    self._take(outcome)
        finally:
            try:
                self._work.flush()
            finally:
                self._failures.flush()
                self._summarise(time.monotonic() - started)

    def _samples(self) -> Iterator[Mapping[str, Array]]:
        read = self._work.samples.read(self._work.todo, self._model.metadata, self._fail)
        for index, (number, sample) in enumerate(read):
            self._numbers[index] = number
            yield sample

    def _take(self, outcome: Any) -> None:
        number = self._numbers.pop(outcome.sample_index)
        if isinstance(outcome, InferError):
            cause = outcome.__cause__ or outcome
            self._fail(number, describe(cause))
            self._require_answers(cause)
            return
        self._unanswered = 0
        try:
            self._work.write(number, outcome)
        except BadFile as exc:
            self._fail(number, str(exc))
            return
        self._by[outcome.backend_url] += 1
        self._advance()

    def _fail(self, number: int, reason: str) -> None:
        self.failed += 1
        self._failures.add(number, reason)
        self._advance()
        if self._stop:
            raise Failure("stopped at the first sample that failed, as --on-error says")

    def _require_answers(self, cause: BaseException) -> None:
        # The samples of one request have one cause.
        if isinstance(cause, _NOBODY) and cause is not self._last:
            self._unanswered += 1
        self._last = cause
        if self._unanswered == _PATIENCE:
            raise Failure(
                f"stopped: {_PATIENCE} requests in a row had no answer; what is finished stays, "
                "and the same command goes on from there"
            )

    def _summarise(self, seconds: float) -> None:
        done = sum(self._by.values())
        rate = f"{done / seconds:.1f}" if seconds > 0 else "-"
        note(
            f"done {done}, skipped {self._work.skipped}, failed {self.failed} in {seconds:.1f} s: "
            f"{rate} samples/s"
        )
        for url, count in self._by.most_common():
            note(f"answered by {url}: {count}")


class _Failures:
    """Tells of samples that failed; of some in a row with one reason in one line."""

    def __init__(self, work: _OfFiles | _OfRows) -> None:
        self._work = work
        self._first = self._last = 0
        self._reason: str | None = None

    def add(self, number: int, reason: str) -> None:
        """One more."""
        if reason == self._reason and self._work.joins(self._last, number):
            self._last = number
            return
        self.flush()
        self._first = self._last = number
        self._reason = reason

    def flush(self) -> None:
        """Tell what was not told yet."""
        if self._reason is not None:
            note(f"failed: {self._work.name(self._first, self._last)}: {self._reason}")
        self._reason = None
