"""What a call may ask for that only some backends can do."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Compression = Literal["gzip", "deflate"]


@dataclass(frozen=True, slots=True)
class SequenceStep:
    """Where in a sequence of requests to a stateful model one request stands.

    Attributes:
        id: The sequence, from 1 to 2**63 - 1; no two that run at the same time have the same.
        start: Whether it is the first request of the sequence.
        end: Whether it is the last.
    """

    id: int
    start: bool
    end: bool


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What one call asks for besides its tensors. None is what was not asked for.

    A backend says which of these it can do, and is given no others; see
    :class:`~infer_backends.plugin.SupportsRequestOptions`. The first two change what the answer is,
    the others only how the request is carried and scheduled.

    Attributes:
        top_k: Answer each output by its so many largest elements in each row, as BYTES of the form
            ``value:index`` or ``value:index:label``, of the shape ``[rows, k]``; without rows where
            the model has no batch axis. (Triton's classification extension.)
        sequence: The place of the request in a sequence. (Triton's sequence extension.)
        priority: 1 is served first; 0 is the model's default. (Triton's schedule policy extension.)
        queue_timeout: The seconds that the request may wait in the server's queue.
        compression: How the body of the request is compressed on the way, and the answer's, if the
            server likes.
    """

    top_k: int | None = None
    sequence: SequenceStep | None = None
    priority: int | None = None
    queue_timeout: float | None = None
    compression: Compression | None = None

    @property
    def given(self) -> frozenset[str]:
        """The names of those that were asked for."""
        return frozenset(name for name in REQUEST_OPTIONS if getattr(self, name) is not None)


#: The names of all of them.
REQUEST_OPTIONS = tuple(option.name for option in fields(RequestOptions))
