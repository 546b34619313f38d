"""onnxruntime's exceptions as the library's own, most specific first.

Its messages quote what a tensor holds (``idx=7``, ``requested shape:{3,7}``), so what a running
operator says is shown with its numbers blotted out, and not at all when the model reads strings.
The chained exception is a copy with the same text, of the same class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from infer_backends.plugin import (
    InferenceFailed,
    InferError,
    InvalidInput,
    ModelNotFound,
    ProtocolError,
    UnsupportedOperation,
    one_line,
    without_numbers,
)
from infer_backends_onnxruntime._graph import DeclaredTensor
from infer_backends_onnxruntime._types import UNSUPPORTED_ELEMENTS

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_STATUS = "Status Message: "
# What onnxruntime says of names, types and shapes before it runs anything.
_ABOUT_SHAPES = (
    "Got invalid dimensions for ",
    "Invalid rank for ",
    "Invalid input name",
    "Invalid output name",
    "Missing Input",
    "Required inputs ",
    "Unexpected input data type",
)
_TOO_NEW = re.compile(
    r"is under development and support for this is limited|Unsupported model IR version"
    r"|No Op registered for |No opset import for domain|is not a registered function/op"
    r"|is not currently registered or supported|Could not find an implementation for "
)


_DEVICE_FAILED = re.compile(r"\b(CUDA|CUDNN|CUBLAS|TensorRT)\b|Failed to allocate memory")


def load_error(
    exc: Exception, location: str, version: str, declared: Iterable[DeclaredTensor]
) -> InferError:
    """What to raise when a session could not be made, with its cause.

    Args:
        exc: What was raised.
        location: The model, for the message.
        version: onnxruntime's version.
        declared: The graph's inputs and outputs, as far as they could be read from the file.
    """
    text = one_line(_PREFIX.sub("", str(exc)))
    kind = type(exc).__name__
    odd = next((t for t in declared if t.element_type in UNSUPPORTED_ELEMENTS), None)
    error: InferError
    if odd is not None:
        error = unsupported_tensor(
            location, odd.name, f"tensor({UNSUPPORTED_ELEMENTS[odd.element_type]})"
        )
    elif kind == "NotImplemented" or _TOO_NEW.search(str(exc)):
        error = UnsupportedOperation(
            f"onnxruntime {version} cannot run {location!r}: {text}. A newer onnxruntime may; or "
            "export the model for an older opset"
        )
    elif kind == "NoSuchFile":
        error = ModelNotFound(f"{location!r} is not there any more: {text}")
    elif kind in {"InvalidProtobuf", "NoModel"} or "graph was found in the protobuf" in text:
        error = ProtocolError(
            f"{location!r} is no ONNX model, or not a whole one: {text}. Copy or export it again"
        )
    elif isinstance(exc, MemoryError):
        error = InferenceFailed(f"there is not enough memory to load {location!r}")
    elif _DEVICE_FAILED.search(str(exc)):
        error = InferenceFailed(f"the device failed while {location!r} was loaded: {text}")
    else:
        error = ProtocolError(f"onnxruntime {version} could not load {location!r}: {text}")
    error.__cause__ = exc
    return error


def run_error(exc: Exception, name: str, *, has_text: bool) -> InferError:
    """What to raise when a run failed, with its cause.

    Args:
        exc: What was raised.
        name: The model's name, for the message.
        has_text: Whether the model takes or gives strings.
    """
    if isinstance(exc, UnicodeError):
        # Not chained: the exception holds the text.
        return InferenceFailed(f"a string that the model {name!r} gave is not UTF-8")
    if isinstance(exc, MemoryError):
        error: InferError = InferenceFailed(f"there is not enough memory to run the model {name!r}")
        error.__cause__ = exc
        return error
    kind = type(exc).__name__
    text = without_contents(str(exc), has_text=has_text)
    if kind == "InvalidArgument" or isinstance(exc, ValueError):
        error = InvalidInput(f"onnxruntime refuses the inputs of the model {name!r}: {text}")
    elif kind == "NotImplemented":
        error = UnsupportedOperation(f"onnxruntime cannot run the model {name!r}: {text}")
    else:
        error = InferenceFailed(f"the model {name!r} failed: {text}")
    error.__cause__ = type(exc)(text)
    return error


def without_contents(text: str, *, has_text: bool) -> str:
    """The runtime's account of a failed run, without what the tensors hold."""
    text = _PREFIX.sub("", text)
    if text.startswith(_ABOUT_SHAPES):
        return one_line(text)
    where, status, account = text.rpartition(_STATUS)
    if has_text:
        account = "(its account may quote strings, and is left out)"
    return one_line(where + status + without_numbers(account))


def unsupported_tensor(location: str, name: str, onnx_type: str) -> UnsupportedOperation:
    """A graph input or output of a type that NumPy or onnxruntime's Python API cannot carry."""
    remedy = (
        "convert it inside the graph, with a Cast node"
        if onnx_type.startswith("tensor(")
        else "export the model with plain tensors (from scikit-learn: zipmap=False)"
    )
    return UnsupportedOperation(
        f"the tensor {name!r} of {location!r} is {onnx_type}, which cannot be exchanged with NumPy "
        f"through onnxruntime's Python API: {remedy}"
    )
