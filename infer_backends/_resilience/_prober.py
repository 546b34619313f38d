"""A background thread that exists only while an endpoint has to be probed."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable

#: How long stopping waits for a probe that is under way, in seconds.
_LONGEST_WAIT, _LONGEST_WAIT_AT_EXIT = 5.0, 1.0


class Prober:
    """Takes a step again and again, as often as the step asks for, in a thread of its own.

    However many callers wake it, there is one thread, and it ends when the step says so.

    Args:
        step: A bound method: probes once, and returns the seconds until the next time, or None
            when no probes are needed any more. Its owner is not kept alive by the thread.
        name: The thread's name.
    """

    def __init__(self, step: Callable[[], float | None], name: str) -> None:
        self._step = weakref.WeakMethod(step)
        self._name = name
        self._stopped = False
        self.reset_in_child()
        _PROBERS.add(self)

    def reset_in_child(self) -> None:
        """Forget the thread: it does not exist in a forked child."""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._woken: float | None = None

    @property
    def running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def wake(self, delay: float) -> None:
        """Take a step after ``delay`` seconds, unless a thread is at it already."""
        with self._lock:
            if self._stopped:
                return
            if self._thread is not None:
                self._woken = delay
                return
            # A daemon: a probe that hangs must not keep the interpreter from ending.
            thread = threading.Thread(target=self._run, args=(delay,), name=self._name, daemon=True)
            self._thread = thread
            thread.start()

    def stop(self, wait: float = _LONGEST_WAIT) -> None:
        """Take no more steps, and wait for the thread to end. May be called more than once.

        Args:
            wait: How long to wait for a step that is under way, in seconds.
        """
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(wait)

    def _run(self, delay: float | None) -> None:
        while delay is not None and not self._stopping.wait(delay):
            step = self._step()
            delay = step() if step is not None else None
            del step
            if delay is None:
                delay = self._over()
        with self._lock:
            if self._thread is threading.current_thread():
                self._thread = None

    def _over(self) -> float | None:
        """The delay that was asked for while the last step was taken; None ends the thread."""
        with self._lock:
            delay, self._woken = self._woken, None
            if delay is None:
                self._thread = None
            return delay


_PROBERS: weakref.WeakSet[Prober] = weakref.WeakSet()


def _reset_probers() -> None:
    for prober in list(_PROBERS):
        prober.reset_in_child()


def _stop_probers() -> None:
    # A daemon thread that is inside a runtime when the interpreter goes away can bring it down.
    probers = [prober for prober in list(_PROBERS) if prober.running]
    for prober in probers:
        prober.stop(0.0)
    for prober in probers:
        prober.stop(_LONGEST_WAIT_AT_EXIT)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_probers)
atexit.register(_stop_probers)
