"""Bulk work on samples: batches out of them, and results out of what answers a batch. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from infer_backends._backend import Array, InferRequest
from infer_backends._errors import InferenceFailed, InferError, InvalidInput, ProtocolError
from infer_backends._result import InferResult
from infer_backends._semantics import Semantics

OnError = Literal["raise", "return"]
Outcome = InferResult | InferError

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
    """

    batch_size: int
    concurrency: int
    ordered: bool
    on_error: OnError
    timeout: float | None
    outputs: tuple[str, ...] | None

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
        """
        model.require_one_response()
        size = _count("batch_size", _best_size(model) if batch_size == "auto" else batch_size)
        _count("concurrency", concurrency)
        if on_error not in ("raise", "return"):
            raise InvalidInput("on_error= is 'raise' or 'return'")
        if size > 1 and not (model.metadata.max_batch_size or _any_rows(model)):
            raise InvalidInput(
                f"batch_size={size}: the model {model.metadata.name!r} has no batch axis; leave "
                "batch_size= out"
            )
        model.deadline(timeout)
        names = model.outputs.select(outputs)
        return cls(size, concurrency, ordered, on_error, timeout, names)


def _count(name: str, number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InvalidInput(f"{name}= is a whole number, 1 or more")
    return number


def _best_size(model: Semantics) -> int:
    return model.metadata.max_batch_size or (ROWS if _any_rows(model) else 1)


def _any_rows(model: Semantics) -> bool:
    """Whether the first axis of all tensors may have any length, as that of a batch."""
    specs = (*model.metadata.inputs, *model.metadata.outputs)
    return bool(model.metadata.inputs) and all(spec.shape[:1] == (-1,) for spec in specs)


@dataclass(slots=True)
class Batch:
    """Samples that go in one request.

    Attributes:
        indices: Their places among all samples.
        inputs: Their arrays by name, one for each sample, with the batch axis if there is one.
        rows: Whether there is a batch axis, so that results have none.
        error: Why the only sample has no request; None otherwise.
    """

    indices: list[int]
    inputs: dict[str, list[Array]] = field(default_factory=dict)
    rows: bool = True
    error: InferError | None = None

    def request(self, model: Semantics, options: BulkOptions) -> InferRequest:
        """The request of all of them."""
        joined = {
            name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            for name, arrays in self.inputs.items()
        }
        return InferRequest(joined, options.outputs, model.deadline(options.timeout))

    def alone(self) -> list[Batch]:
        """Each sample in a batch of its own."""
        return [
            Batch([index], {name: [arrays[place]] for name, arrays in self.inputs.items()})
            for place, index in enumerate(self.indices)
        ]


def batches(model: Semantics, options: BulkOptions, samples: Iterable[Any]) -> Iterator[Batch]:
    """Batches of samples in their order: of those of one shape that follow each other."""
    batcher = Batcher(model, options)
    for sample in samples:
        yield from batcher.add(sample)
    yield from batcher.rest()


class Batcher:
    """Puts samples into batches as they come."""

    def __init__(self, model: Semantics, options: BulkOptions) -> None:
        self._model = model
        self._size = options.batch_size
        self._count = 0
        self._open: Batch | None = None
        self._likeness: object = None

    def add(self, sample: Any) -> list[Batch]:
        """Take one sample; the batches that are complete now."""
        index = self._count
        self._count += 1
        try:
            bound, rows = _bind(self._model, sample)
        except InferError as exc:
            return [*self.rest(), Batch([index], error=exc)]
        likeness = [(name, array.shape[1:]) for name, array in bound.items()]
        complete = []
        if self._open is None or not rows or likeness != self._likeness:
            complete = self.rest()
            self._open = Batch([], {name: [] for name in bound}, rows)
            self._likeness = likeness
        self._open.indices.append(index)
        for name, array in bound.items():
            self._open.inputs[name].append(array)
        if not rows or len(self._open.indices) == self._size:
            complete += self.rest()
        return complete

    def rest(self) -> list[Batch]:
        """The batch that was not complete, if there is one."""
        rest, self._open = self._open, None
        return [] if rest is None else [rest]


def _bind(model: Semantics, sample: Any) -> tuple[dict[str, Array], bool]:
    """The inputs of one sample, and whether a batch axis was put before it."""
    given = _by_name(model, sample)
    specs = {spec.name: spec for spec in model.metadata.inputs}
    batching = model.metadata.max_batch_size > 0
    rows = batching or _lacks_an_axis(model, given)
    if not rows:
        return model.binder.bind_mapping(given), False
    try:
        arrays = {
            name: _as_array(value)[None] if name in specs else value
            for name, value in given.items()
        }
    except ValueError as exc:
        raise InvalidInput("a sample is a list of lists of different lengths") from exc
    return model.binder.bind_mapping(arrays), True


def _by_name(model: Semantics, sample: Any) -> Mapping[str, Any]:
    if isinstance(sample, Mapping):
        return sample
    inputs = model.metadata.inputs
    values = sample if isinstance(sample, tuple) and len(inputs) != 1 else (sample,)
    required = sum(not spec.optional for spec in inputs)
    if not required <= len(values) <= len(inputs):
        raise InvalidInput(
            f"expected a sample of {len(inputs)} inputs ({', '.join(map(str, inputs))}): a tuple "
            f"in this order, or a mapping by name; got {len(values)}"
        )
    return {spec.name: value for spec, value in zip(inputs, values, strict=False)}


def _lacks_an_axis(model: Semantics, given: Mapping[str, Any]) -> bool:
    """Whether every input is one axis short, where the first may have any length, or is one."""
    specs = {spec.name: spec for spec in model.metadata.inputs}
    try:
        return bool(given) and all(
            specs[name].shape[:1] in ((-1,), (1,))
            and _as_array(value).ndim == len(specs[name].shape) - 1
            for name, value in given.items()
        )
    except (KeyError, ValueError):
        # Binding says better what is wrong.
        return False


def _as_array(value: Any) -> Array:
    array: Array = value if isinstance(value, np.ndarray) else np.asarray(value)
    return array


Ask = Callable[[InferRequest], Awaitable[Any]]


async def outcomes(ask: Ask, model: Semantics, options: BulkOptions, batch: Batch) -> list[Outcome]:
    """What became of each sample of a batch, in order.

    If the model refuses the batch, each of its samples is asked for alone, to find the culprit.
    """
    if batch.error is not None:
        return [_of_sample(batch.error, batch.indices[0])]
    try:
        request = batch.request(model, options)
        response = await ask(request)
        whole = model.result(response, request)
        return [_result(whole, batch, place) for place in range(len(batch.indices))]
    except InferError as exc:
        if len(batch.indices) > 1 and isinstance(exc, _OF_SAMPLES):
            alone = [await outcomes(ask, model, options, one) for one in batch.alone()]
            return [outcome for one in alone for outcome in one]
        return [_of_sample(exc, index) for index in batch.indices]


def _result(whole: InferResult, batch: Batch, place: int) -> InferResult:
    index = batch.indices[place]
    if not batch.rows:
        whole.sample_index = index
        return whole
    outputs = {}
    for name, array in whole.items():
        if array.shape[:1] != (len(batch.indices),):
            raise ProtocolError(
                f"output {name!r}: a batch of {len(batch.indices)} samples was answered by an "
                f"array of shape {array.shape}; the model does not keep one output row for each "
                "input row, so call it with single samples: batch_size=1"
            )
        # A view would keep the memory of the whole batch.
        outputs[name] = array[place : place + 1].reshape(array.shape[1:]).copy()
    return InferResult(
        outputs,
        backend_url=whole.backend_url,
        attempts=whole.attempts,
        model_version=whole.model_version,
        parameters=whole.parameters,
        sample_index=index,
    )


def _of_sample(error: InferError, index: int) -> InferError:
    """The same error, of one sample."""
    told = copy(error)
    told.args = (f"sample {index}: {error}",)
    told.sample_index = index
    told.__cause__ = error
    return told


def given_back(outcome: Outcome, options: BulkOptions) -> Outcome:
    """An outcome as the caller wants it."""
    if isinstance(outcome, InferError) and options.on_error == "raise":
        raise outcome
    return outcome
