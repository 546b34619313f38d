"""What makes gRPC survive a fork: the fork waits until no call is in flight.

A child that uses gRPC hangs, or crashes, if its parent had calls in flight when it forked. So
every call passes a gate, and a fork shuts that gate: calls in flight have up to :data:`DRAIN`
seconds to end, new ones wait meanwhile. Where that was not enough, or gRPC's own support was
switched off, the child's calls are refused at once instead.

With ``GRPC_ENABLE_FORK_SUPPORT=1`` gRPC itself cancels the parent's calls in the child, inside
``os.fork``, and hangs there; so channels that are still in use are kept from it meanwhile. (Older
releases of grpc, with that variable, end such a child themselves, with exit status 64.)
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable

from infer_backends.plugin import UnsupportedOperation
from infer_backends_triton._grpc_runtime import handle_at_fork, ignore_at_fork

#: How long a fork waits for calls in flight, in seconds.
DRAIN = 1.0

_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
# What gRPC reads as "no"; it knows how to fork when the variable is not set.
_NO = frozenset({"0", "f", "false", "n", "no"})
_OTHERWISE = "open the model after the fork, start processes by 'spawn', or use http://"


class ForkGate:
    """Counts calls in flight, holds new ones back while the process forks.

    Args:
        supported: Whether gRPC's own fork support is on.
        drain: How long a fork waits for calls in flight, in seconds.
        clock: Seconds on a monotonic clock.

    Attributes:
        generation: How many forks lie between the first process and this one. What was made in
            an earlier generation belongs to another process.
    """

    def __init__(
        self,
        *,
        supported: bool,
        drain: float = DRAIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.generation = 0
        self._supported = supported
        self._drain = drain
        self._clock = clock
        self._reset()
        self._used = False
        self._drained = True
        self._refusal: str | None = None
        self._channels: weakref.WeakSet[object] = weakref.WeakSet()

    def _reset(self) -> None:
        # The lock is reentrant: a signal's handler may fork while its thread is in here.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._in_flight = 0
        # Several threads may be about to fork.
        self._forks = 0

    def enter(self) -> int:
        """Begin a call of gRPC; waits while the process forks.

        Returns:
            What :meth:`leave` wants to be told at the end of the call.

        Raises:
            UnsupportedOperation: gRPC cannot be used in this process.
        """
        with self._lock:
            while self._forks > 0:
                self._changed.wait()
            if self._refusal is not None:
                raise UnsupportedOperation(self._refusal, unprocessed=True)
            self._used = True
            self._in_flight += 1
            return self.generation

    def leave(self, generation: int) -> None:
        """End a call."""
        # In the child of a fork from a signal's handler the count began anew.
        if generation == self.generation:
            with self._lock:
                self._in_flight -= 1
                if self._forks > 0:
                    self._changed.notify_all()

    def watch(self, channel: object) -> None:
        """Take note of a new channel; it is forgotten when it is collected."""
        with self._lock:
            self._channels.add(channel)

    def forget(self, channel: object) -> None:
        """The channel is about to be closed."""
        with self._lock:
            self._channels.discard(channel)

    def before(self) -> None:
        """Shut the gate, and wait for calls in flight; in the parent, before a fork."""
        with self._lock:
            self._forks += 1
            end = self._clock() + self._drain
            while self._in_flight and (left := end - self._clock()) > 0:
                self._changed.wait(left)
            self._drained = self._in_flight == 0
            if not self._drained:
                for channel in self._channels:
                    ignore_at_fork(channel)

    def after_in_parent(self) -> None:
        """Open the gate again."""
        with self._lock:
            self._forks -= 1
            if not self._drained:
                for channel in self._channels:
                    handle_at_fork(channel)
            self._changed.notify_all()

    def after_in_child(self) -> None:
        """Start over, with what was there before the fork left alone."""
        self._reset()
        self._channels = weakref.WeakSet()
        self.generation += 1
        if self._refusal is not None or not self._used:
            return
        if not self._supported:
            self._refusal = (
                f"gRPC was in use when this process was forked, and {_SUPPORT} switches its "
                f"support for that off: unset it before Python starts, {_OTHERWISE}"
            )
        elif not self._drained:
            self._refusal = (
                "a gRPC call was in flight when this process was forked, and gRPC would hang "
                f"here: fork between calls, {_OTHERWISE}"
            )


def _fork_supported() -> bool:
    return os.environ.get(_SUPPORT, "").strip().lower() not in _NO


#: The gate of this process. gRPC's state is the process's own, and so is this.
GATE = ForkGate(supported=_fork_supported())

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GATE.before,
        after_in_parent=GATE.after_in_parent,
        after_in_child=GATE.after_in_child,
    )
