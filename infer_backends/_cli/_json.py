"""Pure: tensors as JSON, and back.

A tensor is a nested list. BYTES elements are strings; those that are not UTF-8 are
``{"base64": "..."}``. Numbers that are not finite are written as Python does: ``NaN``,
``Infinity`` and ``-Infinity``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from infer_backends._backend import Array
from infer_backends._tensors import ModelMetadata, TensorSpec

_MARK = "base64"


def to_json(array: Array) -> Any:
    """A nested list, or one value for an array without dimensions."""
    if array.dtype == object:
        return _each(array.tolist(), _from_bytes)
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)  # its elements are no numbers of Python
    if array.dtype in (np.float16, np.float32):
        array = _shortest(array)
    return array.tolist()


def is_element(value: Any) -> bool:
    """Whether an object read from JSON is one string in base64, and not inputs by name."""
    return isinstance(value, dict) and list(value) == [_MARK]


def from_json(value: Any) -> Any:
    """A nested list for a call, from what was read from JSON.

    Raises:
        ValueError: Something in it is no element of a tensor.
    """
    return _each(value, _to_element)


def parse_json(text: str | bytes) -> Any:
    """What ``text`` says.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return json.loads(text)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def outputs_to_json(outputs: Mapping[str, Array]) -> str:
    """All outputs, by name, on one line each."""
    lines = (f"  {json.dumps(name)}: {json.dumps(to_json(a))}" for name, a in outputs.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def metadata_to_json(metadata: ModelMetadata) -> str:
    """What a model says of itself; datatypes and shapes as in the Open Inference Protocol."""
    return document(
        {
            "name": metadata.name,
            "versions": list(metadata.versions),
            "platform": metadata.platform,
            "inputs": [_spec_to_json(spec) for spec in metadata.inputs],
            "outputs": [_spec_to_json(spec) for spec in metadata.outputs],
            "max_batch_size": metadata.max_batch_size,
            "decoupled": metadata.decoupled,
            "parameters": dict(metadata.parameters),
        }
    )


def document(value: Any) -> str:
    """JSON for people and programs: indented, ASCII only."""
    return json.dumps(value, indent=2) + "\n"


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": spec.dtype.value,
        "shape": list(spec.shape),
        "optional": spec.optional,
        "labels": None if spec.labels is None else list(spec.labels),
    }


def _shortest(array: Array) -> Array:
    """As float64, with the fewest digits that still mean the same number in the array's dtype.

    Python would write 17 digits, as it does for any float64. Whole numbers stay as they are.
    """
    exact = array.astype(np.float64)
    return np.where(np.trunc(exact) == exact, exact, array.astype(str).astype(np.float64))


def _each(value: Any, convert: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        return [_each(item, convert) for item in value]
    return convert(value)


def _from_bytes(element: bytes) -> str | dict[str, str]:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return {_MARK: base64.b64encode(element).decode()}


def _to_element(element: Any) -> Any:
    if not isinstance(element, dict):
        return element
    if not is_element(element) or not isinstance(element[_MARK], str):
        raise ValueError('an object among the elements: expected {"base64": "..."}')
    try:
        return base64.b64decode(element[_MARK], validate=True)
    except binascii.Error as exc:
        raise ValueError("the base64 of an element is wrong") from exc
