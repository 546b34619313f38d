"""How a stream is ended that its reader has left.

It is cancelled, so that the server need not go on; but between two responses, or not at all if it
ends by itself meanwhile. Triton 2.51 can end *itself* when it is cancelled while it sends (its
issues 7368 and 8034, mended in later releases); and what it is just sending is often the end: after
an error, and after a response that was the last.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import Any

from infer_backends_triton._grpc_runtime import grpc

#: When nothing has come for so long, nothing is being sent, in seconds.
LULL = 0.01
#: How long one is waited for, in seconds.
LONGEST = 0.1


def end_stream(call: Any) -> None:
    """End a stream that a thread has read.

    Args:
        call: What gRPC returned for it.
    """
    if not call.is_active():
        return
    # No thread starts, and none would answer, when the interpreter is being taken down.
    draining = None if sys.is_finalizing() else _Draining(call)
    try:
        if draining is not None:
            draining.wait()
    finally:
        call.cancel()
        if draining is not None:
            draining.join()


class _Draining:
    """Takes what still comes of a stream, in a thread: gRPC's iterator has no time-out."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._latest = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._take, name="infer-backends-triton-ending", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            # The system has no thread left.
            self._ended.set()

    def wait(self) -> None:
        """Wait for a lull, or the end."""
        limit = time.monotonic() + LONGEST
        while (now := time.monotonic()) < limit:
            left = self._latest + LULL - now
            if left <= 0 or self._ended.wait(left):
                return

    def join(self) -> None:
        """Wait for the thread, which the end of the stream ends."""
        self._ended.wait(LONGEST)

    def _take(self) -> None:
        try:
            with contextlib.suppress(grpc.RpcError):
                for _ in self._call:
                    self._latest = time.monotonic()
        finally:
            self._ended.set()
