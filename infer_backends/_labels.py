"""The names of an output's classes, from what a model's author wrote down. Pure.

No protocol and no file format has a place for them that can be read, so they are looked for among
the model's parameters: ``labels.OUTPUT``, and for a model of one output ``labels`` too, a JSON list
of text; or, of one output, ``names``, which exports of YOLO models have: a Python dict of numbers
and text. What is none of these is no labels, and not an error.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import replace

from infer_backends._tensors import TensorSpec

# Classes by the ten thousand have been seen.
_LONGEST = 4 * 1024 * 1024


def with_labels(
    outputs: tuple[TensorSpec, ...], parameters: Mapping[str, str]
) -> tuple[TensorSpec, ...]:
    """The same outputs, with the names of their classes.

    Args:
        outputs: The outputs of a model.
        parameters: What its author wrote down: a Triton configuration's ``parameters``, the notes
            in an ONNX file.
    """
    if not any(name == "names" or name.startswith("labels") for name in parameters):
        return outputs
    alone = len(outputs) == 1
    return tuple(replace(spec, labels=_find(spec.name, parameters, alone)) for spec in outputs)


def _find(output: str, parameters: Mapping[str, str], alone: bool) -> tuple[str, ...] | None:
    keys = (f"labels.{output}", "labels") if alone else (f"labels.{output}",)
    for key in keys:
        labels = _from_json(parameters.get(key, ""))
        if labels:
            return labels
    return _from_names(parameters.get("names", "")) if alone else None


def _from_json(text: str) -> tuple[str, ...] | None:
    if len(text) > _LONGEST:
        return None
    try:
        return _texts(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _from_names(text: str) -> tuple[str, ...] | None:
    if len(text) > _LONGEST:
        return None
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if isinstance(names, dict):
        numbers = range(len(names))
        if names.keys() != set(numbers):
            return None
        names = [names[number] for number in numbers]
    return _texts(names)


def _texts(labels: object) -> tuple[str, ...] | None:
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return None
    return tuple(labels) or None
