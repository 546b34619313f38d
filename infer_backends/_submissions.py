"""Calls that are made by threads of a model's own, while their callers go on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from infer_backends._backend import InferRequest
from infer_backends._errors import DeadlineExceeded, ModelClosed
from infer_backends._threads import Threads

#: How many calls are made at the same time, and how many may be there in all.
WORKERS, MOST = 16, 64


class Submissions:
    """A bounded number of calls, each with a future."""

    def __init__(self) -> None:
        self._threads = Threads("submitted", WORKERS)
        self._room = _Room()
        self._closed = False

    def begin(self, answer: Callable[[InferRequest], Any], request: InferRequest) -> Future[Any]:
        """Have a thread answer a request, as soon as there is room and one is free.

        Raises:
            DeadlineExceeded: There was no room in time.
            ModelClosed: The model was closed.
        """
        room = self._room
        if room.process != os.getpid():
            # Those who would make room do not exist in a forked child.
            room = self._room = _Room()
        if not room.acquire(timeout=min(request.deadline.remaining(), threading.TIMEOUT_MAX)):
            raise DeadlineExceeded(
                f"the deadline passed while {MOST} calls were submitted and not answered: submit "
                "fewer, or give a larger timeout",
                unprocessed=True,
            )
        try:
            future = self._threads.begin(self._answer, answer, request)
        except BaseException:
            room.release()
            raise
        future.add_done_callback(lambda _: room.release())
        return future

    def _answer(self, answer: Callable[[InferRequest], Any], request: InferRequest) -> Any:
        if self._closed:
            raise ModelClosed("the model was closed before this call began", unprocessed=True)
        return answer(request)

    def close(self) -> None:
        """Begin no more: the calls that have not begun raise ModelClosed, as soon as they would."""
        self._closed = True
        # Not cancelled: a foreign error would be raised to who waits for them.
        self._threads.close(cancel=False)


class _Room(threading.BoundedSemaphore):
    """Room for calls of this process."""

    def __init__(self) -> None:
        super().__init__(MOST)
        self.process = os.getpid()
