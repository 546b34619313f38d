"""Read a model's file: which of OpenVINO's front ends is for it, and what it says."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from infer_backends.plugin import ModelFile, ModelNotFound, ProtocolError
from infer_backends_openvino._errors import read_error

#: OpenVINO's front ends, by how the names of their files end. IR is what OpenVINO writes.
FORMATS = {
    ".onnx": "onnx",
    ".pb": "tf",
    ".pdmodel": "paddle",
    ".tflite": "tflite",
    ".xml": "ir",
}
_WHAT = "an .xml or .onnx file"
_FIRST = 1 << 16  # bytes that show what a file is


def read_model(runtime: ModuleType, core: Any, file: ModelFile) -> Any:
    """The ``openvino.Model`` of a file, not compiled.

    One front end is asked, since asking all of them prints what each makes of the file.

    Raises:
        ModelNotFound: There is no such file, or its weights are missing.
        PermissionDenied: It may not be read.
        ProtocolError: It is not a model, or not a whole one.
        UnsupportedOperation: It is a model that this OpenVINO does not understand.
    """
    file.require(_WHAT)
    if Path(file.path).suffix.lower() == ".bin":
        raise ModelNotFound(
            f"{file.location!r} has weights, and no model: give the .xml file beside it"
        )
    kind = _format(file)
    try:
        if kind == "ir":
            # In this way it maps the weights into memory, instead of reading all of them.
            model = core.read_model(file.path)
        else:
            front_end = runtime.frontend.FrontEndManager().load_by_framework(kind)
            model = front_end.convert(front_end.load(file.path))
    except Exception as exc:
        raise read_error(exc, file, runtime.__version__) from exc
    if not model.outputs:
        raise ProtocolError(f"{file.location!r} is no model, or not a whole one: it has no outputs")
    return model


def _format(file: ModelFile) -> str:
    """The front end for a file: by its name, or for another name by what it holds."""
    named = FORMATS.get(Path(file.path).suffix.lower())
    if named not in {None, "ir"}:
        return str(named)
    with open(file.path, "rb") as opened:
        first = opened.read(_FIRST)
    if re.search(rb"<net[\s>]", first):
        return "ir"
    if named == "ir":
        raise ProtocolError(
            f"{file.location!r} is no model of OpenVINO: expected XML with the element <net>. Copy "
            "or export it again"
        )
    return "onnx"
