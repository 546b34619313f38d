"""A fork waits until onnxruntime is at rest.

A fork copies the locks of the process as they are, and those that onnxruntime's threads held stay
locked in the child for ever. So every run passes a gate; a fork shuts it, and waits for the runs
that are inside, for a second at most.
"""

from __future__ import annotations

import os
import threading
import time

#: How long a fork waits for runs in flight, in seconds.
DRAIN = 1.0


class ForkGate:
    """Lets runs through, except while the process forks.

    Runs are counted by the length of a list, which threads may change without a lock. A run adds
    itself before it looks whether the gate is shut, and a fork looks for runs after
    it has shut the gate: so one of the two sees the other, without a lock on every run.

    Args:
        drain: How long a fork waits, in seconds.

    Attributes:
        inside: As long as there are runs inside. Where microseconds count, a run does in place
            what :meth:`enter` and :meth:`leave` do.
        forks: How many threads are about to fork.
    """

    def __init__(self, drain: float = DRAIN) -> None:
        self._drain = drain
        self.after_in_child()

    def after_in_child(self) -> None:
        """Start over: the threads that were inside do not exist here."""
        self.inside: list[None] = []
        self._left, self._opened = threading.Event(), threading.Event()
        # Several threads may be about to fork; a signal's handler may be what forks.
        self._changing = threading.RLock()
        self.forks = 0

    def enter(self) -> list[None]:
        """Begin a run, after a fork under way; what it returns ends the run."""
        inside = self.inside
        inside.append(None)
        if self.forks:
            self.wait(inside)
        return inside

    def wait(self, inside: list[None]) -> None:
        """Have a run that has added itself wait while the process forks."""
        while self.forks:
            self.leave(inside)
            self._opened.wait()
            inside.append(None)

    def leave(self, inside: list[None]) -> None:
        """End a run, where it began: in a child that was forked meanwhile, it is not counted."""
        inside.pop()
        if self.forks:
            self.tell()

    def tell(self) -> None:
        """Have whoever forks look again who is inside."""
        self._left.set()

    def before(self) -> None:
        """Shut the gate, and wait for those inside; in the parent, before a fork."""
        with self._changing:
            self._opened.clear()
            self.forks += 1
        give_up = time.monotonic() + self._drain
        while self.inside and (left := give_up - time.monotonic()) > 0:
            self._left.clear()
            if self.inside:
                self._left.wait(left)

    def after_in_parent(self) -> None:
        """Open the gate again."""
        with self._changing:
            self.forks -= 1
            if not self.forks:
                self._opened.set()


#: The gate of this process: onnxruntime's locks are the process's own.
GATE = ForkGate()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GATE.before,
        after_in_parent=GATE.after_in_parent,
        after_in_child=GATE.after_in_child,
    )
