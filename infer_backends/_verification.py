"""One request to every member of a model, whoever would answer a call, and what they answered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from infer_backends._agreement import Comparison, Tolerance, compare
from infer_backends._backend import Array, InferRequest, InferResponse, Member
from infer_backends._deadline import Deadline
from infer_backends._errors import InferenceFailed, InferError, InvalidInput, PluginError
from infer_backends._text_table import error_cell, milliseconds, text_table

_REFUSED = (InvalidInput, InferenceFailed)
_HINT = "every member refused made-up inputs: pass inputs= that the model understands"
_NOTHING = Comparison((), None)


@dataclass(frozen=True, slots=True)
class MemberVerification:
    """What one member made of the request.

    Attributes:
        url: Its URL, secrets masked.
        duration: How long it took, in seconds; it was opened in this time if it was not open.
        error: Why it did not answer; None when it did.
        differences: In what its answer differs from that of the first member which answered:
            names, datatypes, shapes and counts, never values. Empty when they agree.
        largest_difference: The largest difference between two numbers of the two answers, within
            the tolerance or not; None when no numbers were compared.
    """

    url: str
    duration: float
    error: InferError | None
    differences: tuple[str, ...] = ()
    largest_difference: float | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What every member made of one request. True when they agree; ``str()`` of it is a table.

    Attributes:
        members: One for each member, in order of preference.
        hint: What to do next; empty when there is nothing to be said.
    """

    members: tuple[MemberVerification, ...]
    hint: str = ""

    @property
    def agreed(self) -> bool:
        """Whether every member answered, and as the first one did."""
        return all(member.error is None and not member.differences for member in self.members)

    def __bool__(self) -> bool:
        return self.agreed

    def __str__(self) -> str:
        rows = [("member", "time", "answer")]
        rows += [(m.url, milliseconds(m.duration), _in_words(m)) for m in self.members]
        return "\n".join([text_table(rows), *filter(None, [self.hint])])


def _in_words(member: MemberVerification) -> str:
    if member.error is not None:
        return error_cell(member.error)
    if member.differences:
        return f"differs: {'; '.join(member.differences)}"
    if member.largest_difference is None:
        return "answers"
    if member.largest_difference == 0:
        return "agrees exactly"
    return f"agrees, largest difference {member.largest_difference:.3g}"


def verify(
    members: Sequence[Member],
    inputs: Mapping[str, Array],
    deadline: Deadline,
    tolerance: Tolerance | None,
    *,
    made_up: bool = False,
) -> Verification:
    """Ask every member, and compare what they answer with what the first of them does.

    A member that does not answer is a part of what is returned, and no error.

    Args:
        members: Whom to ask, one after the other.
        inputs: The arrays by name, as the metadata says.
        deadline: By when all of them have to have answered; each has a fair share of what is left.
        tolerance: How far floats may be apart; None compares nothing.
        made_up: Whether the inputs are made up, so that the model may not understand them.
    """
    reference: InferResponse | None = None
    found = []
    for left, member in zip(range(len(members), 0, -1), members, strict=True):
        remaining = deadline.remaining()
        share = deadline.less(remaining - remaining / left)
        started = time.monotonic()
        response, error = _ask(member, InferRequest(dict(inputs), None, share))
        duration = time.monotonic() - started
        seen = _NOTHING
        if response is not None and reference is None:
            reference = response
        elif response is not None and reference is not None and tolerance is not None:
            seen = compare(reference.outputs, response.outputs, tolerance)
        found.append(MemberVerification(member.url, duration, error, *seen))
    refused = made_up and all(isinstance(result.error, _REFUSED) for result in found)
    return Verification(tuple(found), _HINT if refused else "")


def _ask(member: Member, request: InferRequest) -> tuple[InferResponse | None, InferError | None]:
    """What one member answers, or why it does not."""
    try:
        request.deadline.require("asking this member")
        response: object = member.run(request)
    except InferError as exc:
        return None, exc
    except Exception as exc:  # noqa: BLE001 - whatever a careless plugin raises
        return None, _broken(f"it raised {type(exc).__name__}", exc)
    if not isinstance(response, InferResponse):
        return None, _broken(f"it returned {type(response).__name__}")
    outputs: object = response.outputs
    if not isinstance(outputs, Mapping):
        return None, _broken("its outputs are no dict of arrays")
    if not all(isinstance(array, np.ndarray) for array in outputs.values()):
        return None, _broken("an output is no array")
    return response, None


def _broken(what: str, cause: Exception | None = None) -> PluginError:
    # Only the type: a careless message could hold the URL's password.
    error = PluginError(
        f"{what}; a backend returns an InferResponse of arrays, and raises only the library's "
        "errors"
    )
    error.__cause__ = cause
    return error
