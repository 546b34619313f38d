"""How the members of an open model do: what ``model.status()`` returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infer_backends._errors import InferError
from infer_backends._member_state import MemberState
from infer_backends._text_table import error_cell, milliseconds, text_table

_HEADINGS = (
    "member", "state", "for", "calls", "failed", "in flight", "latency", "next probe", "last error",
)  # fmt: skip
_INDENT = "  "


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """How one member of an open model does.

    Attributes:
        url: Its URL, secrets masked.
        state: Its state.
        since: How long it has been in that state, in seconds.
        calls: How many times it was asked.
        failures: How many of those it did not answer.
        in_flight: Calls that wait for its answer now.
        latency: What a call of it typically takes, in seconds; None when none was answered.
        last_error: Why it did not answer the last time that it did not; None when it always did.
        probes: How many times it was probed.
        retry_in: The time until its next probe, in seconds; None when none is due.
        replicas: The hosts that share its load, each with a status of its own; empty without
            ``host=``.
    """

    url: str
    state: MemberState
    since: float
    calls: int
    failures: int
    in_flight: int
    latency: float | None
    last_error: InferError | None
    probes: int
    retry_in: float | None
    replicas: tuple[MemberStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How an open model does; ``str()`` of it is a table.

    Attributes:
        members: Its members, in order of preference.
        fallbacks: Calls that another member answered than the first that was asked.
        retries: Calls that were sent again.
    """

    members: tuple[MemberStatus, ...]
    fallbacks: int
    retries: int

    def __str__(self) -> str:
        rows = [row for member in self.members for row in _rows(member, "")]
        counts = f"fallbacks: {self.fallbacks}, retries: {self.retries}"
        return f"{text_table([_HEADINGS, *rows])}\n{counts}"


def _rows(member: MemberStatus, indent: str) -> Iterator[tuple[str, ...]]:
    """The row of a member, and below it, further in, those of its replicas."""
    yield (
        f"{indent}{member.url}",
        str(member.state),
        f"{member.since:.1f} s",
        str(member.calls),
        str(member.failures),
        str(member.in_flight),
        milliseconds(member.latency),
        "-" if member.retry_in is None else f"{member.retry_in:.1f} s",
        error_cell(member.last_error),
    )
    for replica in member.replicas:
        yield from _rows(replica, f"{indent}{_INDENT}")
