"""The infer requests of a compiled model: one for each call at a time, used again.

A request that was told to stop may run on until the operator that it is in has ended (a loop is
one operator). Whoever waited for it has left; it is set aside, and used again when it is at rest.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from infer_backends.plugin import ModelClosed, never_destroy
from infer_backends_openvino._runtime import RUNTIME

_LONGEST_WAIT = 0.5  # seconds; a call that waits looks this often whether the model was closed


class Requests:
    """Lends infer requests. Safe for threads.

    Args:
        compiled: The compiled model.
        model: Its name, for messages.
        stateful: Whether a request keeps something from one run to the next.
    """

    def __init__(self, compiled: Any, model: str, *, stateful: bool) -> None:
        self._compiled = compiled
        self._model = model
        self._stateful = stateful
        # Each of these is changed by single operations of lists and dicts, which need no lock.
        self._idle: list[Any] = []
        self._running: dict[int, Any] = {}
        self._started: set[int] = set()
        self._aside: list[tuple[Any, object]] = []
        self.closed = False

    def take(self) -> Any:
        """A request that nobody uses.

        Raises:
            ModelClosed: The model is closed.
            UnsupportedOperation: This is a forked child.
        """
        RUNTIME.require_unforked()
        if self._aside:
            self._look_aside()
        try:
            request = self._idle.pop()
        except IndexError:
            compiled = self._compiled
            if compiled is None:
                raise self._is_closed() from None
            request = compiled.create_infer_request()
        self._running[id(request)] = request
        if self.closed:
            del self._running[id(request)]
            raise self._is_closed()
        if self._stateful:
            request.reset_state()
        return request

    def give_back(self, request: Any) -> None:
        """Let others have a request that is at rest."""
        self._running.pop(id(request), None)
        if not self.closed:
            self._idle.append(request)

    def leave(self, request: Any, inputs: object) -> None:
        """Give back a request that may still run; it is stopped, and nobody has it before it has.

        Args:
            request: What was taken.
            inputs: What it reads, which has to live for so long.
        """
        if id(request) not in self._started:
            self.give_back(request)
            return
        self._started.discard(id(request))
        request.cancel()
        self._running.pop(id(request), None)
        self._aside.append((request, inputs))
        if self.closed:
            self._leave_aside()

    def run_until(self, request: Any, expires: float) -> bool:
        """Run it; False if it still runs at ``expires``, on the monotonic clock, or at a close."""
        self._started.add(id(request))
        done = False
        try:
            request.start_async()
            while not done and (left := expires - time.monotonic()) > 0 and not self.closed:
                # Whole milliseconds, and none too few.
                done = bool(request.wait_for(int(min(left, _LONGEST_WAIT) * 1000) + 1))
        except Exception:
            done = True
            raise
        finally:
            if done:
                self._started.discard(id(request))
        return done

    def close(self) -> None:
        """Stop the requests that run, and let go of all. May be called more than once."""
        self.closed = True
        if RUNTIME.forked:
            return
        self._compiled = None
        self._idle.clear()
        for request in list(self._running.values()):
            request.cancel()
        self._leave_aside()

    def never_destroy(self) -> None:
        """In a forked child: let no destructor wait for threads that do not exist here."""
        for thing in (self._compiled, *self._idle, *self._running.values()):
            never_destroy(thing)
        for request, _ in self._aside:
            never_destroy(request)

    def _is_closed(self) -> ModelClosed:
        return ModelClosed(f"the model {self._model!r} is closed: open it again")

    def _look_aside(self) -> None:
        for _ in range(len(self._aside)):
            try:
                request, inputs = self._aside.pop(0)
            except IndexError:
                return  # Another thread looks, too.
            if _at_rest(request):
                self._idle.append(request)
            else:
                self._aside.append((request, inputs))

    def _leave_aside(self) -> None:
        """Let a thread wait for what still runs: a destructor would, and hold up who closes."""
        left = [self._aside.pop() for _ in range(len(self._aside))]
        left = [(request, inputs) for request, inputs in left if not _at_rest(request)]
        if not left:
            return
        thread = threading.Thread(
            target=_wait_for, args=(left,), name="infer-backends-openvino-leftovers", daemon=True
        )
        with contextlib.suppress(RuntimeError):  # There is no thread left: the destructor waits.
            thread.start()


def _at_rest(request: Any) -> bool:
    try:
        return bool(request.wait_for(0))
    except Exception:  # noqa: BLE001  # how it ended is of no interest: it did
        return True


def _wait_for(left: list[tuple[Any, object]]) -> None:
    while left:
        request, inputs = left.pop()
        with contextlib.suppress(Exception):
            request.wait()
        del request, inputs
