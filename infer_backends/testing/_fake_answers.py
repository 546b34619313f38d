"""Pure: what a fake's function returned, as the outputs of its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from infer_backends.plugin import (
    Array,
    DataType,
    InferenceFailed,
    InvalidInput,
    ModelMetadata,
    TensorSpec,
)


def read_answer(metadata: ModelMetadata, answer: object) -> dict[str, Array]:
    """The outputs that a function returned: copies, of the datatypes that the metadata says.

    Args:
        metadata: What the model says of itself.
        answer: A mapping by name; the one output of a model that has one; several, in a tuple, in
            metadata order.

    Raises:
        InferenceFailed: It does not fit the metadata.
    """
    names = [spec.name for spec in metadata.outputs]
    who = f"the function of the fake model {metadata.name!r}"
    given: Mapping[Any, Any]
    if isinstance(answer, Mapping):
        given = answer
    elif isinstance(answer, tuple) and len(names) != 1:
        given = dict(zip(names, answer, strict=False)) if len(answer) == len(names) else {}
    else:
        given = {names[0]: answer} if len(names) == 1 else {}
    if set(given) != set(names):
        got = sorted(map(str, given)) if isinstance(answer, Mapping) else type(answer).__name__
        raise InferenceFailed(
            f"{who} returned {got}; expected a mapping of arrays by the names {names}"
            + (", or a tuple of so many arrays" if len(names) > 1 else ", or one array")
        )
    return {spec.name: _array(spec, given[spec.name], who) for spec in metadata.outputs}


def _array(spec: TensorSpec, value: object, who: str) -> Array:
    try:
        array = _converted(spec.dtype, value)
    except (TypeError, ValueError) as exc:
        raise InferenceFailed(
            f"{who} returned for {spec.name!r} what is no array of {spec.dtype}: "
            f"{type(value).__name__}"
        ) from exc
    if not fits(spec.shape, array.shape):
        raise InferenceFailed(
            f"{who} returned for {spec.name!r} the shape {list(array.shape)}; its metadata says "
            f"{list(spec.shape)}. (A wrong shape that is meant is a WrongShape in its script.)"
        )
    return array


def _converted(dtype: DataType, value: object) -> Array:
    target = dtype.numpy_dtype
    if dtype is DataType.BYTES:
        return _texts(value)
    array = np.asarray(value)
    # Lists of Python numbers have the widest types; a number is not made of a truth, or a text.
    safe = np.can_cast(array.dtype, target, "same_kind") or (
        array.dtype.kind in "iu" and target.kind in "iuVf"
    )
    truth = array.dtype.kind == "b"
    if truth != (dtype is DataType.BOOL) or not (
        safe or (array.dtype.kind == "f" and dtype is DataType.BF16)
    ):
        raise TypeError(f"{array.dtype} is no {dtype}")
    return np.array(array, dtype=target, order="C")


def _texts(value: object) -> Array:
    array = np.array(value, object, order="C")
    flat = array.reshape(-1)
    for index, element in enumerate(flat.tolist()):
        if not isinstance(element, (str, bytes)):
            raise TypeError(f"{type(element).__name__} is no text")
        flat[index] = element.encode() if isinstance(element, str) else bytes(element)
    return flat.reshape(array.shape)


def fits(expected: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is what the metadata says."""
    return len(expected) == len(shape) and all(
        size in (-1, got) for size, got in zip(expected, shape, strict=True)
    )


def require_fit(metadata: ModelMetadata, inputs: Mapping[str, Array]) -> None:
    """Refuse inputs that were checked against what the model said before.

    Raises:
        InvalidInput: They do not fit what it says now.
    """
    for spec in metadata.inputs:
        array = inputs.get(spec.name)
        if array is None and not spec.optional:
            raise InvalidInput(
                f"the fake model {metadata.name!r} has the input {spec.name!r} now, which the call "
                "lacks: it was changed while it was open"
            )
        if array is not None and not (
            fits(spec.shape, array.shape) and array.dtype == spec.dtype.numpy_dtype
        ):
            raise InvalidInput(
                f"the fake model {metadata.name!r} has the input {spec} now; got "
                f"{array.dtype}{list(array.shape)}: it was changed while it was open"
            )
    known = [spec.name for spec in metadata.inputs]
    for name in inputs:
        if name not in known:
            raise InvalidInput(
                f"the fake model {metadata.name!r} has no input {name!r} any more; it has {known}"
            )
    rows = max((len(array) for array in inputs.values() if array.ndim), default=0)
    if 0 < metadata.max_batch_size < rows:
        raise InvalidInput(
            f"the fake model {metadata.name!r} takes {metadata.max_batch_size} rows; got {rows}"
        )
