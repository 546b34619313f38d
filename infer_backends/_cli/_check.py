"""``infer-backends check``: whether every member answers, and all of them the same."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import click
from rich.table import Table

from infer_backends._agreement import Tolerance
from infer_backends._backend import Array, Member
from infer_backends._binding import Binder
from infer_backends._cli._console import console, one_line, plain, table
from infer_backends._cli._failures import (
    FAILED,
    USAGE,
    describe,
    exit_code,
    traceback_option,
)
from infer_backends._cli._inputs import BadInput, Given, bind_inputs, read_input
from infer_backends._cli._json import document
from infer_backends._cli._models import input_option, urls_from_terminal
from infer_backends._cli._strangers import strangers_aside
from infer_backends._deadline import Deadline
from infer_backends._errors import InferError
from infer_backends._members import members_of
from infer_backends._open import open_model
from infer_backends._registry import REGISTRY
from infer_backends._remote_model import DEFAULT_TIMEOUT
from infer_backends._resilience._parity import differences
from infer_backends._samples import sample
from infer_backends._tensors import ModelMetadata
from infer_backends._text_table import milliseconds
from infer_backends._url import ModelURL
from infer_backends._verification import MemberVerification, verify


@dataclass(slots=True)
class _Checked:
    """What was found out about one member.

    Attributes:
        url: Its URL, secrets masked.
        seconds: How long it took until it had said what its model is, or had not.
        error: Why it did not.
        member: The member, once it has.
        metadata: What its model is.
        differing: In what its model differs from that of the first member.
        answer: What it made of the request; None when it was not asked.
    """

    url: str
    seconds: float
    error: InferError | None = None
    member: Member | None = None
    metadata: ModelMetadata | None = None
    differing: Sequence[str] = ()
    answer: MemberVerification | None = None

    @property
    def failure(self) -> InferError | None:
        """Why it said nothing of its model, or did not answer; None when it did both."""
        return self.error if self.answer is None else self.answer.error

    @property
    def well(self) -> bool:
        """Whether it answered, and as the first member did."""
        answer = self.answer
        return answer is not None and answer.error is None and not answer.differences


@click.command()
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@input_option
@click.option("--rtol", type=click.FloatRange(min=0), default=1e-3, show_default=True,
              help="The relative difference of floats that is tolerated.")  # fmt: skip
@click.option("--atol", type=click.FloatRange(min=0), default=1e-5, show_default=True,
              help="The absolute difference of floats that is tolerated.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="The time for opening each model, and for calling all of them once; 60 by default.",
)
@traceback_option
@click.pass_context
def check(
    ctx: click.Context,
    urls: tuple[str, ...],
    arguments: tuple[str, ...],
    rtol: float,
    atol: float,
    as_json: bool,
    timeout: float | None,
) -> None:
    """Reach the model at every URL by itself, and see whether all are the same.

    Their inputs and outputs are compared, and then what they answer to the same request, whose
    inputs are made up unless they are given. Exit code 0: every one was reached, and all agree.

    Example: infer-backends check http://localhost:8000/digits digits.onnx
    """
    tolerance = Tolerance.of(rtol, atol)
    try:
        given = [read_input(argument) for argument in arguments]
        with strangers_aside(), ExitStack() as models:
            parsed = [url for argument in urls for url in urls_from_terminal(argument)]
            checked = [found for url in parsed for found in _reach(url, timeout, models)]
            hint = _ask(checked, given, tolerance, timeout)
    except BadInput as exc:
        raise click.UsageError(str(exc)) from exc
    well = all(found.well for found in checked)
    if as_json:
        members = [_to_json(found) for found in checked]
        click.echo(document({"agreed": well, "members": members, "hint": hint}), nl=False)
    else:
        console().print(_table(checked))
        remarks = [remark for found in checked for remark in _remarks(found)]
        for remark in (*remarks, *filter(None, [hint])):
            click.echo(one_line(remark))
    ctx.exit(0 if well else FAILED)


def _reach(url: ModelURL, timeout: float | None, models: ExitStack) -> list[_Checked]:
    """Open the model at one URL, and ask each of its members what the model is.

    Raises:
        InferError: It was asked for wrongly, and another command line would help.
    """
    shown = url.location
    started = time.monotonic()
    try:
        options = REGISTRY.find(url.scheme).options(url.scheme)
        shown = str(url.with_secret_options(frozenset(o.name for o in options if o.secret)))
        started = time.monotonic()  # without the time that its plugin takes to be loaded
        model = models.enter_context(open_model(url, timeout=timeout))
    except InferError as exc:
        if exit_code(exc) == USAGE:
            raise
        return [_Checked(shown, time.monotonic() - started, exc)]
    members = members_of(model._backend, shown)  # noqa: SLF001 - apps have no use for it
    # The hosts of one URL are opened together.
    opening = time.monotonic() - started
    return [_describe(member, opening, timeout) for member in members]


def _describe(member: Member, opening: float, timeout: float | None) -> _Checked:
    started = time.monotonic() - opening
    try:
        metadata = member.metadata(_deadline(timeout))
    except InferError as exc:
        return _Checked(member.url, time.monotonic() - started, exc)
    found = _Checked(member.url, time.monotonic() - started)
    found.member, found.metadata = member, metadata
    return found


def _deadline(timeout: float | None) -> Deadline:
    return Deadline.after(timeout or DEFAULT_TIMEOUT, explicit=timeout is not None)


def _ask(
    checked: Sequence[_Checked],
    given: Sequence[Given],
    tolerance: Tolerance,
    timeout: float | None,
) -> str:
    """Send the same request to all members whose model is that of the first.

    Returns:
        What to do next; empty when there is nothing to be said.

    Raises:
        BadInput: The inputs that were given are not understood.
        InvalidInput: They do not fit the model.
    """
    expected = next((found.metadata for found in checked if found.metadata is not None), None)
    if expected is None:
        return ""
    for found in checked:
        if found.metadata is not None:
            found.differing = differences(expected, found.metadata)
    inputs = _inputs(given, expected)
    alike = [found for found in checked if found.metadata is not None and not found.differing]
    # The first call of a model is slow, so it is the second that is measured.
    refused = _send(alike, inputs, timeout, None, made_up=not given)
    warm = [found for found in alike if found.well]
    _send(warm, inputs, timeout, tolerance)
    return "every model refused made-up inputs: give some with --input" if refused else ""


def _send(
    checked: Sequence[_Checked],
    inputs: Mapping[str, Array],
    timeout: float | None,
    tolerance: Tolerance | None,
    *,
    made_up: bool = False,
) -> bool:
    """Send one request to each member, and say whether all refused inputs that were made up."""
    members = [found.member for found in checked if found.member is not None]
    sent = verify(members, inputs, _deadline(timeout), tolerance, made_up=made_up)
    for found, answer in zip(checked, sent.members, strict=True):
        found.answer = answer
    return bool(sent.hint)


def _inputs(given: Sequence[Given], metadata: ModelMetadata) -> dict[str, Array]:
    values = bind_inputs(given, metadata) if given else sample(metadata)
    return Binder(metadata).bind_mapping(values)


def _table(checked: Sequence[_Checked]) -> Table:
    listing = table("member", "reached in", "platform", "versions", "metadata", "outputs", "call")
    for found in checked:
        listing.add_row(plain(found.url, "bold"), *map(plain, _cells(found)))
    return listing


def _cells(found: _Checked) -> tuple[str, ...]:
    metadata, answer = found.metadata, found.answer
    if metadata is None:
        return ("no", "-", "-", "-", "-", "-")
    return (
        milliseconds(found.seconds),
        metadata.platform or "-",
        ", ".join(metadata.versions) or "-",
        "differs" if found.differing else "same",
        "-" if answer is None else _outputs(answer),
        "-" if answer is None or answer.error else milliseconds(answer.duration),
    )


def _outputs(answer: MemberVerification) -> str:
    if answer.error is not None:
        return "none"
    if answer.differences:
        return "differ"
    if answer.largest_difference:
        return f"agree within {answer.largest_difference:.3g}"
    return "agree"


def _remarks(found: _Checked) -> Iterator[str]:
    """What a table has no room for."""
    if found.failure is not None:
        yield f"{found.url}: {describe(found.failure)}"
    for difference in (*found.differing, *(found.answer.differences if found.answer else ())):
        yield f"{found.url}: {difference}"


def _to_json(found: _Checked) -> dict[str, Any]:
    metadata, answer = found.metadata, found.answer
    error = found.failure
    return {
        "url": found.url,
        "reached": metadata is not None,
        "reached_seconds": found.seconds if metadata is not None else None,
        "error": None if error is None else f"{type(error).__name__}: {describe(error)}",
        "name": None if metadata is None else metadata.name,
        "platform": None if metadata is None else metadata.platform,
        "versions": [] if metadata is None else list(metadata.versions),
        "metadata_differences": list(found.differing),
        "answered": answer is not None and answer.error is None,
        "output_differences": [] if answer is None else list(answer.differences),
        "largest_difference": None if answer is None else answer.largest_difference,
        "call_seconds": None if answer is None or answer.error else answer.duration,
    }
