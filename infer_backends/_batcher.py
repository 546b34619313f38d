"""Batches out of samples, as they come. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infer_backends._backend import Array
from infer_backends._binding import Binder
from infer_backends._coercion import as_array
from infer_backends._errors import InferError, InvalidInput
from infer_backends._semantics import Semantics

#: Memory for a batch is taken for so many bytes at first, and twice as much whenever it is full.
_FIRST_BYTES = 1 << 20
#: The first axis of a tensor that may be a batch axis of a model that does not batch.
_OPEN = ((-1,), (1,))


@dataclass(slots=True)
class Batch:
    """Samples that go in one request: some that follow each other.

    Attributes:
        first: The place of the first among all samples.
        count: How many there are.
        inputs: Their arrays by name, one row for each sample; or those of a single sample.
        rows: Whether a batch axis was put before them, so that results have none.
        error: Why the only sample has no request; None otherwise.
    """

    first: int
    count: int = 1
    inputs: dict[str, Array] = field(default_factory=dict)
    rows: bool = True
    error: InferError | None = None

    def halves(self) -> tuple[Batch, Batch]:
        """The first half of the samples, and the others."""
        return self._part(0, self.count // 2), self._part(self.count // 2, self.count)

    def _part(self, start: int, stop: int) -> Batch:
        inputs = {name: array[start:stop] for name, array in self.inputs.items()}
        return Batch(self.first + start, stop - start, inputs)


class Batcher:
    """Puts samples into batches: those of one shape that follow each other.

    Samples are copied, so that whoever makes them may use their memory again.

    Args:
        model: What they are for.
        size: The most that go in one request.
    """

    def __init__(self, model: Semantics, size: int) -> None:
        self._sampler = _Sampler(model)
        self._size = size
        self._count = 0
        self._open: _Open | None = None

    def add(self, sample: Any) -> Sequence[Batch]:
        """Take one sample; the batches that are complete now."""
        index = self._count
        self._count += 1
        try:
            bound, rows = self._sampler.bind(sample)
        except InferError as exc:
            return [*self.rest(), Batch(index, error=exc)]
        if not rows:
            return [*self.rest(), Batch(index, inputs=bound, rows=False)]
        complete: Sequence[Batch] = ()
        filling = self._open
        if filling is None or not filling.takes(bound):
            complete = self.rest()
            filling = self._open = _Open(index, bound, self._size)
        filling.add(bound)
        return [*complete, *self.rest()] if filling.count == self._size else complete

    def rest(self) -> Sequence[Batch]:
        """The batch that was not complete, if there is one."""
        rest, self._open = self._open, None
        return () if rest is None else (rest.batch(),)


class _Open:
    """A batch that is being filled."""

    __slots__ = ("_arrays", "_capacity", "_first", "_shapes", "_size", "count")

    def __init__(self, first: int, bound: Mapping[str, Array], size: int) -> None:
        largest = max((array.nbytes for array in bound.values()), default=0)
        self._first = first
        self._size = size
        self._capacity = min(size, max(1, _FIRST_BYTES // max(largest, 1)))
        self._shapes = {name: array.shape for name, array in bound.items()}
        self._arrays = {
            name: np.empty((self._capacity, *array.shape), array.dtype)
            for name, array in bound.items()
        }
        self.count = 0

    def takes(self, bound: Mapping[str, Array]) -> bool:
        """Whether a sample has the same inputs, of the same shapes."""
        return {name: array.shape for name, array in bound.items()} == self._shapes

    def add(self, bound: Mapping[str, Array]) -> None:
        """Copy a sample into the next row."""
        row = self.count
        if row == self._capacity:
            self._grow()
        for name, array in bound.items():
            self._arrays[name][row] = array
        self.count = row + 1

    def _grow(self) -> None:
        full, self._capacity = self._capacity, min(2 * self._capacity, self._size)
        for name, array in self._arrays.items():
            grown = np.empty((self._capacity, *array.shape[1:]), array.dtype)
            grown[:full] = array
            self._arrays[name] = grown

    def batch(self) -> Batch:
        """The batch, as full as it is."""
        count = self.count
        return Batch(self._first, count, {name: a[:count] for name, a in self._arrays.items()})


class _Sampler:
    """Binds samples to the inputs of one model."""

    def __init__(self, model: Semantics) -> None:
        metadata = model.metadata
        self._specs = {spec.name: spec for spec in metadata.inputs}
        self._required = sum(not spec.optional for spec in metadata.inputs)
        self._batching = metadata.max_batch_size > 0
        self._whole = model.binder
        self._of_rows: Binder | None = None
        if self._batching or (
            metadata.inputs and all(spec.shape[:1] in _OPEN for spec in metadata.inputs)
        ):
            self._of_rows = model.binder.of_rows(metadata)

    def bind(self, sample: Any) -> tuple[dict[str, Array], bool]:
        """The inputs of one sample, and whether they lack the batch axis.

        Raises:
            InvalidInput: They do not fit the model.
        """
        of_rows = self._of_rows
        if of_rows is not None:
            # What most samples are is looked for first.
            only = type(sample) is np.ndarray
            exact = of_rows.bind_exact((sample,) if only else self._by_position(sample))
            if exact is not None:
                return exact, True
        given = self._by_name(sample)
        if of_rows is not None and (self._batching or self._lacks_an_axis(given)):
            return of_rows.bind_mapping(given), True
        bound = self._whole.bind_mapping(given)
        return {name: _own(array, given[name]) for name, array in bound.items()}, False

    def _by_position(self, sample: Any) -> Sequence[Any]:
        """The values of a sample with every input; too few of another."""
        if isinstance(sample, Mapping):
            names = self._specs
            return [sample.get(name) for name in names] if len(sample) == len(names) else ()
        return sample if isinstance(sample, tuple) and len(self._specs) != 1 else (sample,)

    def _by_name(self, sample: Any) -> Mapping[str, Any]:
        if isinstance(sample, Mapping):
            return sample
        values = self._by_position(sample)
        if not self._required <= len(values) <= len(self._specs):
            inputs = ", ".join(map(str, self._specs.values())) or "none"
            raise InvalidInput(
                f"expected a sample of {len(self._specs)} inputs ({inputs}): a tuple in this "
                f"order, or a mapping by name; got {len(values)}"
            )
        return dict(zip(self._specs, values, strict=False))

    def _lacks_an_axis(self, given: Mapping[str, Any]) -> bool:
        """Whether every input is one axis short."""
        try:
            return bool(given) and all(
                as_array(value, self._specs[name]).ndim == len(self._specs[name].shape) - 1
                for name, value in given.items()
            )
        except (KeyError, InvalidInput):
            # Binding says better what is wrong.
            return False


def _own(array: Array, value: Any) -> Array:
    """An array that has no memory in common with what the caller gave."""
    made_here = isinstance(value, (list, tuple)) or (
        isinstance(value, np.ndarray) and not np.may_share_memory(array, value)
    )
    return array if made_here else array.copy()
