"""What a model that OpenVINO has read says of itself, as the library's metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePath
from typing import Any

from infer_backends.plugin import (
    DataType,
    ModelMetadata,
    TensorSpec,
    UnsupportedOperation,
    with_labels,
)
from infer_backends_openvino._settings import Settings
from infer_backends_openvino._types import DATATYPES, dimensions

_SINK = re.compile(r"/sink_port_\d+\Z")


def read_metadata(model: Any, settings: Settings) -> ModelMetadata:
    """The metadata of a model, compiled or not.

    The name is the file's, without what it ends in. OpenVINO tells of no version, not even of one
    that an ONNX file states.

    Raises:
        UnsupportedOperation: A tensor that cannot be exchanged with NumPy, whose rank is
            unknown, or of a datatype that OpenVINO does not compute in.
    """
    notes = _notes(model)
    of_outputs = {name for port in model.outputs for name in port.names}
    inputs = tuple(_tensor(port, name, settings) for port, name in _named(model.inputs, of_outputs))
    outputs = tuple(_tensor(port, name, settings) for port, name in _named(model.outputs))
    return ModelMetadata(
        name=PurePath(settings.file.path).stem,
        versions=(),
        platform=f"openvino {settings.device}",
        inputs=inputs,
        outputs=with_labels(outputs, notes),
        parameters=notes,
    )


def _named(ports: Iterable[Any], foreign: Collection[str] = ()) -> list[tuple[Any, str]]:
    """Each input or output, and a name that no other of them has.

    Args:
        ports: All inputs, or all outputs.
        foreign: Names of outputs, which an input has, too, when it is given back as it is.
    """
    found: list[tuple[Any, str]] = []
    taken: set[str] = set()
    for port in ports:
        candidates = [*_names(port, foreign)]
        candidates += [f"{candidates[0]}_{number}" for number in range(1, len(taken) + 1)]
        name = next(name for name in candidates if name not in taken)
        taken.add(name)
        found.append((port, name))
    return found


def _names(port: Any, foreign: Collection[str]) -> list[str]:
    """The names of a tensor, best first: one by which its node is known, then the shortest.

    Some tensors have several names, and those of PyTorch often none: the node's is then taken.
    """
    node = _SINK.sub("", port.get_node().get_friendly_name())
    names = sorted(port.names - set(foreign), key=lambda name: (name != node, len(name), name))
    return names or [node]


def _tensor(port: Any, name: str, settings: Settings) -> TensorSpec:
    kind, location = port.element_type.get_type_name(), settings.file.location
    dtype = DATATYPES.get(kind)
    if dtype is None:
        raise UnsupportedOperation(f"the tensor {name!r} of {location!r} {_why_not(kind)}")
    if dtype is DataType.FP64 and settings.exact:
        raise UnsupportedOperation(
            f"the tensor {name!r} of {location!r} is FP64, which OpenVINO computes in FP32: give "
            "precision=fp32 to accept that, or use onnx: for the same file"
        )
    if port.partial_shape.rank.is_dynamic:
        raise UnsupportedOperation(
            f"the tensor {name!r} of {location!r} declares no rank, which OpenVINO does not run: "
            "export the model with a shape (its dimensions may vary)"
        )
    return TensorSpec(name, dtype, dimensions(port.partial_shape))


def _why_not(kind: str) -> str:
    if kind == "string":
        return (
            "holds strings, and OpenVINO corrupts memory when it gives them back: use onnx: for "
            "such a model"
        )
    return (
        f"is of OpenVINO's type {kind}, which cannot be exchanged with NumPy: convert it inside "
        "the model"
    )


def _notes(model: Any) -> dict[str, str]:
    """What the author wrote down; the notes of an ONNX file have their own names, others dotted."""
    notes: dict[str, str] = {}
    for name in model.rt_info:
        _flatten(str(name), model.rt_info[name], notes)
    labels = notes.get("model_info.labels", "").split()
    if labels:
        # One text, with spaces between labels, and "_" for those in them: as model zoos write it.
        notes.setdefault("labels", json.dumps(labels))
    return notes


def _flatten(name: str, value: Any, notes: dict[str, str]) -> None:
    value = getattr(value, "value", value)
    if isinstance(value, Mapping):
        for key in value:
            _flatten(str(key) if name == "framework" else f"{name}.{key}", value[key], notes)
    elif isinstance(value, (list, tuple)):
        notes[name] = " ".join(map(str, value))
    else:
        notes[name] = str(value)
