"""A background thread that exists only while an endpoint has to be probed."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable
from time import monotonic

logger = logging.getLogger("infer_backends")

#: How long stopping waits for a probe that is under way, in seconds.
_LONGEST_WAIT, _LONGEST_WAIT_AT_EXIT = 5.0, 1.0
#: How often the thread looks whether there still is somebody to probe for, in seconds.
_LOOK_AGAIN = 1.0


class Prober:
    """Takes a step again and again, as often as the step asks for, in a thread of its own.

    However many callers wake it, there is one thread, and it ends when the step says so, or when
    the step's owner is no more.

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
        self._news = threading.Event()
        self._thread: threading.Thread | None = None
        self._woken: float | None = None

    @property
    def running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def wake(self, delay: float) -> None:
        """Take a step after ``delay`` seconds, or sooner if one is due sooner."""
        with self._lock:
            if self._stopped or self._thread is threading.current_thread():
                # The step that this thread takes says itself when the next one is due.
                return
            if self._thread is not None:
                self._woken = delay if self._woken is None else min(delay, self._woken)
                self._news.set()
                return
            # A daemon: a probe that hangs must not keep the interpreter from ending.
            thread = threading.Thread(target=self._run, args=(delay,), name=self._name, daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:
                # No more threads, or the interpreter is about to end: the next call tries again.
                self._thread = None

    def stop(self, wait: float = _LONGEST_WAIT) -> None:
        """Take no more steps, and wait for the thread to end. May be called more than once.

        Args:
            wait: How long to wait for a step that is under way, in seconds.
        """
        with self._lock:
            self._stopped = True
            thread = self._thread
            self._news.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(wait)

    def _run(self, delay: float | None) -> None:
        try:
            while delay is not None and self._wait(delay):
                step = self._step()
                delay = step() if step is not None else None
                del step
                if delay is None:
                    delay = self._over()
        except Exception as exc:  # noqa: BLE001 - nobody is there to catch it
            # Only the type: a careless message could hold the URL's password.
            logger.warning(
                "%s raised %s; the next call begins it again", self._name, type(exc).__name__
            )
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _wait(self, delay: float) -> bool:
        """Wait until a step is due; whether it is to be taken."""
        due = monotonic() + delay
        while not self._stopped:
            with self._lock:
                woken, self._woken = self._woken, None
                self._news.clear()
            if woken is not None:
                due = min(due, monotonic() + woken)
            left = due - monotonic()
            if left <= 0:
                return not self._stopped
            if self._step() is None:
                return False
            if not self._stopped:
                self._news.wait(min(left, _LOOK_AGAIN))
        return False

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
