"""Pure: arguments that do not fit a model, made from what it says of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from infer_backends._backend import Array
from infer_backends._tensors import DataType, TensorSpec
from infer_backends.testing._values import example

Call = tuple[tuple[Any, ...], dict[str, Any]]


def wrong_inputs(specs: Sequence[TensorSpec]) -> dict[str, Call]:
    """Calls that a model with these inputs refuses, by what is wrong with them.

    Args:
        specs: The model's inputs, at least one.
    """
    right = [example(spec) for spec in specs]
    named = {spec.name: array for spec, array in zip(specs, right, strict=True)}
    *others, last = named
    calls: dict[str, Call] = {
        "no input": ((), {}),
        "too many": ((*right, right[-1]), {}),
        "by position and by name": (tuple(right[:1]), {last: named[last]}),
        "unknown name": ((), {**named, "no_such_input": 1}),
    }
    if others:
        calls["too few"] = (tuple(right[:-1]), {})
        calls["missing name"] = ((), {name: named[name] for name in others})
    for index, spec in enumerate(specs):
        for what, value in _misfits(spec, right[index]):
            calls[f"{what} for {spec.name}"] = ((*right[:index], value, *right[index + 1 :]), {})
    return calls


def _misfits(spec: TensorSpec, right: Array) -> Iterator[tuple[str, Any]]:
    """Values that do not fit one input."""
    yield "None", None
    yield "one axis too many", right[None]
    if right.ndim:
        yield "one axis too few", right[0]
        yield "ragged rows", [[1, 2, 3], [1]] if right.ndim > 1 else [[1], [1, 2]]
    for axis, size in enumerate(spec.shape):
        if size != -1:
            longer = np.concatenate([right, right.take([0], axis)], axis)
            yield f"length {size + 1} of axis {axis}", longer
    yield from _other_elements(spec.dtype, right)


def _other_elements(dtype: DataType, right: Array) -> Iterator[tuple[str, Any]]:
    """Arrays of the right shape whose elements do not fit."""

    def all_of(element: object, kind: Any) -> Array:
        return np.full(right.shape, element, kind)

    yield "complex numbers", all_of(1j, np.complex64)
    yield "objects", all_of(None, object)
    if dtype is DataType.BYTES:
        return
    yield "text", all_of("a", "U1")
    if dtype is DataType.BOOL:
        yield "numbers", all_of(1, np.int64)
        return
    yield "truth", all_of(True, np.bool_)
    target: np.dtype[Any] = dtype.numpy_dtype
    if target.kind in "iu":
        yield "fractions", all_of(1.5, np.float64)
        large = np.iinfo(target).max + 1
        yield "too large numbers", all_of(large, np.uint64) if large < 2**64 else all_of(-1, int)
    elif dtype is not DataType.FP64:
        yield "too large numbers", all_of(1e300, np.float64)
