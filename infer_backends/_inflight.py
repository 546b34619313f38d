"""Counts the calls in flight, so that closing can wait for them."""

from __future__ import annotations

import os
import threading
import time
import weakref

from infer_backends._errors import ModelClosed


class InFlight:
    """A gate that calls pass through, and that closes behind the last of them."""

    __slots__ = ("__weakref__", "_changed", "_count", "closed")

    def __init__(self) -> None:
        self.closed = False
        self.reset_in_child()
        _GATES.add(self)

    def reset_in_child(self) -> None:
        """Forget the threads that were inside: they do not exist in a forked child."""
        self._changed = threading.Condition(threading.Lock())
        self._count = 0

    def __enter__(self) -> None:
        with self._changed:
            if self.closed:
                raise ModelClosed("the model is closed: open it again")
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            if self.closed and not self._count:
                self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Let no more calls in, and wait for those inside.

        Args:
            timeout: How long to wait, in seconds.

        Returns:
            Whether nobody is inside any more.
        """
        give_up = time.monotonic() + timeout
        with self._changed:
            self.closed = True
            while self._count:
                remaining = give_up - time.monotonic()
                if remaining <= 0:
                    return False
                self._changed.wait(remaining)
        return True


_GATES: weakref.WeakSet[InFlight] = weakref.WeakSet()


def _reset_gates() -> None:
    for gate in list(_GATES):
        gate.reset_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_gates)
