"""The hook of an observer, as pluggy knows it."""

from __future__ import annotations

from infer_backends._events import Event
from infer_backends._hookspecs import hookspec


@hookspec
def infer_backends_event(event: Event) -> None:
    """Take notice of what happened. The one hook of a plugin that observes.

    Called in a thread of its own for each open model, after what happened, and never on the way of
    a call. What it raises is reported once and otherwise ignored; while it is slow, events are
    dropped.

    Args:
        event: One of the event classes; told apart by ``isinstance``.
    """
