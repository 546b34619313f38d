"""A backend in memory, for the parts of the core that stand between a call and a backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from infer_backends.plugin import (
    Array,
    DataType,
    Deadline,
    InferRequest,
    InferResponse,
    ModelMetadata,
    TensorSpec,
)

Answer = Callable[[InferRequest], dict[str, Array]]


def metadata(
    inputs: Sequence[TensorSpec] = (TensorSpec("x", DataType.FP32, (-1, 3)),),
    outputs: Sequence[TensorSpec] = (TensorSpec("y", DataType.FP32, (-1, 3)),),
    max_batch_size: int = 0,
) -> ModelMetadata:
    return ModelMetadata("fake", ("1",), "memory", tuple(inputs), tuple(outputs), max_batch_size)


def double(request: InferRequest) -> dict[str, Array]:
    return {"y": np.asarray(request.inputs["x"]) * 2}


class FakeBackend:
    """Answers by a function, raises what it is told to, and remembers its calls."""

    def __init__(
        self,
        answer: Answer = double,
        *,
        metadata: ModelMetadata | None = None,
        url: str = "fake://h/m",
    ) -> None:
        self.metadata = metadata if metadata is not None else _DEFAULT
        self.answer = answer
        self.url = url
        self.error: BaseException | None = None
        self.requests: list[InferRequest] = []
        self.closed = 0
        self._lock = threading.Lock()

    def infer(self, request: InferRequest) -> InferResponse:
        with self._lock:
            self.requests.append(request)
        if self.error is not None:
            raise self.error
        return InferResponse(self.answer(request), model_version="1", backend_url=self.url)

    def close(self) -> None:
        self.closed += 1


_DEFAULT = metadata()


class ManualClock:
    """A monotonic clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def request(
    x: object = None, *, outputs: tuple[str, ...] | None = None, deadline: Deadline | None = None
) -> InferRequest:
    array = np.ones((2, 3), np.float32) if x is None else np.asarray(x, np.float32)
    return InferRequest({"x": array}, outputs, deadline or Deadline.after(10))
