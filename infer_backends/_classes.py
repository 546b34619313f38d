"""Classification: the largest elements of an output, with their places and names. Pure.

Triton's classification extension has this done by the server; where a backend has no such thing, it
is done here, in the same form.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from infer_backends._backend import Array, InferResponse
from infer_backends._errors import InvalidInput, ProtocolError, UnsupportedOperation
from infer_backends._tensors import DataType, ModelMetadata, TensorSpec


@dataclass(frozen=True, slots=True)
class Classification:
    """One of the largest elements of an output.

    Attributes:
        value: The element.
        index: Its place among the elements of its row.
        label: The name of the class; empty where the model names none.
    """

    value: float
    index: int
    label: str = ""


def read_classes(array: Array) -> list[Any]:
    """The classes of an output, as ``top_k=`` has them.

    Args:
        array: The output: BYTES of the shape ``[..., k]``.

    Returns:
        Lists of :class:`Classification`, nested as the array is, the largest element first.

    Raises:
        InvalidInput: No classes were asked for.
        ProtocolError: It is no such output.
    """
    if array.dtype != object:
        raise InvalidInput(
            f"this output holds no classes, but an array of {array.dtype}: ask for them by top_k="
        )
    if array.ndim > 1:
        return [read_classes(row) for row in array]
    return [_read(element) for element in array.ravel().tolist()]


def _read(element: object) -> Classification:
    try:
        text = element.decode() if isinstance(element, bytes) else ""
        value, index, *label = text.split(":", 2)
        return Classification(float(value), int(index), *label)
    except ValueError:
        # Not chained: it would show what the tensor holds.
        raise ProtocolError(
            "this output holds no classes; expected BYTES of the form value:index:label, as calls "
            "with top_k= have them"
        ) from None


def classify(response: InferResponse, top_k: int, metadata: ModelMetadata) -> None:
    """Put in the place of each output its ``top_k`` largest elements, as Triton does.

    Args:
        response: The response; its outputs are replaced.
        top_k: How many; fewer if an output has fewer elements.
        metadata: What the model says of itself.

    Raises:
        UnsupportedOperation: An output is not numbers.
    """
    specs = {spec.name: spec for spec in metadata.outputs}
    response.outputs = {
        name: _largest(array, top_k, specs.get(name), rows=metadata.max_batch_size > 0)
        for name, array in response.outputs.items()
    }


def no_classes(outputs: dict[str, Array], top_k: int) -> dict[str, Array]:
    """The classes of outputs without rows."""
    return {
        name: np.empty((0, min(top_k, prod(array.shape[1:]))), object)
        for name, array in outputs.items()
    }


def _largest(array: Array, top_k: int, spec: TensorSpec | None, *, rows: bool) -> Array:
    if spec is not None and spec.dtype is DataType.BYTES:
        raise UnsupportedOperation(
            f"output {spec.name!r} is of BYTES, which has no largest elements: name others in "
            "outputs=, or leave out top_k="
        )
    labels = (spec.labels if spec is not None else None) or ()
    # Not -1: without rows, the rest would not be known.
    shape = (array.shape[0], prod(array.shape[1:])) if rows else (1, array.size)
    flat: Array = array.reshape(shape)
    texts = [_texts(row, top_k, labels) for row in flat]
    count = min(top_k, flat.shape[1])
    result = np.empty((len(texts), count), object)
    for index, row in enumerate(texts):
        result[index] = row
    return result if rows else result[0]


def _texts(row: Array, top_k: int, labels: tuple[str, ...]) -> list[bytes]:
    numbers: Any = row
    order: Iterable[int] = np.argsort(-_comparable(numbers), kind="stable")[:top_k].tolist()
    whole = numbers.dtype.kind in "iub"
    return [
        (
            (f"{int(numbers[index])}" if whole else f"{float(numbers[index]):.6f}")
            + f":{index}"
            + (f":{labels[index]}" if index < len(labels) and labels[index] else "")
        ).encode()
        for index in order
    ]


def _comparable(numbers: Any) -> Any:
    """The same order, in a type in which every element has a negative."""
    if numbers.dtype.kind in "iu" and numbers.dtype.itemsize == 8:
        # No type has the negatives of all of them.
        return np.searchsorted(np.unique(numbers), numbers)
    return numbers.astype(np.float64)
