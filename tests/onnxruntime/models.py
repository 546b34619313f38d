"""Small ONNX models, each made for one behaviour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

#: Every datatype that the protocol and onnxruntime share: its ONNX element type.
ELEMENTS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}

Shape = Sequence[int | str | None] | None


def tensor(name: str, shape: Shape = ("n", 4), element: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def constant(name: str, values: NDArray[np.generic]) -> TensorProto:
    return numpy_helper.from_array(values, name)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    constants: Sequence[TensorProto] = (),
    *,
    opset: int = 17,
    version: int | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(constants))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if version is not None:
        made.model_version = version
    return made


def identity(
    element: int = TensorProto.FLOAT, shape: Shape = ("n", 4), opset: int = 17
) -> onnx.ModelProto:
    """``y`` is ``x``."""
    return model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", shape, element)],
        [tensor("y", shape, element)],
        opset=opset,
    )


def arithmetic() -> onnx.ModelProto:
    """``sum`` is a + b, ``difference`` is a - b."""
    return model(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
        ],
        [tensor("a"), tensor("b")],
        [tensor("sum"), tensor("difference")],
    )


def total() -> onnx.ModelProto:
    """``y``, a scalar, is the sum of ``x``."""
    return model(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [tensor("x")], [tensor("y", ())]
    )


def aliases() -> onnx.ModelProto:
    """Outputs that are one value under many names: the input, a constant, and views of them."""
    flat = constant("flat", np.array([-1]))
    return model(
        [
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Identity", ["same"], ["again"]),
            helper.make_node("Reshape", ["same", "flat"], ["view"]),
            helper.make_node("Identity", ["weight"], ["copy"]),
        ],
        [tensor("x")],
        [
            tensor("x"),
            tensor("same"),
            tensor("again"),
            tensor("view", ("m",)),
            tensor("weight", (1, 4)),
            tensor("copy", (1, 4)),
        ],
        [flat, constant("weight", np.ones((1, 4), np.float32))],
    )


def overridable() -> onnx.ModelProto:
    """``y`` is x + b, where ``b`` is listed as an input and has a value in the file."""
    return model(
        [helper.make_node("Add", ["x", "b"], ["y"])],
        [tensor("x"), tensor("b", (4,))],
        [tensor("y")],
        [constant("b", np.ones(4, np.float32))],
    )


def gather() -> onnx.ModelProto:
    """``y`` is ``x[index]``: fails on an index out of range."""
    return model(
        [helper.make_node("Gather", ["x", "index"], ["y"], name="look/up")],
        [tensor("x"), tensor("index", ("k",), TensorProto.INT64)],
        [tensor("y", ("k", 4))],
    )


def reshape() -> onnx.ModelProto:
    """``y`` is ``x`` in another shape: fails when the counts differ."""
    return model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [tensor("x"), tensor("shape", (2,), TensorProto.INT64)],
        [tensor("y", ("a", "b"))],
    )


def to_number() -> onnx.ModelProto:
    """``y`` is the number that each string of ``x`` writes; ``z`` is ``x``."""
    return model(
        [
            helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT),
            helper.make_node("Identity", ["x"], ["z"]),
        ],
        [tensor("x", ("n",), TensorProto.STRING)],
        [tensor("y", ("n",)), tensor("z", ("n",), TensorProto.STRING)],
    )


def broken_text() -> onnx.ModelProto:
    """``text`` is a constant string that is not UTF-8; ``y`` is ``x``."""
    text = TensorProto(name="bytes", data_type=TensorProto.STRING, dims=[1])
    text.string_data.append(b"\xff\xfe")
    return model(
        [
            helper.make_node("Identity", ["bytes"], ["text"]),
            helper.make_node("Identity", ["x"], ["y"]),
        ],
        [tensor("x")],
        [tensor("text", (1,), TensorProto.STRING), tensor("y")],
        [text],
    )


def loop() -> onnx.ModelProto:
    """``y`` is ``w`` after ``rounds`` small matrix products: takes as long as you like."""
    square = (16, 16)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["w_in", "w_in"], ["product"]),
            helper.make_node("Tanh", ["product"], ["w_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "body",
        [
            tensor("round", (), TensorProto.INT64),
            tensor("go_in", (), TensorProto.BOOL),
            tensor("w_in", square),
        ],
        [tensor("go_out", (), TensorProto.BOOL), tensor("w_out", square)],
    )
    return model(
        [helper.make_node("Loop", ["rounds", "go", "w"], ["y"], body=body)],
        [tensor("rounds", (), TensorProto.INT64), tensor("w", square)],
        [tensor("y", square)],
        [constant("go", np.array(True))],
    )


def projection(size: int = 256) -> onnx.ModelProto:
    """``y`` is ``x`` times a matrix: large enough for several threads."""
    weight = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    return model(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        [tensor("x", ("n", size))],
        [tensor("y", ("n", size))],
        [constant("weight", weight)],
    )


def convolution() -> onnx.ModelProto:
    """``y`` is ``x``, an image, through a convolution and an activation."""
    kernel = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    return model(
        [
            helper.make_node("Conv", ["x", "kernel"], ["edges"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["edges"], ["y"]),
        ],
        [tensor("x", ("n", 3, "h", "w"))],
        [tensor("y", ("n", 8, "h", "w"))],
        [constant("kernel", kernel)],
    )


def sequence_output() -> onnx.ModelProto:
    """``items`` is a sequence of tensors."""
    items = helper.make_tensor_sequence_value_info("items", TensorProto.FLOAT, None)
    return model([helper.make_node("SequenceConstruct", ["x"], ["items"])], [tensor("x")], [items])


def optional_input() -> onnx.ModelProto:
    """``x`` is an optional tensor."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ("n",)))
    return model(
        [helper.make_node("OptionalHasElement", ["x"], ["y"])],
        [helper.make_value_info("x", kind)],
        [tensor("y", (), TensorProto.BOOL)],
        opset=18,
    )
