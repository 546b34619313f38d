"""A progress bar for bulk work, by rich."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext

from infer_backends._errors import MissingDependency

Advance = Callable[[], object]


def _nothing() -> None:
    """Show nothing."""


def progress_of(samples: object, *, wanted: bool) -> AbstractContextManager[Advance]:
    """What shows how many samples are done, and takes a call for each.

    Args:
        samples: The samples; where they have a length, it is known how many are left.
        wanted: Whether to show anything.

    Raises:
        MissingDependency: rich is not installed.
    """
    if not wanted:
        return nullcontext(_nothing)
    try:
        import rich.progress  # noqa: F401 - only to say so now
    except ImportError as exc:
        raise MissingDependency(
            "progress=True needs the package rich: pip install rich, or leave it out"
        ) from exc
    return _bar(len(samples) if isinstance(samples, Sized) else None)


@contextmanager
def _bar(total: int | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Results may go to the standard output; what is printed there stays above the bar only where it
    # is a terminal, too.
    console, together = Console(stderr=True), bool(sys.stdout and sys.stdout.isatty())
    with Progress(*columns, console=console, redirect_stdout=together) as progress:
        task = progress.add_task("samples", total=total)
        yield lambda: progress.advance(task)
