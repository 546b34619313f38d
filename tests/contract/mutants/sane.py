"""A backend in memory that keeps every rule of the contract: what the mutants are made from."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import pytest

from infer_backends import DataType, TensorSpec, register_backend
from infer_backends.plugin import (
    Array,
    Backend,
    Deadline,
    InferenceFailed,
    InferError,
    InferRequest,
    InferResponse,
    ModelClosed,
    ModelMetadata,
    ModelNotFound,
    ModelURL,
    OpenOptions,
    Option,
    Unavailable,
)
from infer_backends.testing import (
    REFERENCE_MODELS,
    BackendContract,
    SequenceContract,
    StreamingContract,
    adding,
    counting,
)

#: Whether what stands for the server is away.
AWAY = threading.Event()
OPTIONS = (
    Option("gain", float, 1.0, "what floats are multiplied with"),
    Option("token", str, None, "who asks", secret=True),
)
_SIZE = 128
_ONE = (DataType.INT32, (1,))
#: The models that are no ONNX files: their inputs, and their outputs.
_FURTHER = {
    "counting": (TensorSpec("number", *_ONE), TensorSpec("count", *_ONE)),
    "adding": (TensorSpec("term", *_ONE), TensorSpec("total", *_ONE)),
}

Outputs = Mapping[str, Any]
Steps = Generator[None, None, Outputs]


class Run:
    """The pauses of a run, and then its outputs."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.outputs: Outputs = {}

    def __iter__(self) -> Iterator[None]:
        self.outputs = yield from self.steps


class SaneBackend:
    """A reference model, run by its Python function."""

    def __init__(self, name: str, url: ModelURL, options: OpenOptions) -> None:
        self.name = name
        self.url = str(url)
        self.options = options
        self.gain = np.float32(options["gain"])
        self.closed = threading.Event()
        self.states: dict[int, dict[str, int]] = {}
        self.lock = threading.Lock()
        self.metadata = self.declare()

    def declare(self) -> ModelMetadata:
        if self.name in _FURTHER:
            given, made = _FURTHER[self.name]
            decoupled = self.name == "counting"
            return ModelMetadata(self.name, (), "python", (given,), (made,), decoupled=decoupled)
        reference = REFERENCE_MODELS[self.name]
        return ModelMetadata(self.name, (), "python", reference.inputs, reference.outputs)

    # --- one call ---------------------------------------------------------------------------

    def infer(self, request: InferRequest) -> InferResponse:
        self.begin(request)
        run = Run(self.guarded(request))
        for _ in run:
            pass
        return self.respond(request, run.outputs)

    async def infer_async(self, request: InferRequest) -> InferResponse:
        self.begin(request)
        run = Run(self.guarded(request))
        for _ in run:
            await asyncio.sleep(0)
        return self.respond(request, run.outputs)

    def begin(self, request: InferRequest) -> None:
        request.deadline.require("the model ran")
        if AWAY.is_set():
            raise Unavailable(f"{self.url} is away: wait until it is back", unprocessed=True)

    def guarded(self, request: InferRequest) -> Steps:
        """What is run, with its own errors for those of the library."""
        try:
            return (yield from self.steps(request))
        except InferError:
            raise
        except Exception as exc:
            raise self.failure(request, exc) from exc

    def failure(self, request: InferRequest, exc: Exception) -> InferError:
        return InferenceFailed(f"the model {self.name!r} failed: {type(exc).__name__}")

    def steps(self, request: InferRequest) -> Steps:
        """Run the model, and pause where others may go on."""
        yield
        if self.name == "slow":
            return (yield from self.rounds(request))
        if self.name == "adding":
            return self.step(request)
        return self.compute(request)

    def compute(self, request: InferRequest) -> Outputs:
        outputs = REFERENCE_MODELS[self.name].compute(request.inputs)
        if self.gain == 1:
            return outputs
        return {
            name: array * self.gain if array.dtype == np.float32 else array
            for name, array in outputs.items()
        }

    def rounds(self, request: InferRequest) -> Steps:
        weights = np.full((_SIZE, _SIZE), 1 / _SIZE, np.float32)
        matrix = weights
        for _ in range(int(np.asarray(request.inputs["rounds"])[0])):
            self.check(request)
            matrix = matrix @ weights
            yield
        return {"total": matrix.sum(axis=0)[:1]}

    def check(self, request: InferRequest) -> None:
        """End a call in the middle, if it has to."""
        request.deadline.require("the model had run")
        if self.closed.is_set():
            raise ModelClosed("the model was closed")

    def step(self, request: InferRequest) -> Outputs:
        options = request.options
        assert options is not None
        assert options.sequence is not None
        sequence = options.sequence
        with self.lock:
            state = self.states.setdefault(sequence.id, {})
            if sequence.end:
                del self.states[sequence.id]
        return adding(request.inputs, state)

    def respond(self, request: InferRequest, outputs: Outputs) -> InferResponse:
        wanted = request.outputs
        specs = {spec.name: spec for spec in self.metadata.outputs}
        return InferResponse(
            {
                name: self.finish(spec, outputs[name])
                for name, spec in specs.items()
                if wanted is None or name in wanted
            },
            backend_url=self.url,
        )

    def finish(self, spec: TensorSpec, array: Array) -> Array:
        return np.array(array, spec.dtype.numpy_dtype, order="C")

    # --- what else it can do ----------------------------------------------------------------

    @property
    def request_options(self) -> frozenset[str]:
        return frozenset({"sequence"} if self.name == "adding" else ())

    def ready(self, deadline: Deadline) -> bool:
        return not AWAY.is_set()

    def describe(self, deadline: Deadline) -> ModelMetadata:
        return self.declare()

    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        self.begin(request)
        for part in counting(request.inputs):
            self.check(request)
            yield self.respond(request, part)

    async def stream_async(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        for response in self.stream(request):
            yield response
            await asyncio.sleep(0)

    def close(self) -> None:
        self.closed.set()

    async def close_async(self) -> None:
        self.close()


class Opener:
    """Opens a backend by the path of its URL; goes to other processes with it."""

    def __init__(self, backend: type[SaneBackend], absent: Iterable[str]) -> None:
        self.backend = backend
        self.absent = frozenset(absent)

    def __call__(self, url: ModelURL, options: OpenOptions) -> Backend:
        name = url.require_path()
        if name in self.absent or name not in {*REFERENCE_MODELS, *_FURTHER}:
            raise ModelNotFound(f"there is no model {name!r}")
        if AWAY.is_set():
            raise Unavailable(f"{url} is away: wait until it is back", unprocessed=True)
        return self.backend(name, url, options)


class SaneContract(BackendContract, StreamingContract, SequenceContract):
    """All of the contract, for what a subclass says that opens the models.

    Attributes:
        backend: The class of the backends.
        options: What they declare.
    """

    backend: ClassVar[type[SaneBackend]] = SaneBackend
    opener: ClassVar[type[Opener]] = Opener
    options: ClassVar[tuple[Option, ...]] = OPTIONS
    option_values: ClassVar[Mapping[str, Any]] = {"gain": 3.0}

    @pytest.fixture
    def reference_url(self) -> Iterator[Callable[[str], str]]:
        opener = self.opener(self.backend, self.absent)
        with register_backend("sane", opener, options=self.options):
            yield "sane:{}".format

    @pytest.fixture
    def outage(self) -> Callable[[], AbstractContextManager[None]]:
        @contextlib.contextmanager
        def away() -> Iterator[None]:
            AWAY.set()
            try:
                yield
            finally:
                AWAY.clear()

        return away


def pause() -> None:
    """Let another thread go on."""
    time.sleep(0.001)
