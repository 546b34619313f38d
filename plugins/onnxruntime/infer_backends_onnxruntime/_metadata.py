"""What a session says of its model, as the library's metadata."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from infer_backends.plugin import ModelMetadata, ProtocolError, TensorSpec, UnsupportedOperation
from infer_backends_onnxruntime._errors import unsupported_tensor
from infer_backends_onnxruntime._graph import declared_tensors
from infer_backends_onnxruntime._session import SessionSpec
from infer_backends_onnxruntime._types import datatype, dimensions

_NO_VERSION = 2**63 - 1  # What onnxruntime answers for a file that states none.


def read_metadata(session: Any, spec: SessionSpec) -> ModelMetadata:
    """The metadata of an open model.

    The name is the file's, without ``.onnx``; the version is the one that the file states, if
    any. Initializers that a call could override are not inputs. An output of unknown rank has the
    shape ``()``, as a scalar does.

    Raises:
        UnsupportedOperation: A tensor that cannot be exchanged, or an input of unknown rank.
        ProtocolError: Names or notes in the file that are not text.
    """
    try:
        described = session.get_modelmeta()
        version, notes = described.version, dict(described.custom_metadata_map)
        inputs = tuple(_tensor(argument, spec) for argument in session.get_inputs())
        outputs = tuple(_tensor(argument, spec) for argument in session.get_outputs())
    except UnicodeDecodeError as exc:
        raise ProtocolError(f"{spec.location!r} holds names or notes that are not UTF-8") from exc
    _require_ranks(inputs, spec)
    return ModelMetadata(
        name=PurePath(spec.path).stem,
        versions=() if version in {0, _NO_VERSION} else (str(version),),
        platform=session.get_providers()[0],
        inputs=inputs,
        outputs=outputs,
        parameters=notes,
    )


def _tensor(argument: Any, spec: SessionSpec) -> TensorSpec:
    found = datatype(argument.type)
    if found is None:
        raise unsupported_tensor(spec.location, argument.name, argument.type)
    return TensorSpec(argument.name, found, dimensions(argument.shape))


def _require_ranks(inputs: tuple[TensorSpec, ...], spec: SessionSpec) -> None:
    """Refuse inputs without a declared shape, which onnxruntime shows as scalars."""
    scalars = {tensor.name for tensor in inputs if not tensor.shape}
    if not scalars:
        return
    for tensor in declared_tensors(spec.path):
        if tensor.name in scalars and not tensor.ranked:
            raise UnsupportedOperation(
                f"the input {tensor.name!r} of {spec.location!r} declares no rank, so no call "
                "could be checked against it: export the model with a shape (its dimensions may "
                "be symbolic)"
            )
