"""Any number of responses to one request."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    AllBackendsFailed,
    DataType,
    InferenceFailed,
    InferError,
    InvalidInput,
    Model,
    ModelClosed,
    PluginError,
    TensorSpec,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends._async_model import AsyncModel
from infer_backends._batching import Splitting
from infer_backends._observed import Observed
from infer_backends._resilience._policy import Policy
from infer_backends._resilience._single import Single
from infer_backends.plugin import InferRequest, InferResponse, ModelMetadata
from tests.core.fakes import FakeBackend, metadata
from tests.core.resilience.members import OPEN, Switch, opened
from tests.core.running import in_loop

COUNT = [TensorSpec("n", DataType.INT32, (1,))]


def decoupled(max_batch_size: int = 0) -> ModelMetadata:
    count = [TensorSpec("n", DataType.INT32, (-1, 1))] if max_batch_size else COUNT
    spec = metadata(count, [TensorSpec("i", DataType.INT32, (1,))])
    return ModelMetadata(
        spec.name, spec.versions, spec.platform, spec.inputs, spec.outputs, max_batch_size, True
    )


class Counting(FakeBackend):
    """Counts up to what it is asked for; fails when it is told to."""

    def __init__(self, url: str = "fake://h/m", *, described: ModelMetadata | None = None) -> None:
        super().__init__(metadata=described or decoupled(), url=url)
        self.at: dict[int, BaseException] = {}
        self.ended: list[str] = []

    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        self.requests.append(request)
        try:
            for index in range(int(request.inputs["n"].ravel()[0]) + 1):
                if index in self.at:
                    raise self.at[index]
                if index < int(request.inputs["n"].ravel()[0]):
                    yield InferResponse({"i": np.array([index], np.int32)}, backend_url=self.url)
        except GeneratorExit:
            self.ended.append("left")
            raise
        else:
            self.ended.append("read")


class CountingAsync(Counting):
    """The same for event loops."""

    async def infer_async(self, request: InferRequest) -> InferResponse:
        raise AssertionError

    async def close_async(self) -> None:
        self.close()

    async def stream_async(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        for response in self.stream(request):
            yield response


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def n(count: int) -> dict[str, Any]:
    return {"n": np.array([count], np.int32)}


def read(model: Model, count: int) -> list[int]:
    return [int(part["i"][0]) for part in model.stream(n(count))]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_all_responses_come_in_order(count: int) -> None:
    backend = Counting()
    assert read(Model(backend), count) == list(range(count))
    assert backend.ended == ["read"]


def test_nothing_is_sent_before_the_first_response_is_asked_for() -> None:
    backend = Counting()
    stream = Model(backend).stream(n(3))
    assert backend.requests == []
    next(stream)
    assert len(backend.requests) == 1


def test_leaving_early_closes_the_stream_of_the_backend() -> None:
    backend = Counting()
    for part in Model(backend).stream(n(9)):
        if part["i"][0] == 2:
            break
    gc.collect()
    assert backend.ended == ["left"]


@pytest.mark.parametrize("layers", ["fallback", "splitting", "bare"])
def test_an_error_comes_in_the_place_of_the_response_and_ends_the_stream(layers: str) -> None:
    backend = Counting(described=decoupled(4 if layers == "splitting" else 0))
    backend.at = {2: InferenceFailed("no more")}
    made: Any = backend
    if layers == "splitting":
        made = Splitting(backend, backend.url)
    elif layers == "fallback":
        made = opened(Switch("fake://a/m", backend), Switch("fake://b/m", Counting("fake://b/m")))
    stream = Model(made).stream({"n": [[5]] if layers == "splitting" else [5]})
    assert [int(next(stream)["i"].ravel()[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(InferenceFailed, match="no more"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_a_foreign_exception_is_a_fault_of_the_plugin() -> None:
    backend = Counting()
    backend.at = {1: KeyError("password")}
    stream = Model(backend).stream(n(3))
    next(stream)
    with pytest.raises(PluginError, match="raised KeyError") as raised:
        next(stream)
    assert "password" not in str(raised.value)


def test_the_next_member_is_asked_before_the_first_response_and_never_after() -> None:
    first, second = Counting("fake://a/m"), Counting("fake://b/m")
    model = Model(opened(Switch("fake://a/m", first), Switch("fake://b/m", second)))
    first.at = {0: Unavailable("refused", unprocessed=True)}
    parts = list(model.stream(n(2)))
    assert [part.backend_url for part in parts] == ["fake://b/m"] * 2
    assert [attempt.url for attempt in parts[0].attempts] == ["fake://a/m"]
    first.at = {1: Unavailable("reset")}
    stream = model.stream(n(2))
    assert next(stream).backend_url == "fake://a/m"
    with pytest.raises(Unavailable, match="reset"):
        next(stream)
    assert len(second.requests) == 1


def test_a_member_that_cannot_stream_is_passed_over() -> None:
    plain = FakeBackend(metadata=decoupled())
    model = Model(opened(Switch("fake://a/m", plain), Switch("fake://b/m", Counting("fake://b/m"))))
    assert read(model, 2) == [0, 1]


def test_a_stream_that_nobody_answers_is_one_error() -> None:
    first, second = Counting("fake://a/m"), Counting("fake://b/m")
    first.at = second.at = {0: Unavailable("refused")}
    model = Model(opened(Switch("fake://a/m", first), Switch("fake://b/m", second)))
    with pytest.raises(AllBackendsFailed) as raised:
        read(model, 1)
    assert len(raised.value.attempts) == 2


def test_a_failing_stream_counts_for_the_breaker() -> None:
    first, second = Counting("fake://a/m"), Counting("fake://b/m")
    first.at = {1: Unavailable("reset")}
    model = Model(opened(Switch("fake://a/m", first), Switch("fake://b/m", second)))
    for _ in range(3):
        with pytest.raises(Unavailable):
            read(model, 3)
    assert model.status().members[0].failures == 3


@pytest.mark.parametrize("layers", ["bare", "single", "fallback"])
def test_who_cannot_stream_says_so_before_anything_is_sent(layers: str) -> None:
    backend = FakeBackend(metadata=decoupled())
    made: Any = backend
    if layers == "single":
        made = Single(backend, backend.url, Policy())
    elif layers == "fallback":
        made = opened(Switch("fake://a/m", backend), Switch("fake://b/m", backend))
    with pytest.raises(UnsupportedOperation, match="one response only"):
        Model(made).stream(n(1))
    assert backend.requests == []


def test_a_model_that_is_not_decoupled_is_called_instead() -> None:
    with pytest.raises(UnsupportedOperation, match=r"model\.infer"):
        Model(Counting(described=metadata(COUNT))).stream(n(1))


def test_a_decoupled_model_is_not_called() -> None:
    model = Model(Counting())
    for call in (lambda: model(**n(1)), lambda: model.infer(n(1)), lambda: model.submit(**n(1))):
        with pytest.raises(UnsupportedOperation, match=r"model\.stream"):
            call()


def test_wrong_inputs_are_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="missing input 'n'"):
        Model(Counting()).stream({})


def test_a_stream_is_never_split() -> None:
    backend = Counting(described=decoupled(2))
    model = Model(Splitting(backend, backend.url))
    with pytest.raises(InvalidInput, match="1 to 2 rows, and got 3"):
        list(model.stream({"n": [[1], [1], [1]]}))


def test_a_stream_of_a_closed_model_raises_model_closed() -> None:
    model = Model(Counting())
    stream = model.stream(n(3))
    model.close()
    with pytest.raises(ModelClosed):
        next(stream)


def test_a_stream_is_one_attempt_to_observers() -> None:
    events: list[Any] = []

    def observe(event: Any) -> None:
        events.append(event)

    backend = Counting()
    observed = Observed(backend, backend.url, observe)
    assert read(Model(observed), 3) == [0, 1, 2]
    assert [type(event).__name__ for event in events] == ["AttemptEvent"]


@pytest.mark.parametrize("kind", ["async", "threads", "fallback"])
def test_streams_in_event_loops_are_the_same(kind: str) -> None:
    backend = CountingAsync() if kind != "threads" else Counting()
    backend.at = {4: InferenceFailed("no more")}
    made: Any = backend
    if kind == "fallback":
        made = opened(Switch("fake://a/m", backend), Switch("fake://b/m", CountingAsync()))

    async def work() -> list[Any]:
        async with AsyncModel(made) as model:
            whole = [int(part["i"][0]) async for part in model.stream(n(3))]
            seen: list[Any] = [whole]
            try:
                async for part in model.stream(n(9)):
                    seen += [int(part["i"][0])]
            except InferError as exc:
                seen.append(type(exc))
            stream: Any = model.stream(n(3))
            seen.append(int((await stream.__anext__())["i"][0]))
            await stream.aclose()
            return seen

    assert in_loop(work()) == [[0, 1, 2], 0, 1, 2, 3, InferenceFailed, 0]
    assert backend.ended[-1] == "left"
