"""A bounded pool of threads that begins when it is needed, and that a forked child has anew."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from infer_backends._errors import ModelClosed, Unavailable

Result = TypeVar("Result")

#: As many as asyncio's own pool has.
MOST = min(32, (os.cpu_count() or 1) + 4)


class Threads:
    """Threads of one model, for one purpose.

    Args:
        purpose: What they are named by.
        most: How many there may be.
    """

    def __init__(self, purpose: str, most: int = MOST) -> None:
        self._name = f"infer-backends-{purpose}"
        self._most = most
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._process = 0
        self._lock = threading.Lock()
        self._closed = False

    def begin(
        self, function: Callable[..., Result], *args: object
    ) -> concurrent.futures.Future[Result]:
        """Have a thread call a function, when one is free.

        Raises:
            ModelClosed: It was closed.
            Unavailable: The system has no thread left.
        """
        try:
            return self._threads().submit(function, *args)
        except RuntimeError as exc:
            if self._closed:
                raise _closed() from exc
            raise Unavailable(f"no thread could be started: {exc}", unprocessed=True) from exc

    def _threads(self) -> concurrent.futures.ThreadPoolExecutor:
        pool, process = self._pool, os.getpid()
        if pool is not None and self._process == process:
            return pool
        if self._process and self._process != process:
            # Neither the parent's threads nor who held the lock exist in a forked child.
            self._lock = threading.Lock()
        with self._lock:
            if self._closed:
                raise _closed()
            if self._pool is None or self._process != process:
                self._pool = concurrent.futures.ThreadPoolExecutor(
                    self._most, thread_name_prefix=self._name
                )
                self._process = process
            return self._pool

    def close(self, *, cancel: bool = True, wait: bool = False) -> None:
        """Begin nothing more; what runs goes on.

        Args:
            cancel: Whether to cancel what waits for a thread.
            wait: Whether to wait until no thread is left.
        """
        self._closed = True
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown(wait=wait, cancel_futures=cancel)


def _closed() -> ModelClosed:
    return ModelClosed("the model is closed: open it again")
