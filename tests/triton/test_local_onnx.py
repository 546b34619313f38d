"""An ONNX file served by a local Triton answers as onnxruntime does with the file itself."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.grpc as triton_grpc
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from infer_backends.plugin import (
    DataType,
    InvalidInput,
    RequestOptions,
    TensorSpec,
    UnsupportedOperation,
)
from infer_backends_triton._local import LocalTriton
from infer_backends_triton._serve.environment import find_environment
from infer_backends_triton._serve.wrapper import Signature, read_signatures, render_config
from tests.triton.endpoints import opened_at
from tests.triton.grpc_fakes import a_request

VALUES = {
    "BOOL": (TensorProto.BOOL, [[True, False], [False, True]]),
    "UINT8": (TensorProto.UINT8, [[0, 255]]),
    "UINT16": (TensorProto.UINT16, [[0, 65535]]),
    "UINT32": (TensorProto.UINT32, [[0, 2**32 - 1]]),
    "UINT64": (TensorProto.UINT64, [[0, 2**64 - 1]]),
    "INT8": (TensorProto.INT8, [[-128, 127]]),
    "INT16": (TensorProto.INT16, [[-(2**15), 2**15 - 1]]),
    "INT32": (TensorProto.INT32, [[-(2**31), 2**31 - 1]]),
    "INT64": (TensorProto.INT64, [[-(2**63), 2**63 - 1]]),
    "FP16": (TensorProto.FLOAT16, [[1.5, float("nan"), 65504.0]]),
    "FP32": (TensorProto.FLOAT, [[1.5, float("-inf"), 1e-45]]),
    "FP64": (TensorProto.DOUBLE, [[1.5, float("nan"), 5e-324]]),
}


def tensor(name: str, kind: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    **options: Any,
) -> Path:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, str(path), **options)
    return path


def save_identity(path: Path, kind: int, shape: Sequence[int | str]) -> Path:
    node = helper.make_node("Identity", ["x"], ["y"])
    return save(path, [node], [tensor("x", kind, shape)], [tensor("y", kind, shape)])


def save_labelled(path: Path) -> Path:
    """``p`` is x, and has labels; ``q`` is x, and has labels that a file of lines cannot hold."""
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in ("p", "q")]
    outputs = [tensor(name, TensorProto.FLOAT, [3]) for name in ("p", "q")]
    save(path, nodes, [tensor("x", TensorProto.FLOAT, [3])], outputs)
    model = onnx.load(path)
    notes = {"labels.p": '["cat", "Hündin", "\\""]', "labels.q": '["a\\nb"]', "author": "Ada"}
    helper.set_model_props(model, notes)
    onnx.save_model(model, path)
    return path


def save_linear(path: Path, **options: Any) -> Path:
    """``logits = features @ w``, ``label = argmax(logits)``; the outputs in another order."""
    weights = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
    return save(
        path,
        [
            helper.make_node("MatMul", ["features", "w"], ["logits"]),
            helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        ],
        [tensor("features", TensorProto.FLOAT, ["batch", 64])],
        [
            tensor("logits", TensorProto.FLOAT, ["batch", 10]),
            tensor("label", TensorProto.INT64, ["batch"]),
        ],
        [onnx.numpy_helper.from_array(weights, "w")],
        **options,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    found = {
        name.lower(): save_identity(folder / f"{name}.onnx", kind, ["rows", "columns"])
        for name, (kind, _) in VALUES.items()
    }
    found["bytes"] = save_identity(folder / "bytes.onnx", TensorProto.STRING, ["rows", 2])
    found["scalar"] = save_identity(folder / "scalar.onnx", TensorProto.FLOAT, [])
    found["scalar_text"] = save_identity(folder / "scalar_text.onnx", TensorProto.STRING, [])
    found["labelled"] = save_labelled(folder / "labelled.onnx")
    found["linear"] = save_linear(folder / "linear.onnx")
    external = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    found["external"] = save_linear(folder / "external.onnx", **external)
    two = [tensor(name, TensorProto.FLOAT, ["m", "n"]) for name in ("a", "b")]
    product = [tensor("y", TensorProto.FLOAT, ["m", "n"])]
    found["product"] = save(
        folder / "product.onnx", [helper.make_node("MatMul", ["a", "b"], ["y"])], two, product
    )
    return found


@pytest.fixture(scope="module")
def server(files: dict[str, Path], triton_environment: Path) -> Iterator[LocalTriton]:
    with LocalTriton(files, environment=triton_environment, startup_timeout=120) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: LocalTriton) -> Iterator[triton_grpc.InferenceServerClient]:
    connection = triton_grpc.InferenceServerClient(f"127.0.0.1:{server.ports.grpc}")
    yield connection
    connection.close()


def test_labels_in_the_file_are_the_clients_and_the_servers(
    server: LocalTriton, protocol: str
) -> None:
    url = server.http_url if protocol == "http" else server.grpc_url
    with opened_at(f"{url}/labelled") as backend:
        assert [spec.labels for spec in backend.metadata.outputs] == [
            ("cat", "Hündin", '"'),
            ("a\nb",),
        ]
        assert backend.metadata.parameters.keys() == {"labels.p", "labels.q"}
        request = a_request(inputs={"x": np.array([1, 3, 2], np.float32)})
        request.options = RequestOptions(top_k=2)
        outputs = backend.infer(request).outputs
    assert outputs["p"].tolist() == ["3.000000:1:Hündin".encode(), b'2.000000:2:"']
    assert outputs["q"].tolist() == [b"3.000000:1", b"2.000000:2"]


def infer(
    client: triton_grpc.InferenceServerClient,
    model: str,
    inputs: dict[str, tuple[str, Any]],
    outputs: Sequence[str] = ("y",),
) -> list[Any]:
    tensors = []
    for name, (datatype, array) in inputs.items():
        tensors.append(triton_grpc.InferInput(name, list(array.shape), datatype))
        tensors[-1].set_data_from_numpy(array)
    wanted = [triton_grpc.InferRequestedOutput(name) for name in outputs]
    answer = client.infer(model, tensors, outputs=wanted)
    return [answer.as_numpy(name) for name in outputs]


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("empty", [False, True])
def test_every_datatype_comes_back_as_from_the_file(
    client: triton_grpc.InferenceServerClient, files: dict[str, Path], name: str, empty: bool
) -> None:
    kind, values = VALUES[name]
    array = np.array(values, dtype=helper.tensor_dtype_to_np_dtype(kind))
    if empty:
        array = array[:0]
    [expected] = onnxruntime.InferenceSession(str(files[name.lower()])).run(None, {"x": array})
    [got] = infer(client, name.lower(), {"x": (name, array)})
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("rows", [[["", "ä€"], ["b'x'", "\x00"]], np.empty((0, 2), object)])
def test_text_goes_in_and_comes_out_as_utf_8(
    client: triton_grpc.InferenceServerClient, rows: Any
) -> None:
    texts = np.array(rows, dtype=object)
    array = np.empty(texts.shape, dtype=object)
    for index, text in np.ndenumerate(texts):
        array[index] = text.encode()
    [got] = infer(client, "bytes", {"x": ("BYTES", array)})
    assert got.shape == array.shape
    assert got.tolist() == array.tolist()


def test_text_that_is_not_utf_8_is_an_invalid_argument_that_does_not_show_it(
    client: triton_grpc.InferenceServerClient,
) -> None:
    array = np.array([[b"secret\xff", b""]], dtype=object)
    with pytest.raises(InferenceServerException, match=r"'x' has a string.*not UTF-8") as caught:
        infer(client, "bytes", {"x": ("BYTES", array)})
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert "secret" not in str(caught.value)


def test_a_tensor_of_rank_0_has_the_shape_1(client: triton_grpc.InferenceServerClient) -> None:
    metadata = client.get_model_metadata("scalar")
    assert list(metadata.inputs[0].shape) == [1]
    assert list(metadata.outputs[0].shape) == [1]
    [got] = infer(client, "scalar", {"x": ("FP32", np.array([2.5], np.float32))})
    assert got.tolist() == [2.5]
    [text] = infer(client, "scalar_text", {"x": ("BYTES", np.array([b"hi"], object))})
    assert text.tolist() == [b"hi"]


@pytest.mark.parametrize("model", ["linear", "external"])
def test_a_model_with_weights_agrees_with_the_file(
    client: triton_grpc.InferenceServerClient, files: dict[str, Path], model: str
) -> None:
    features = np.random.default_rng(1).standard_normal((17, 64)).astype(np.float32)
    logits, labels = onnxruntime.InferenceSession(str(files[model])).run(
        None, {"features": features}
    )
    inputs = {"features": ("FP32", features)}
    got_labels, got_logits = infer(client, model, inputs, ("label", "logits"))
    np.testing.assert_allclose(got_logits, logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got_labels, labels)
    [alone] = infer(client, model, inputs, ["label"])
    np.testing.assert_array_equal(alone, labels)


def test_metadata_has_the_names_types_shapes_and_order_of_the_file(
    client: triton_grpc.InferenceServerClient,
) -> None:
    metadata = client.get_model_metadata("linear")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("features", "FP32", [-1, 64])
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [
        ("logits", "FP32", [-1, 10]),
        ("label", "INT64", [-1]),
    ]


def test_shapes_that_do_not_fit_together_are_the_same_kind_of_error_as_from_the_file(
    client: triton_grpc.InferenceServerClient, files: dict[str, Path]
) -> None:
    arrays = {name: np.ones((2, 3), np.float32) for name in ("a", "b")}
    with pytest.raises(Exception, match="MatMul") as local:
        onnxruntime.InferenceSession(str(files["product"])).run(None, arrays)
    with pytest.raises(InferenceServerException, match="MatMul") as remote:
        infer(client, "product", {name: ("FP32", array) for name, array in arrays.items()})
    invalid = type(local.value).__name__ == "InvalidArgument"
    expected = "INVALID_ARGUMENT" if invalid else "INTERNAL"
    assert remote.value.status() == f"StatusCode.{expected}"


def test_a_relative_path_is_served_from_wherever_we_are_later(
    files: dict[str, Path],
    triton_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(files["external"].parent)
    server = LocalTriton("external.onnx", environment=triton_environment)
    monkeypatch.chdir(tmp_path)
    with server, urllib.request.urlopen(f"{server.http_url}/v2/models/external") as response:
        assert json.load(response)["inputs"][0]["name"] == "features"


def test_a_file_that_is_no_model_is_named(tmp_path: Path, triton_environment: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(InvalidInput, match=r"onnxruntime cannot load '.*broken\.onnx'"):
        LocalTriton(path, environment=triton_environment).start()


@pytest.mark.parametrize("what", ["bfloat16", "sequence"])
def test_a_type_that_cannot_be_served_is_named_with_its_tensor(
    tmp_path: Path, triton_environment: Path, what: str
) -> None:
    path = tmp_path / "m.onnx"
    if what == "bfloat16":
        save_identity(path, TensorProto.BFLOAT16, [2])
    else:
        save(
            path,
            [helper.make_node("SequenceConstruct", ["x"], ["y"])],
            [tensor("x", TensorProto.FLOAT, [2])],
            [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
        )
    role = "input 'x' is a tensor(bfloat16)" if what == "bfloat16" else "output 'y' is a seq"
    with pytest.raises(UnsupportedOperation) as caught:
        read_signatures([path], find_environment(triton_environment))
    assert role in str(caught.value)
    remedy = "with a Cast node" if what == "bfloat16" else "from scikit-learn: zipmap=False"
    assert remedy in str(caught.value)


def test_names_of_any_kind_are_quoted_in_the_configuration() -> None:
    spec = TensorSpec('a"\\\nä', DataType.FP32, (-1, 3))
    assert r'name: "a\042\134\012\303\244" data_type: TYPE_FP32 dims: [-1, 3]' in render_config(
        "m", Signature((spec,), ())
    )
