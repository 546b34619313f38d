"""A model's metadata, read from what a server says of it. Pure.

Both arguments are in the JSON form that HTTP uses: KServe v2's "model metadata response" and
Triton's ``ModelConfig``, snake case, 64-bit integers as numbers or as strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from infer_backends.plugin import (
    DataType,
    ModelMetadata,
    ProtocolError,
    TensorSpec,
    UnsupportedOperation,
    with_labels,
)

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_INT64_MAX = 2**63 - 1


def read_metadata(model: Mapping[str, Any], config: Mapping[str, Any] | None) -> ModelMetadata:
    """The metadata of a model.

    Args:
        model: What the server answered when asked for the model's metadata.
        config: The model's configuration, or None where the server has no such extension.

    Raises:
        ProtocolError: A part is missing or is not what the protocol says.
        UnsupportedOperation: A tensor is of a datatype that the protocol does not have, or the
            server does not say what the model gives.
    """
    model = _mapping(model, "model metadata")
    config = _mapping(config if config is not None else {}, "model configuration")
    optional = {
        entry.get("name")
        for entry in _list(config, "input", _is_mapping)
        if entry.get("optional") is True
    }
    policy = _mapping(config.get("model_transaction_policy") or {}, "model_transaction_policy")
    inputs = _read_tensors(model, "inputs", optional)
    outputs = _read_tensors(model, "outputs", set())
    if not outputs:
        raise _undescribed(_text(model, "name", required=True))
    max_batch_size = _integer(config.get("max_batch_size") or 0, "max_batch_size")
    parameters = _read_parameters(config)
    return ModelMetadata(
        name=_text(model, "name", required=True),
        versions=tuple(_list(model, "versions", _is_text)),
        platform=_text(model, "platform") or _text(config, "backend") or _text(config, "platform"),
        inputs=inputs,
        outputs=with_labels(outputs, parameters),
        max_batch_size=max(max_batch_size, 0),
        decoupled=policy.get("decoupled") is True,
        parameters=parameters,
    )


def _read_tensors(model: Mapping[str, Any], key: str, optional: set[Any]) -> tuple[TensorSpec, ...]:
    specs: dict[str, TensorSpec] = {}
    for entry in _list(model, key, _is_mapping):
        name = _text(entry, "name", required=True)
        if name in specs:
            raise ProtocolError(f"the model metadata has two {key} of the name {name!r}")
        # Scalars may come without a shape: protobuf leaves out what is empty.
        shape = tuple(_integer(dim, f"shape of {name!r}") for dim in _list(entry, "shape", _is_dim))
        if any(dim < -1 for dim in shape):
            raise ProtocolError(f"{name!r} has a dimension below -1 in its shape {list(shape)}")
        specs[name] = TensorSpec(name, _read_datatype(entry, name), shape, name in optional)
    return tuple(specs.values())


def _read_datatype(entry: Mapping[str, Any], name: str) -> DataType:
    datatype = _text(entry, "datatype", required=True)
    try:
        return DataType(datatype)
    except ValueError as exc:
        raise UnsupportedOperation(
            f"tensor {name!r} is of the datatype {datatype[:40]!r}; known are "
            f"{', '.join(known.value for known in DataType)}"
        ) from exc


def _undescribed(name: str) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"the server names no outputs of the model {name[:200]!r}, and arrays are checked and read "
        "by what it says: declare the model's inputs and outputs there (MLServer: in "
        "model-settings.json; KServe: by get_input_types and get_output_types)"
    )


def _read_parameters(config: Mapping[str, Any]) -> dict[str, str]:
    given = _mapping(config.get("parameters") or {}, "parameters")
    parameters = {}
    for name, entry in given.items():
        text = _mapping(entry, f"parameter {name!r}").get("string_value", "")
        if isinstance(text, str):
            parameters[name] = text
    return parameters


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ProtocolError(f"the {what} should be an object, and is {type(value).__name__}")
    return value


def _text(entry: Mapping[str, Any], key: str, *, required: bool = False) -> str:
    text = entry.get(key)
    if text is None:
        text = ""
    if not isinstance(text, str) or (required and not text):
        raise ProtocolError(f"the model metadata has no {key}, or one that is no text")
    return text


def _list(entry: Mapping[str, Any], key: str, belongs: Callable[[object], bool]) -> list[Any]:
    elements = entry.get(key)
    if elements is None:
        return []
    if not isinstance(elements, list) or not all(map(belongs, elements)):
        raise ProtocolError(f"the model metadata has a wrong {key}")
    return elements


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_dim(value: object) -> bool:
    return type(value) is int or isinstance(value, str)


def _integer(value: object, what: str) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int or abs(value) > _INT64_MAX:
        raise ProtocolError(f"the {what} in the model metadata is no 64-bit integer")
    return value
