"""The second half of the demo: calls go on while the server stops, and starts again."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infer_backends._cli._demo._comparison import TOLERANCE
from infer_backends._cli._demo._digits import Digits
from infer_backends._cli._triton import LocalServer
from infer_backends._errors import InferError, ModelNotFound
from infer_backends._model import Model

#: Calls in a row that each stage waits for.
CALLS = 100
#: Seconds between two calls, and the longest that a stage may take.
PACE = 0.005
PATIENCE = 40.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened during the stream of calls.

    Attributes:
        call: The number of the next call, from 1.
        text: What happened.
    """

    call: int
    text: str


@dataclass(slots=True)
class Log:
    """What became of every call.

    Attributes:
        urls: Who answered each call; empty for one that was lost, or answered wrongly.
        events: What happened in between.
        lost: Why calls were not answered.
        wrong: How many answers were not the model's.
        slowest: The longest that a call took, in seconds.
    """

    urls: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    lost: list[InferError] = field(default_factory=list)
    wrong: int = 0
    slowest: float = 0.0

    def note(self, text: str) -> None:
        """Add an event."""
        self.events.append(Event(len(self.urls) + 1, text))

    def in_a_row(self, url: str) -> int:
        """How many of the latest calls were answered by ``url``."""
        others = (back for back, other in enumerate(reversed(self.urls)) if other != url)
        return next(others, len(self.urls))

    def counts(self) -> dict[str, int]:
        """How many calls each URL answered, in order of first appearance."""
        return {url: self.urls.count(url) for url in dict.fromkeys(self.urls) if url}


class Stream:
    """One digit after the other, at a steady pace, each answer checked.

    Args:
        model: Whom to ask.
        digits: What to ask about, over and over.
        expected: The right answers, of shape (n, 10).
        log: Where to write down what became of each call.
        show: Called after each call.
    """

    def __init__(
        self,
        model: Model,
        digits: Digits,
        expected: NDArray[np.float32],
        log: Log,
        show: Callable[[], None],
    ) -> None:
        self._model = model
        self._digits = digits
        self._expected = expected
        self._log = log
        self._show = show

    def run_until(self, done: Callable[[], bool]) -> bool:
        """Call until ``done``; False if that takes longer than PATIENCE."""
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                return False
            self._call()
            self._show()
            time.sleep(PACE)
        return True

    def _call(self) -> None:
        log = self._log
        index = len(log.urls) % len(self._digits.labels)
        started = time.monotonic()
        try:
            result = self._model.infer({"image": self._digits.images[index : index + 1]})
        except InferError as exc:
            log.lost.append(exc)
            log.urls.append("")
            return
        finally:
            log.slowest = max(log.slowest, time.monotonic() - started)
        if result.attempts and not any(url != log.urls[0] for url in log.urls):
            reason = result.attempts[0].error
            why = " (the server is stopping)" if isinstance(reason, ModelNotFound) else ""
            log.note(f"the local model answers, after {type(reason).__name__}{why}: {reason}")
        right = np.allclose(
            result["probabilities"], self._expected[index : index + 1], rtol=0, atol=TOLERANCE
        )
        log.wrong += not right
        log.urls.append(result.backend_url if right else "")


def run_outage(stream: Stream, server: LocalServer, log: Log, remote: str, local: str) -> bool:
    """Stop the server in the middle of the calls, and start it again.

    Args:
        stream: The calls.
        server: The server; it runs, before and after.
        log: Where the stream writes.
        remote: The URL that answers while the server runs.
        local: The URL that answers while it does not.

    Returns:
        Whether every stage came to its end: the server answered, the local model took over, the
        server answered again.
    """
    with ThreadPoolExecutor(1) as background:
        log.note("Triton answers")
        if not stream.run_until(lambda: log.in_a_row(remote) >= CALLS):
            return False
        log.note("Triton is told to stop")
        stopping: Future[None] = background.submit(server.stop)
        fallen_back = stream.run_until(lambda: stopping.done() and log.in_a_row(local) >= CALLS)
        stopping.result()
        log.note("Triton has stopped, and is started again, on the same ports")
        starting: Future[None] = background.submit(server.start)
        stream.run_until(starting.done)
        starting.result()
        back = stream.run_until(lambda: log.in_a_row(remote) >= CALLS)
        if back:
            first = len(log.urls) - log.in_a_row(remote)
            log.events.append(Event(first + 1, "Triton answers again"))
        return fallen_back and back
