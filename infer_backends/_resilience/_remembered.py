"""Errors that are kept for later: what they say, and not the calls that they happened in."""

from __future__ import annotations

from infer_backends._errors import InferError


def remembered(error: InferError) -> InferError:
    """The same error, without the frames that it and its causes went through.

    Frames hold the arrays of their call, and a call that holds its errors would hold itself: no
    memory of it would be free before the garbage collector came by.
    """
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        left += [one.__cause__, one.__context__]
    return error
