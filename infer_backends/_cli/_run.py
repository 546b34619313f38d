"""``infer-backends run``: one call of a model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.text import Text

from infer_backends._backend import Array
from infer_backends._cli._arrays import BadFile, write_npy, write_npz
from infer_backends._cli._console import console, note, plain, plain_lines, table
from infer_backends._cli._failures import Failure, describe, traceback_option
from infer_backends._cli._inputs import BadInput, bind_inputs, read_input
from infer_backends._cli._json import outputs_to_json
from infer_backends._cli._models import (
    input_option,
    open_from_terminal,
    timeout_option,
    url_argument,
)
from infer_backends._cli._strangers import strangers_aside
from infer_backends._result import InferResult
from infer_backends._tensors import ModelMetadata

STDOUT = "-"
_SUFFIXES = (".npy", ".npz", ".json")
_LONGEST_STRING = 40


@click.command()
@url_argument
@input_option
@click.option(
    "--output",
    metavar="FILE",
    help="Write the outputs to a .npz, .npy (one output) or .json file, or - for JSON on "
    "standard output. Without it, they are shown.",
)
@click.option(
    "--outputs",
    "names",
    metavar="NAME,...",
    help="The outputs wanted, in the order wanted; all by default.",
)
@timeout_option
@traceback_option
def run(
    url: str,
    arguments: tuple[str, ...],
    output: str | None,
    names: str | None,
    timeout: float | None,
) -> None:
    """Run the model at URL once.

    Who answered is said on standard error. Files are read and written without pickle.

    Example: infer-backends run http://localhost:8000/digits --input image=@x.npy --output y.npz
    """
    try:
        given = [read_input(argument) for argument in arguments]
        wanted = None if names is None else [name.strip() for name in names.split(",")]
        _require_writable(output)
        with strangers_aside(), open_from_terminal(url, timeout) as model:
            _require_one_output(output, wanted, model.metadata)
            inputs = bind_inputs(given, model.metadata)
            result, seconds = _call(model.infer, inputs, outputs=wanted, timeout=timeout)
    except BadInput as exc:
        raise click.UsageError(str(exc)) from exc
    _say_who_answered(result, seconds)
    _write(result, output)


def _call(infer: Any, inputs: Mapping[str, Any], **options: Any) -> tuple[InferResult, float]:
    started = time.monotonic()
    result: InferResult = infer(inputs, **options)
    return result, time.monotonic() - started


def _require_writable(output: str | None) -> None:
    """Refuse a file that could not be written before the model is run."""
    if output is None or output == STDOUT:
        return
    path = Path(output)
    if path.suffix.lower() not in _SUFFIXES:
        raise BadInput(f"--output {output!r}: expected a file that ends in .npz, .npy or .json")
    if not path.parent.is_dir() or path.is_dir():
        raise BadInput(f"--output {output!r}: expected a file in a folder that exists")


def _require_one_output(
    output: str | None, wanted: list[str] | None, metadata: ModelMetadata
) -> None:
    count = len(metadata.outputs if wanted is None else wanted)
    if output is not None and output.lower().endswith(".npy") and count != 1:
        raise BadInput(
            f"--output {output!r} holds one array, and there are {count} outputs: write a .npz "
            "file, or choose one with --outputs"
        )


def _say_who_answered(result: InferResult, seconds: float) -> None:
    for attempt in result.attempts:
        note(f"no answer from {attempt.url}: {describe(attempt.error)}")
    version = f", version {result.model_version}" if result.model_version else ""
    note(f"answered by {result.backend_url}{version} in {seconds * 1000:.1f} ms")


def _write(outputs: Mapping[str, Array], output: str | None) -> None:
    if output is None:
        _show(outputs)
        return
    if output == STDOUT:
        click.echo(outputs_to_json(outputs), nl=False)
        return
    path = Path(output)
    try:
        if path.suffix.lower() == ".json":
            path.write_text(outputs_to_json(outputs), encoding="ascii")
        elif path.suffix.lower() == ".npz":
            write_npz(path, outputs)
        else:
            ((name, array),) = outputs.items()
            write_npy(path, name, array)
    except OSError as exc:
        raise Failure(f"{output!r} cannot be written: {exc.strerror or exc}") from exc
    except BadFile as exc:
        raise Failure(f"{output!r} was not written: {exc}") from exc


def _show(outputs: Mapping[str, Array]) -> None:
    listing = table("output", "dtype", "shape", "values")
    for name, array in outputs.items():
        shape = ", ".join(map(str, array.shape))
        dtype = "bytes" if array.dtype == object else str(array.dtype)
        listing.add_row(plain(name, "bold"), dtype, plain(f"[{shape}]"), _preview(array))
    console().print(listing)


def _preview(array: Array) -> Text:
    text = np.array2string(
        array,
        precision=4,
        suppress_small=True,
        threshold=60,
        edgeitems=3,
        max_line_width=72,
        formatter={"object": _shorten},
    )
    return plain_lines(text)


def _shorten(element: Any) -> str:
    text = repr(element[:_LONGEST_STRING])
    return text if len(element) <= _LONGEST_STRING else f"{text}..."
