"""Calls that are made by threads of a model's own, while their callers go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from infer_backends._backend import InferRequest
from infer_backends._errors import DeadlineExceeded
from infer_backends._threads import Threads

#: How many calls are made at the same time, and how many may be there in all.
WORKERS, MOST = 16, 64


class Submissions:
    """A bounded number of calls, each with a future."""

    def __init__(self) -> None:
        self._threads = Threads("submitted", WORKERS)
        self._room = threading.BoundedSemaphore(MOST)

    def begin(self, answer: Callable[[InferRequest], Any], request: InferRequest) -> Future[Any]:
        """Have a thread answer a request, as soon as there is room and one is free.

        Raises:
            DeadlineExceeded: There was no room in time.
            ModelClosed: The model was closed.
        """
        if not self._room.acquire(timeout=min(request.deadline.remaining(), threading.TIMEOUT_MAX)):
            raise DeadlineExceeded(
                f"the deadline passed while {MOST} calls were submitted and not answered: submit "
                "fewer, or give a larger timeout",
                unprocessed=True,
            )
        try:
            future = self._threads.begin(answer, request)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def close(self) -> None:
        """Begin no more; futures of calls that have not begun are cancelled."""
        self._threads.close()
