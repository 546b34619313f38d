"""The backend of ``fake:`` URLs."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

from infer_backends.plugin import (
    Deadline,
    InferError,
    InferRequest,
    InferResponse,
    ModelClosed,
    ModelMetadata,
    OpenOptions,
    Unavailable,
)
from infer_backends.testing._fake import Fake
from infer_backends.testing._fake_calls import FakeCall
from infer_backends.testing._fake_outcomes import (
    Answer,
    Outcome,
    Slow,
    error_of,
)

#: What only carries and schedules a request: recorded, so that tests see what was asked for.
_RECORDED = frozenset({"priority", "queue_timeout", "compression"})


class FakeBackend:
    """One opening of a fake. Safe for threads, and after a fork.

    Args:
        fake: The model.
        metadata: What it said of itself when it was opened.
        url: Its URL, secrets masked.
        options: Those of the plugin: ``delay`` (seconds), ``faults`` (a share of the calls), and
            the headers given at open.
    """

    def __init__(self, fake: Fake, metadata: ModelMetadata, url: str, options: OpenOptions) -> None:
        self._fake = fake
        self._url = url
        self._headers = options.headers
        self._delay: float = options["delay"]
        self._faults: float = options["faults"]
        self._seed: int = options["seed"]
        self._count = itertools.count()
        self._closed = False
        self._metadata = metadata

    @property
    def metadata(self) -> ModelMetadata:
        """What the model said of itself when it was opened."""
        return self._metadata

    @property
    def request_options(self) -> frozenset[str]:
        """What a call may ask for."""
        return _RECORDED | {"sequence"} if self._fake.stateful else _RECORDED

    def ready(self, deadline: Deadline) -> bool:
        """Whether the fake is there; one that hangs does not say so in time."""
        try:
            self.describe(deadline)
        except InferError:
            return False
        return True

    def describe(self, deadline: Deadline) -> ModelMetadata:
        """What the model says of itself now."""
        self._require_open()
        self._fake.health.require_there()
        self._fake.health.wait(deadline, self._require_open, answering=False)
        return self._fake.metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request, as its script says, or by the fake's function."""
        call, outcome = self._arrive(request)
        try:
            self._meet(request, outcome)
            outputs = self._fake.one_response(request, outcome)
            request.deadline.require(f"{self._fake.who} answered")
        except InferError as exc:
            call.failed(exc)
            raise
        call.answered = True
        return self._response(outputs)

    def close(self) -> None:
        """Let go of the model; calls that wait fail."""
        self._closed = True
        with self._fake.health.news:
            self._fake.health.news.notify_all()

    def _arrive(self, request: InferRequest) -> tuple[FakeCall, Outcome | None]:
        self._require_not_closed()
        request.deadline.require(f"the call reached {self._fake.who}")
        return self._fake.arrive(request, self._url, self._headers)

    def _meet(self, request: InferRequest, outcome: Outcome | None) -> None:
        """Wait for as long as the answer takes, and fail if that is what it comes to."""
        if isinstance(outcome, InferError) or (
            isinstance(outcome, type) and issubclass(outcome, InferError)
        ):
            raise error_of(outcome, self._fake.who)
        if self._faults and self._drawn() < self._faults:
            raise Unavailable(f"{self._fake.who} fails a share of its calls, as its URL says")
        self._wait(request.deadline, outcome)

    def _wait(self, deadline: Deadline, outcome: Outcome | None) -> None:
        if outcome is None or isinstance(outcome, (Answer, Slow)):
            own = outcome.seconds if isinstance(outcome, Slow) else 0.0
            outcome = Slow(max(own, self._delay))
        self._fake.health.wait(deadline, self._require_open, outcome)

    def _drawn(self) -> float:
        """A number from 0 to 1 for the next call, the same ones for the same seed."""
        drawn = hashlib.shake_128(f"{self._seed} {next(self._count)}".encode()).digest(4)
        return int.from_bytes(drawn, "little") / 2**32

    def _require_open(self) -> None:
        self._require_not_closed()
        self._fake.require_started()

    def _require_not_closed(self) -> None:
        if self._closed:
            raise ModelClosed(f"{self._fake.who} is closed: open it again")

    def _response(self, outputs: dict[str, Any]) -> InferResponse:
        version = self._metadata.versions[0] if self._metadata.versions else ""
        return InferResponse(outputs, model_version=version, backend_url=self._url)


class StreamingFakeBackend(FakeBackend):
    """One opening of a decoupled fake."""

    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        """The responses to one request; each takes as long as an answer does."""
        call, outcome = self._arrive(request)
        try:
            self._meet(request, outcome)
            for index, outputs in enumerate(self._fake.responses(request, outcome)):
                if index:
                    self._wait(request.deadline, None)
                request.deadline.require(f"{self._fake.who} sent all of its responses")
                yield self._response(outputs)
        except InferError as exc:
            call.failed(exc)
            raise
        call.answered = True
