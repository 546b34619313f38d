"""Bulk work on samples: what is asked for when, and results out of what answers a batch. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from copy import copy
from dataclasses import dataclass
from operator import index as whole_number
from typing import Any, Literal, Protocol, cast

from infer_backends._backend import InferRequest
from infer_backends._batcher import Batch, Batcher
from infer_backends._errors import (
    InferenceFailed,
    InferError,
    InvalidInput,
    ModelClosed,
    ProtocolError,
)
from infer_backends._result import InferResult
from infer_backends._semantics import Semantics
from infer_backends._tensors import TensorSpec

OnError = Literal["raise", "return"]
Outcome = InferResult | InferError
Outcomes = Sequence[Outcome]
Ask = Callable[[InferRequest], Awaitable[Any]]

#: Rows in a request to a model that takes any number of them, and says of none that it is best.
ROWS = 32

#: A batch that raises one of these may hold a single sample that is to blame.
_OF_SAMPLES = (InvalidInput, InferenceFailed)


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """How samples are worked through; see :meth:`Model.map`.

    Attributes:
        batch_size: Samples in one request.
        concurrency: Requests in flight at the same time.
        ordered: Whether results come in the order of the samples.
        on_error: What becomes of a sample that fails.
        timeout: The time for each request, in seconds; None for the model's own.
        outputs: The outputs wanted, checked; None for all.
        whole: The outputs that have no batch axis.
    """

    batch_size: int
    concurrency: int
    ordered: bool
    on_error: OnError
    timeout: float | None
    outputs: tuple[str, ...] | None
    whole: frozenset[str]

    @classmethod
    def read(
        cls,
        model: Semantics,
        *,
        batch_size: int | str,
        concurrency: int,
        ordered: bool,
        on_error: OnError,
        timeout: float | None,
        outputs: Iterable[str] | None,
    ) -> BulkOptions:
        """The options, checked.

        Raises:
            InvalidInput: One of them is wrong.
            ModelClosed: The model was closed.
        """
        model.calls.require_open()
        model.require_one_response()
        if batch_size == "auto":
            size = _best_size(model)
        else:
            size = _count(batch_size, "batch_size= is 'auto' or a whole number, 1 or more")
        if size > 1 and not (model.metadata.max_batch_size or _any_rows(model)):
            raise InvalidInput(
                f"batch_size={size}: the model {model.metadata.name!r} has no batch axis; leave "
                "batch_size= out"
            )
        at_once = _count(concurrency, "concurrency= is a whole number, 1 or more")
        if on_error not in ("raise", "return"):
            raise InvalidInput("on_error= is 'raise' or 'return'")
        model.deadline(timeout)
        names = model.outputs.select(outputs)
        whole = frozenset() if model.metadata.max_batch_size else _whole(model.metadata.outputs)
        return cls(size, at_once, bool(ordered), on_error, timeout, names, whole)


def _count(number: Any, expected: str) -> int:
    try:
        count = 0 if isinstance(number, bool) else whole_number(number)
    except TypeError:
        count = 0
    if count < 1:
        raise InvalidInput(expected)
    return count


def _best_size(model: Semantics) -> int:
    return model.metadata.max_batch_size or (ROWS if _any_rows(model) else 1)


def _any_rows(model: Semantics) -> bool:
    """Whether the first axis of all tensors may have any length, as that of a batch."""
    specs = (*model.metadata.inputs, *model.metadata.outputs)
    return bool(model.metadata.inputs) and all(spec.shape[:1] == (-1,) for spec in specs)


def _whole(outputs: Iterable[TensorSpec]) -> frozenset[str]:
    return frozenset(spec.name for spec in outputs if spec.shape[:1] not in ((-1,), (1,)))


def require_samples(samples: object) -> None:
    """Refuse what has no samples in it.

    Raises:
        InvalidInput: It cannot be gone through, or is more likely one sample.
    """
    try:
        if isinstance(samples, (str, bytes, Mapping)):
            raise TypeError
        if not isinstance(samples, AsyncIterable):
            iter(cast("Iterable[Any]", samples))
    except TypeError:
        raise InvalidInput(
            f"expected an iterable of samples, got {type(samples).__name__}; pass [sample] if it "
            "is one"
        ) from None


class Source:
    """Batches of samples, until there are no more; what their iterable raises is for the end.

    Args:
        batcher: Puts them into batches.
        samples: The samples.
    """

    def __init__(self, batcher: Batcher, samples: Iterable[Any]) -> None:
        self._batcher = batcher
        self._samples = iter(samples)
        self._complete: deque[Batch] = deque()
        self._ended = False
        self._error: Exception | None = None

    async def _read(self) -> bool:
        """Take samples until a batch is complete; whether one is."""
        return any(map(self._take, self._samples))

    def _take(self, sample: Any) -> bool:
        """Take one sample; whether a batch is complete."""
        complete = self._batcher.add(sample)
        self._complete.extend(complete)
        return bool(complete)

    @property
    def more(self) -> bool:
        """Whether there may be more."""
        return bool(self._complete) or not self._ended

    async def next(self) -> Batch | None:
        """The next one; None if there is none after all."""
        if not self._complete and not self._ended:
            try:
                complete = await self._read()
            except Exception as exc:  # noqa: BLE001 - raised at the end
                complete, self._error = False, exc
            if not complete:
                self._ended = True
                self._complete.extend(self._batcher.rest())
        return self._complete.popleft() if self._complete else None

    def end(self) -> None:
        """Raise what the iterable of samples raised, after the results of those before."""
        if self._error is not None:
            raise self._error


class Crew(Protocol):
    """Who asks for batches, several at the same time. What has begun is in a list, in order."""

    def begin(self, batch: Batch) -> Any:
        """Ask for a batch as soon as somebody is free."""
        ...

    def ready(self, running: deque[Any]) -> bool:
        """Whether what comes next has ended."""
        ...

    async def take(self, running: deque[Any]) -> list[Outcomes]:
        """Take what comes next out of what has begun; wait for one at least."""
        ...

    async def close(self, running: deque[Any]) -> None:
        """End all that has begun."""
        ...


class Work:
    """What became of the samples, some batches at a time.

    As many batches as are at work, and as many that are ready for them, are taken ahead. When
    enough are at work, what is there is given before more is taken.

    Args:
        source: The batches.
        crew: Who asks for them.
        options: How.
    """

    def __init__(self, source: Source, crew: Crew, options: BulkOptions) -> None:
        self._source = source
        self._crew = crew
        self._enough = options.concurrency
        self._running: deque[Any] = deque()

    async def next(self) -> list[Outcomes] | None:
        """The outcomes of the batches that come next, at least of one; None at the end.

        Raises:
            Exception: What the iterable of samples raised.
        """
        source, crew, running = self._source, self._crew, self._running
        while source.more and len(running) < 2 * self._enough:
            if len(running) >= self._enough and crew.ready(running):
                break
            batch = await source.next()
            if batch is not None:
                running.append(crew.begin(batch))
        if running:
            return await crew.take(running)
        source.end()
        return None

    async def close(self) -> None:
        """End all that has begun."""
        await self._crew.close(self._running)


async def outcomes(ask: Ask, model: Semantics, options: BulkOptions, batch: Batch) -> Outcomes:
    """What became of each sample of a batch, in order.

    If the model refuses the batch, each half of it is asked for alone, to find the culprit.
    """
    if batch.error is not None:
        return [_of_sample(batch.error, batch.first)]
    try:
        request = InferRequest(batch.inputs, options.outputs, model.deadline(options.timeout))
        whole = model.result(await ask(request), request)
        return _results(whole, batch, options.whole)
    except InferError as exc:
        if batch.count > 1 and isinstance(exc, _OF_SAMPLES):
            first, second = batch.halves()
            return [
                *await outcomes(ask, model, options, first),
                *await outcomes(ask, model, options, second),
            ]
        return [_of_sample(exc, batch.first + place) for place in range(batch.count)]


def _results(whole: InferResult, batch: Batch, without_rows: frozenset[str]) -> list[InferResult]:
    if not batch.rows:
        whole.sample_index = batch.first
        return [whole]
    split = [(name, array, name not in without_rows) for name, array in whole.items()]
    for name, array, rows in split:
        if rows and array.shape[:1] != (batch.count,):
            raise ProtocolError(_no_rows(name, array.shape, batch.count))
    return [
        InferResult(
            # Views would keep the memory of the whole batch.
            {name: array[place, ...].copy() if rows else array for name, array, rows in split},
            backend_url=whole.backend_url,
            attempts=whole.attempts,
            model_version=whole.model_version,
            parameters=whole.parameters,
            sample_index=batch.first + place,
        )
        for place in range(batch.count)
    ]


def _no_rows(name: str, shape: tuple[int, ...], count: int) -> str:
    return (
        f"output {name!r}: a batch of {count} sample{'s' if count > 1 else ''} was answered by an "
        f"array of shape {shape}; the model does not keep one output row for each input row, so "
        "give it samples with a batch axis, x[None]"
    )


def _of_sample(error: InferError, index: int) -> InferError:
    """The same error, of one sample."""
    told = copy(error)
    told.args = (f"sample {index}: {error}",)
    told.sample_index = index
    told.__cause__ = error
    return told


def given_back(outcome: Outcome, options: BulkOptions) -> Outcome:
    """An outcome as the caller wants it; that the model was closed is no sample's fault."""
    if isinstance(outcome, InferError) and (
        options.on_error == "raise" or isinstance(outcome, ModelClosed)
    ):
        raise outcome
    return outcome
