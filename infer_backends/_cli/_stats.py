"""``infer-backends stats``: what the models of a server have done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

import click
from rich.table import Table

from infer_backends._cli._console import console, plain, table
from infer_backends._cli._failures import traceback_option
from infer_backends._cli._json import document
from infer_backends._cli._models import (
    server_from_terminal,
    server_timeout_option,
    url_argument,
)
from infer_backends._cli._strangers import strangers_aside
from infer_backends._server_answers import ModelStatistics
from infer_backends._text_table import milliseconds


@click.command()
@url_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON; all times are in seconds.")
@server_timeout_option
@traceback_option
def stats(url: str, as_json: bool, timeout: float | None) -> None:
    """Show what the models of the server at URL have done since they were loaded.

    If URL names a model, only that one. Rows are what the calls that were answered held. Times
    are means: of such a call, of its wait for the model, and of the model's work. Idle is how long
    ago the last call came.

    Example: infer-backends stats http://localhost:8000/digits
    """
    server, model, version = server_from_terminal(url, timeout)
    with strangers_aside(), server:
        found = server.statistics(model, version=version)
    if as_json:
        click.echo(document([asdict(entry) for entry in found]), nl=False)
    elif found:
        console().print(_table(found, time.time()))
    else:
        click.echo(f"{server.url} has loaded no models")


def _table(found: Sequence[ModelStatistics], now: float) -> Table:
    listing = table(
        "model", "version", "calls", "failed", "rows", "request", "queue", "infer", "idle"
    )
    for entry in found:
        durations = (entry.success, entry.queue, entry.compute_infer)
        cells = (
            entry.version or "-",
            entry.success.count + entry.fail.count,
            entry.fail.count,
            entry.inferences,
            *(milliseconds(duration.mean) for duration in durations),
            _since(entry.last_inference, now),
        )
        listing.add_row(plain(entry.name, "bold"), *map(plain, cells))
    return listing


def _since(moment: float | None, now: float) -> str:
    """How long ago that was, in the largest unit that fits; by two clocks, which may differ."""
    if moment is None:
        return "never used"
    seconds = max(now - moment, 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
