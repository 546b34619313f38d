"""What the session and the file say of a model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from infer_backends.plugin import DataType as T
from infer_backends.plugin import ModelMetadata, ProtocolError, TensorSpec, UnsupportedOperation
from infer_backends_onnxruntime._graph import DeclaredTensor, declared_tensors
from tests.onnxruntime import models
from tests.onnxruntime.conftest import OpenBackend, Save, request


def test_metadata_is_what_the_file_declares(open_backend: OpenBackend, save: Save) -> None:
    model = models.model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [models.tensor("x", ("n", None, 3))],
        [models.tensor("y", ("n", None, 3))],
        version=7,
    )
    helper.set_model_props(model, {"author": "Ada", "empty": ""})
    assert open_backend(save(model, "a.small.onnx")).metadata == ModelMetadata(
        name="a.small",
        versions=("7",),
        platform="CPUExecutionProvider",
        inputs=(TensorSpec("x", T.FP32, (-1, -1, 3)),),
        outputs=(TensorSpec("y", T.FP32, (-1, -1, 3)),),
        max_batch_size=0,
    )


def test_notes_in_the_file_are_parameters(open_backend: OpenBackend) -> None:
    model = models.identity()
    helper.set_model_props(model, {"author": "Ada", "classes": "['é']"})
    assert open_backend(model).metadata.parameters == {"author": "Ada", "classes": "['é']"}


@pytest.mark.parametrize(
    "notes", [{"labels": '["a", "b"]'}, {"labels.y": '["a", "b"]'}, {"names": "{0: 'a', 1: 'b'}"}]
)
def test_labels_are_among_the_notes_in_the_file(
    open_backend: OpenBackend, notes: dict[str, str]
) -> None:
    model = models.identity()
    helper.set_model_props(model, notes)
    assert open_backend(model).metadata.outputs[0].labels == ("a", "b")


def test_a_file_without_a_version_has_none(open_backend: OpenBackend) -> None:
    backend = open_backend(models.identity())
    assert backend.metadata.versions == ()
    assert backend.infer(request({"x": np.zeros((1, 4), np.float32)})).model_version == ""


def test_the_version_of_the_file_is_on_every_answer(open_backend: OpenBackend) -> None:
    model = models.identity()
    model.model_version = 3
    answer = open_backend(model).infer(request({"x": np.zeros((1, 4), np.float32)}))
    assert answer.model_version == "3"


@pytest.mark.parametrize("name", sorted(models.ELEMENTS))
def test_every_datatype_has_its_name(open_backend: OpenBackend, name: str) -> None:
    metadata = open_backend(models.identity(models.ELEMENTS[name])).metadata
    assert (metadata.inputs[0].dtype, metadata.outputs[0].dtype) == (T(name), T(name))


def test_an_initializer_that_could_be_overridden_is_no_input(open_backend: OpenBackend) -> None:
    backend = open_backend(models.overridable())
    assert [tensor.name for tensor in backend.metadata.inputs] == ["x"]
    answer = backend.infer(request({"x": np.zeros((1, 4), np.float32)}))
    assert answer.outputs["y"].tolist() == [[1, 1, 1, 1]]


def test_inputs_and_outputs_keep_the_order_of_the_graph(open_backend: OpenBackend) -> None:
    metadata = open_backend(models.arithmetic()).metadata
    assert [tensor.name for tensor in metadata.inputs] == ["a", "b"]
    assert [tensor.name for tensor in metadata.outputs] == ["sum", "difference"]


def test_a_scalar_has_an_empty_shape(open_backend: OpenBackend) -> None:
    backend = open_backend(models.identity(shape=()))
    assert backend.metadata.inputs[0].shape == ()
    answer = backend.infer(request({"x": np.float32(3).reshape(())}))
    assert answer.outputs["y"] == 3


def test_a_negative_dimension_is_one_that_varies(open_backend: OpenBackend) -> None:
    assert open_backend(models.identity(shape=(-1, 4))).metadata.inputs[0].shape == (-1, 4)


def test_an_input_of_unknown_rank_is_refused_by_name(open_backend: OpenBackend) -> None:
    model = models.identity(shape=None)
    with pytest.raises(UnsupportedOperation, match="the input 'x' of .* declares no rank"):
        open_backend(model)


def test_an_output_of_unknown_rank_comes_as_it_is(open_backend: OpenBackend) -> None:
    model = models.model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [models.tensor("x"), models.tensor("shape", ("k",), TensorProto.INT64)],
        [models.tensor("y", None)],
    )
    backend = open_backend(model)
    answer = backend.infer(
        request({"x": np.zeros((2, 4), np.float32), "shape": np.array([2, 2, 2])})
    )
    assert backend.metadata.outputs[0].shape == ()
    assert answer.outputs["y"].shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (models.identity(TensorProto.BFLOAT16), r"'x' .*tensor\(bfloat16\).*Cast"),
        (models.identity(TensorProto.COMPLEX64), r"'x' .*tensor\(complex64\).*Cast"),
        (models.identity(TensorProto.FLOAT8E4M3FN, opset=19), r"'x' .*float8e4m3fn.*Cast"),
        (models.identity(TensorProto.INT4, opset=21), r"'x' .*int4.*Cast"),
        (models.sequence_output(), r"'items' .*seq\(tensor\(float\)\).*zipmap=False"),
        (models.optional_input(), r"'x' .*optional\(tensor\(float\)\).*plain tensors"),
    ],
    ids=["bfloat16", "complex64", "float8", "int4", "sequence", "optional"],
)
def test_a_tensor_that_cannot_be_exchanged_is_named_at_open(
    open_backend: OpenBackend, model: onnx.ModelProto, message: str
) -> None:
    with pytest.raises(UnsupportedOperation, match=message):
        open_backend(model)


def test_a_name_that_is_not_text_is_no_protocol(open_backend: OpenBackend, save: Save) -> None:
    path = save(models.identity(), "model.onnx")
    encoded = path.read_bytes()
    model = models.model(
        [helper.make_node("Identity", ["NAME"], ["y"])],
        [models.tensor("NAME")],
        [models.tensor("y")],
    )
    encoded = model.SerializeToString().replace(b"NAME", b"\xff\xfe\xfd\xfc")
    path.write_bytes(encoded)
    with pytest.raises(ProtocolError):
        open_backend(path)


def test_declarations_are_read_past_everything_else(save: Save) -> None:
    path = save(models.loop())
    assert declared_tensors(str(path)) == (
        DeclaredTensor("rounds", TensorProto.INT64, ()),
        DeclaredTensor("w", TensorProto.FLOAT, (16, 16)),
        DeclaredTensor("y", TensorProto.FLOAT, (16, 16)),
    )


def test_a_file_that_is_cut_anywhere_declares_its_whole_graph_or_nothing(save: Save) -> None:
    path = save(models.arithmetic())
    encoded = path.read_bytes()
    whole = declared_tensors(str(path))
    assert len(whole) == 4
    for length in range(len(encoded)):
        path.write_bytes(encoded[:length])
        assert declared_tensors(str(path)) in {(), whole}


def test_bytes_that_are_no_model_declare_nothing(save: Save) -> None:
    path = save(models.identity())
    random = np.random.default_rng(1)
    for _ in range(300):
        path.write_bytes(random.bytes(200))
        declared_tensors(str(path))
    path.write_bytes(b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")
    assert declared_tensors(str(path)) == ()


def test_a_declaration_of_an_impossible_length_declares_nothing(save: Save) -> None:
    model = models.identity()
    model.graph.input[0].doc_string = "x" * (2 << 20)
    assert declared_tensors(str(save(model))) == ()
