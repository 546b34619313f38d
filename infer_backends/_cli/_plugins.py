"""``infer-backends plugins``: which schemes there are, and whether they work here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import click

from infer_backends._cli._console import console, one_line, plain, table
from infer_backends._cli._failures import traceback_option
from infer_backends._cli._json import document
from infer_backends._entry_points import DISABLE
from infer_backends._errors import MissingDependency
from infer_backends._observer_plugins import INSTALLED, ObserverInfo
from infer_backends._registry import REGISTRY, PluginInfo

#: Models in memory, for tests: they come with the core, and run nothing.
_FAKE = "fake"
_STYLES = {"ready": "green", "disabled": "dim", "missing": "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """One scheme, or one observer, of one distribution, and how it fares.

    Attributes:
        scheme: The scheme, as in a URL; empty for an observer.
        distribution: What was installed; empty for a scheme registered in this process.
        version: Its version.
        state: ``ready``, ``disabled``, ``conflict``, ``missing`` (a package) or ``broken``.
        reason: Why it is not ready, and what to do; empty when it is.
        observer: The observer's name; empty for a scheme.
    """

    scheme: str
    distribution: str
    version: str
    state: str
    reason: str
    observer: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@traceback_option
def plugins(as_json: bool) -> None:
    """List the URL schemes of the installed plugins, and whether they work here.

    Observers, if there are any, have a table of their own.
    """
    rows = [_examine(info) for info in REGISTRY.plugins()]
    observers = [_examine_observer(info) for info in INSTALLED.plugins()]
    if as_json:
        click.echo(document([asdict(row) for row in (*rows, *observers)]), nl=False)
        return
    if rows:
        _show("scheme", rows)
    if all(row.scheme == _FAKE for row in rows):
        click.echo(
            "no plugins that run models are installed: pip install 'infer-backends[demo]' brings "
            "all three"
        )
    if observers:
        click.echo()
        _show("observer", observers)


def _examine(info: PluginInfo) -> Row:
    state, reason = _state(info)
    return Row(info.scheme, info.distribution, info.version, state, one_line(reason))


def _examine_observer(info: ObserverInfo) -> Row:
    row = Row("", info.distribution, info.version, "ready", "", observer=info.name)
    if info.disabled:
        return replace(row, state="disabled", reason=f"by {DISABLE}")
    error = INSTALLED.check(info)
    if error is None:
        return row
    return replace(row, state=_broken(error), reason=one_line(str(error)))


def _state(info: PluginInfo) -> tuple[str, str]:
    if info.disabled:
        return "disabled", f"by {DISABLE}"
    # The registry's error names both owners of a conflict, and says how to choose.
    error = REGISTRY.check(info)
    if error is None:
        return "ready", ""
    if info.conflict:
        return "conflict", str(error)
    return _broken(error), str(error)


def _broken(error: Exception) -> str:
    return "missing" if isinstance(error, MissingDependency) else "broken"


def _show(kind: str, rows: list[Row]) -> None:
    listing = table(kind, "distribution", "version", "state")
    for row in rows:
        listing.add_row(
            plain(row.scheme or row.observer, "bold"),
            plain(row.distribution or "(this program)"),
            plain(row.version or "-"),
            plain(row.state, _STYLES.get(row.state, "red")),
        )
    out = console()
    out.print(listing)
    # One line for each reason, however many names share it.
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason:
            reasons.setdefault((row.state, row.reason), []).append(row.scheme or row.observer)
    for (state, reason), names in reasons.items():
        out.print(plain(f"{', '.join(names)} ({state}): {reason}"), soft_wrap=True)
