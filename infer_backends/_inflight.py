"""Counts the calls in flight, so that closing can wait for them."""

from __future__ import annotations

import os
import threading
import time
import weakref

from infer_backends._errors import ModelClosed

_LOOK_AGAIN = 1.0  # seconds


class InFlight:
    """A gate that calls pass through, and that closes behind the last of them.

    What is inside is counted by the length of a list, which threads may change without a lock.
    A call adds itself before it looks whether the gate is closed, and closing looks for calls
    after it has closed the gate: so one of the two sees the other, without a lock on every call.

    Args:
        of: What is closed with it, for errors.

    Attributes:
        closed: Whether no more calls are let in.
        inside: As long as there are calls inside. Where microseconds count, a call does in place
            what :meth:`enter` and :meth:`leave` do.
    """

    __slots__ = ("__weakref__", "_left", "_of", "closed", "inside")

    def __init__(self, of: str = "model") -> None:
        self.closed = False
        self._of = of
        self.reset_in_child()
        _GATES.add(self)

    def reset_in_child(self) -> None:
        """Forget the threads that were inside: they do not exist in a forked child."""
        self.inside: list[None] = []
        self._left = threading.Event()

    def enter(self) -> list[None]:
        """Begin a call; what it returns ends it, by :meth:`leave`.

        Raises:
            ModelClosed: The gate is closed.
        """
        inside = self.inside
        inside.append(None)
        if self.closed:
            self.leave(inside)
            self.require_open()
        return inside

    def require_open(self) -> None:
        """Refuse what would call, or have others call, later.

        Raises:
            ModelClosed: The gate is closed.
        """
        if self.closed:
            raise ModelClosed(f"the {self._of} is closed: open it again")

    def leave(self, inside: list[None]) -> None:
        """End a call, where it began: in a child that was forked meanwhile, it is not counted."""
        inside.pop()
        if self.closed:
            self.tell()

    def tell(self) -> None:
        """Have whoever closes the gate look again who is inside."""
        self._left.set()

    @property
    def busy(self) -> bool:
        """Whether somebody is inside."""
        return bool(self.inside)

    def shut(self) -> None:
        """Let no more calls in."""
        self.closed = True

    def close(self, timeout: float) -> bool:
        """Let no more calls in, and wait for those inside.

        Args:
            timeout: How long to wait, in seconds.

        Returns:
            Whether nobody is inside any more.
        """
        give_up = time.monotonic() + timeout
        self.shut()
        while self.inside:
            self._left.clear()
            remaining = give_up - time.monotonic()
            if remaining <= 0:
                return False
            if self.inside:
                # Not for all of it at once: clocks overflow, and a second closer may have taken
                # the news of the last call's end away.
                self._left.wait(min(remaining, _LOOK_AGAIN))
        return True


_GATES: weakref.WeakSet[InFlight] = weakref.WeakSet()


def _reset_gates() -> None:
    for gate in list(_GATES):
        gate.reset_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_gates)
