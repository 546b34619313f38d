"""What a session, or the file alone, says of a model, as the library's metadata."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from infer_backends.plugin import (
    ModelMetadata,
    ModelURL,
    OpenOptions,
    ProtocolError,
    TensorSpec,
    UnsupportedOperation,
    with_labels,
)
from infer_backends_onnxruntime._cuda import why_not
from infer_backends_onnxruntime._errors import unsupported_tensor
from infer_backends_onnxruntime._graph import DeclaredTensor, declared_model, declared_tensors
from infer_backends_onnxruntime._install import import_runtime, require_installed
from infer_backends_onnxruntime._session import SessionSpec
from infer_backends_onnxruntime._types import ELEMENTS, datatype, dimensions

_NO_VERSION = 2**63 - 1  # What onnxruntime answers for a file that states none.
_EITHER = "onnxruntime"


def tell_metadata(url: ModelURL, options: OpenOptions) -> ModelMetadata | None:
    """The metadata of a model that is not loaded; see the plugin's hook.

    onnxruntime is imported only for a device that was asked for by name: that it cannot be used
    should be known before the model is needed.
    """
    spec = SessionSpec.from_options(url, options)
    require_installed()
    options.deadline.require("reading what the model is")
    spec.require_file()
    if spec.device.kind not in {"auto", "cpu"}:
        problem = why_not(import_runtime(), spec.device.provider, spec.device.index)
        if problem is not None:
            raise problem
    return declared_metadata(spec)


def declared_metadata(spec: SessionSpec) -> ModelMetadata | None:
    """The metadata that the file declares; None where the session may say something else.

    A session may know more dimensions of an output than the file declares; those are -1 here.
    """
    model = declared_model(spec.path)
    if model is None:
        return None
    inputs = _declared_specs(t for t in model.inputs if t.name not in model.initialized)
    outputs = _declared_specs(model.outputs)
    if inputs is None or not outputs:
        return None
    return ModelMetadata(
        name=PurePath(spec.path).stem,
        versions=() if model.version in {0, _NO_VERSION} else (str(model.version),),
        platform=_EITHER if spec.device.kind == "auto" else spec.device.provider,
        inputs=inputs,
        outputs=with_labels(outputs, model.notes),
        parameters=model.notes,
    )


def _declared_specs(tensors: Iterable[DeclaredTensor]) -> tuple[TensorSpec, ...] | None:
    specs: dict[str, TensorSpec] = {}
    for tensor in tensors:
        found = ELEMENTS.get(tensor.element_type)
        if found is None or tensor.shape is None or not tensor.name or tensor.name in specs:
            return None
        specs[tensor.name] = TensorSpec(tensor.name, found, tensor.shape)
    return tuple(specs.values())


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
        outputs=with_labels(outputs, notes),
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
        if tensor.name in scalars and tensor.shape is None:
            raise UnsupportedOperation(
                f"the input {tensor.name!r} of {spec.location!r} declares no rank, so no call "
                "could be checked against it: export the model with a shape (its dimensions may "
                "be symbolic)"
            )
