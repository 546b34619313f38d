"""``infer-backends plugins``: which schemes there are, and whether they work here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import click

from infer_backends._cli._console import console, note, one_line, plain, table
from infer_backends._cli._examination import Found, Row, examine
from infer_backends._cli._failures import traceback_option
from infer_backends._cli._json import document
from infer_backends._entry_points import DISABLE

#: Models in memory, for tests: they come with the core, and run nothing.
_FAKE = "fake"
_STYLES = {"ready": "green", "disabled": "dim", "missing": "yellow"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Show where each comes from, and more of it.")
@traceback_option
def plugins(as_json: bool, verbose: bool) -> None:
    """List the URL schemes of the installed plugins, and whether they work here.

    Each is imported, in a process aside: one that hangs or crashes there hides no other. Observers,
    if there are any, have a table of their own. What is broken does not change the exit code, which
    is 0 if there is a list.
    """
    found = examine()
    rows = [replace(row, reason=one_line(row.reason)) for row in (*found.rows, *_damaged(found))]
    for name in found.unmatched:
        note(f"{DISABLE} names {name!r}, which is no plugin that is installed here")
    if as_json:
        click.echo(document([asdict(row) for row in rows]), nl=False)
        return
    schemes = [row for row in rows if row.scheme]
    observers = [row for row in rows if row.observer]
    if schemes:
        _show("scheme", schemes, verbose)
    if all(row.scheme == _FAKE for row in schemes):
        click.echo(
            "no plugins that run models are installed: pip install 'infer-backends[demo]' brings "
            "all three"
        )
    if observers:
        click.echo()
        _show("observer", observers, verbose)
    _say([row for row in rows if not row.name])


def _damaged(found: Found) -> Iterator[Row]:
    """What is wrong with installed distributions, if no row of theirs says so."""
    for damage in found.damages:
        if not any(damage.problem in row.reason for row in found.rows):
            yield Row(
                "",
                damage.distribution,
                damage.version,
                "broken",
                f"{damage.distribution} {damage.version} is damaged: {damage.problem}",
                folder=damage.folder,
            )


def _show(kind: str, rows: Sequence[Row], verbose: bool) -> None:
    listing = table(kind, "distribution", "version", "state")
    for row in rows:
        listing.add_row(
            plain(row.name, "bold"),
            plain(row.distribution),
            plain(row.version or "-"),
            plain(row.state, _STYLES.get(row.state, "red")),
        )
    console().print(listing)
    _say(rows, verbose=verbose)


def _texts(row: Row, verbose: bool) -> Iterator[str]:
    """What the table has no room for."""
    if verbose:
        contract = f", contract {row.api_version}" if row.api_version is not None else ""
        seconds = row.import_seconds
        took = "" if seconds is None else f", imported in {seconds * 1000:.0f} ms"
        where = f" in {row.folder}" if row.folder else ""
        yield f"{row.module}{where}{contract}{took}"
    if row.reason:
        yield row.reason
    yield from (f"{row.distribution} {remark}" for remark in row.remarks)


def _say(rows: Sequence[Row], *, verbose: bool = False) -> None:
    """One line for each text, however many rows have it."""
    texts: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        for text in _texts(row, verbose):
            texts.setdefault((row.state, text), {})[row.name or row.distribution] = None
    for (state, text), names in texts.items():
        console().print(plain(f"{', '.join(names)} ({state}): {text}"), soft_wrap=True)
