"""The models that are called, the tensors that they get, and what they have to answer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CODE = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        value = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", {answer})])
"""
_CONFIG = """\
name: "{name}" backend: "python" max_batch_size: 0
input [ {{ name: "INPUT" data_type: TYPE_FP32 dims: [ -1 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [ -1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""
_ANSWERS = {"echo": "value", "reduce": "value.max(keepdims=True)"}


def write_repository(folder: Path) -> Path:
    """Write ``echo`` (out is in) and ``reduce`` (the largest element); returns ``folder``."""
    for name, answer in _ANSWERS.items():
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(_CODE.replace("{answer}", answer))
        (version.parent / "config.pbtxt").write_text(_CONFIG.format(name=name))
    return folder


def write_tiny(path: Path) -> Path:
    """Write an ONNX model that adds its one input to itself; returns ``path``."""
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "tiny", [x], [y])
    opset = helper.make_opsetid("", 16)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def array_of(payload: int) -> Array:
    """The input of ``payload`` bytes: FP32 ``[-1]``, the same in every process."""
    return np.random.default_rng(payload).random(payload // 4, dtype=np.float32)


def answer_of(model: str, array: Array) -> Array:
    """What ``model`` has to answer."""
    if model == "tiny":
        return array + array
    return array if model == "echo" else array.max(keepdims=True)


def digest(array: Array) -> str:
    """A hash of dtype, shape and contents: equal if, and only if, the arrays are, to the bit."""
    text = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(text + array.tobytes()).hexdigest()
