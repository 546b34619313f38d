"""Make the ONNX files of the reference models, on which plugins are tested.

Run it from the root of the repository, with onnx installed::

    python scripts/reference_models.py

It writes one file for each of ``infer_backends.testing.REFERENCE_MODELS`` into
``infer_backends/testing/models``, byte for byte the same everywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from infer_backends import DataType, TensorSpec
from infer_backends.testing import REFERENCE_MODELS, ReferenceModel

FOLDER = Path(__file__).resolve().parents[1] / "infer_backends" / "testing" / "models"

# BF16 is from opset 13, and read by every onnxruntime since 1.6.
OPSET, IR_VERSION = 13, 7

ELEMENTS = {
    DataType.BOOL: TensorProto.BOOL,
    DataType.UINT8: TensorProto.UINT8,
    DataType.UINT16: TensorProto.UINT16,
    DataType.UINT32: TensorProto.UINT32,
    DataType.UINT64: TensorProto.UINT64,
    DataType.INT8: TensorProto.INT8,
    DataType.INT16: TensorProto.INT16,
    DataType.INT32: TensorProto.INT32,
    DataType.INT64: TensorProto.INT64,
    DataType.FP16: TensorProto.FLOAT16,
    DataType.FP32: TensorProto.FLOAT,
    DataType.FP64: TensorProto.DOUBLE,
    DataType.BF16: TensorProto.BFLOAT16,
    DataType.BYTES: TensorProto.STRING,
}


def mixed() -> list[NodeProto]:
    """Two outputs from one input: the same sum, under two names."""
    return [
        helper.make_node("Add", ["image", "image"], ["scaled"]),
        helper.make_node("Identity", ["codes"], ["copied"]),
        helper.make_node("Identity", ["scaled"], ["again"]),
    ]


def odd_names() -> list[NodeProto]:
    """Names as exporters of other frameworks make them."""
    return [
        helper.make_node("Identity", ["default_x:0"], ["call:0"]),
        helper.make_node("Identity", ["model/ids.1"], ["out-1"]),
    ]


def reshaped() -> list[NodeProto]:
    """Six elements fit, and no other number of them."""
    return [
        _constant("shape", np.array([2, 3], np.int64)),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]


def slow() -> list[NodeProto]:
    """A loop, so that a runtime has places to stop at: ``rounds`` times, a product of matrices."""
    size = 128
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["matrix_in", "weights"], ["matrix_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix_in", TensorProto.FLOAT, [size, size]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix_out", TensorProto.FLOAT, [size, size]),
        ],
    )
    return [
        _constant("no_axes", np.array([], np.int64)),
        _constant("go", np.array(True)),
        _constant("both", np.array([size, size], np.int64)),
        _constant("element", np.array(1 / size, np.float32)),
        _constant("first", np.array([0], np.int64)),
        _constant("columns", np.array([0], np.int64)),
        helper.make_node("Reshape", ["rounds", "no_axes"], ["trips"]),
        helper.make_node("Expand", ["element", "both"], ["weights"]),
        helper.make_node("Loop", ["trips", "go", "weights"], ["matrix"], body=body),
        helper.make_node("ReduceSum", ["matrix", "columns"], ["sums"], keepdims=0),
        helper.make_node("Gather", ["sums", "first"], ["total"]),
    ]


def _constant(name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values, name))


NODES: dict[str, Callable[[], list[NodeProto]]] = {
    "mixed": mixed,
    "odd_names": odd_names,
    "reshaped": reshaped,
    "slow": slow,
}


def tensor(spec: TensorSpec) -> onnx.ValueInfoProto:
    """A tensor of the graph, of which unknown dimensions have no name."""
    dims = [None if size == -1 else size for size in spec.shape]
    return helper.make_tensor_value_info(spec.name, ELEMENTS[spec.dtype], dims)


def model_bytes(reference: ReferenceModel) -> bytes:
    """The ONNX file of a reference model; one without nodes of its own gives back what it gets."""
    identity = [helper.make_node("Identity", ["x"], ["y"])]
    nodes = NODES[reference.name]() if reference.name in NODES else identity
    graph = helper.make_graph(
        nodes,
        reference.name,
        [*map(tensor, reference.inputs)],
        [*map(tensor, reference.outputs)],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="infer-backends",
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description="make the reference models as ONNX files")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where to")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for reference in REFERENCE_MODELS.values():
        (folder / f"{reference.name}.onnx").write_bytes(model_bytes(reference))
    print(f"{len(REFERENCE_MODELS)} models are in {folder}")


if __name__ == "__main__":
    main()
