"""What a model says of itself: names, datatypes, shapes, notes; compiled or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper
from openvino import opset13 as ops

import infer_backends as ib
from infer_backends.plugin import (
    ModelURL,
    ProtocolError,
    UnsupportedOperation,
)
from infer_backends.testing import REFERENCE_MODELS
from infer_backends_openvino import plugin
from tests.openvino import models
from tests.openvino.conftest import DIGITS, OpenBackend, Save, given

REFUSED = {"identity_fp64", "identity_bytes"}
OPENED = sorted({*REFERENCE_MODELS} - REFUSED)


def told(path: Path, **options: Any) -> Any:
    return plugin.infer_backends_metadata(ModelURL("openvino", path=str(path)), given(**options))


@pytest.mark.parametrize("name", OPENED)
def test_the_reference_models_say_what_they_are(
    reference_ir: Path, open_backend: OpenBackend, name: str
) -> None:
    reference = REFERENCE_MODELS[name]
    for path in (reference.onnx_file, reference_ir / f"{name}.xml"):
        metadata = open_backend(path).metadata
        assert metadata == told(path)
        assert (metadata.inputs, metadata.outputs) == (reference.inputs, reference.outputs)
        assert (metadata.name, metadata.platform) == (name, "openvino CPU")
        assert (metadata.versions, metadata.max_batch_size) == ((), 0)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_at_open_is_refused_before(reference_ir: Path, name: str) -> None:
    for path in (REFERENCE_MODELS[name].onnx_file, reference_ir / f"{name}.xml"):
        with pytest.raises(UnsupportedOperation, match="use onnx:"):
            told(path)


@pytest.mark.parametrize("name", ["mixed", "deep", "scalar", "odd_names", "digits"])
def test_onnxruntime_says_the_same_of_the_same_file(name: str) -> None:
    path = DIGITS if name == "digits" else REFERENCE_MODELS[name].onnx_file
    with ib.open_model(f"onnx:{path}") as one, ib.open_model(f"openvino:{path}") as other:
        assert one.metadata.inputs == other.metadata.inputs
        assert one.metadata.outputs == other.metadata.outputs
        assert one.metadata.parameters == other.metadata.parameters


def test_a_tensor_with_several_names_has_that_of_its_node_or_the_shortest(
    open_backend: OpenBackend,
) -> None:
    a, b = models.parameter("a"), models.parameter("b")
    a.output(0).set_names({"aa", "a", "A"})
    b.output(0).set_names({"input_1:0", "input_1"})
    model = ov.Model([models.result(ops.add(a, b), "sum:0", "sum")], [a, b], "names")
    metadata = open_backend(model).metadata
    assert [spec.name for spec in metadata.inputs] == ["a", "input_1"]
    assert [spec.name for spec in metadata.outputs] == ["sum"]


def test_tensors_without_names_are_called_as_their_nodes(open_backend: OpenBackend) -> None:
    x, y = models.parameter(None), models.parameter(None)
    model = ov.Model([ops.result(ops.add(x, y)), ops.result(ops.multiply(x, y))], [x, y], "bare")
    metadata = open_backend(model).metadata
    names = [spec.name for spec in (*metadata.inputs, *metadata.outputs)]
    assert len(set(names)) == 4
    assert all(names)


def test_an_input_that_is_given_back_keeps_a_name_of_its_own(open_backend: OpenBackend) -> None:
    metadata = open_backend(models.aliases()).metadata
    assert [spec.name for spec in metadata.inputs] == ["x"]
    assert [spec.name for spec in metadata.outputs] == ["same", "again", "view", "weight", "copy"]


def test_outputs_of_one_name_are_told_apart(open_backend: OpenBackend) -> None:
    x = models.parameter("x")
    total = ops.add(x, x)
    total.output(0).set_names({"y"})
    backend = open_backend(ov.Model([ops.result(total), ops.result(total)], [x], "twins"))
    names = [spec.name for spec in backend.metadata.outputs]
    assert len(set(names)) == 2


@pytest.mark.parametrize("kind", ["u4", "i4", "f8e4m3"])
def test_a_type_that_numpy_lacks_is_refused(save: Save, kind: str) -> None:
    x = ops.parameter([2], getattr(ov.Type, kind))
    x.set_friendly_name("x")
    path = save(ov.Model([ops.result(ops.convert(x, "f32"))], [x], "odd"))
    with pytest.raises(UnsupportedOperation, match=f"'x' .* is of OpenVINO's type {kind}"):
        ib.open_model(f"openvino:{path}")


def identity_without_rank() -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def test_a_tensor_without_a_rank_is_refused(save: Save) -> None:
    with pytest.raises(UnsupportedOperation, match="'x' .* declares no rank"):
        ib.open_model(f"openvino:{save(identity_without_rank())}")


def test_an_output_without_a_rank_is_refused(save: Save) -> None:
    x, shape = models.parameter("x"), models.parameter("shape", np.int64)
    made = models.result(ops.reshape(x, shape, False), "y")
    with pytest.raises(UnsupportedOperation, match="'y' .* declares no rank"):
        ib.open_model(f"openvino:{save(ov.Model([made], [x, shape], 'm'))}")


def test_notes_of_an_onnx_file_keep_their_names_and_give_labels(save: Save) -> None:
    model = onnx.load(str(DIGITS))
    del model.metadata_props[:]
    for key, value in {"author": "me", "labels": '["zero", "one"]'}.items():
        note = model.metadata_props.add()
        note.key, note.value = key, value
    path = save(model)
    for scheme in ("onnx", "openvino"):
        with ib.open_model(f"{scheme}:{path}") as opened:
            assert opened.metadata.parameters["author"] == "me"
            assert opened.metadata.outputs[0].labels == ("zero", "one")


def test_labels_of_model_zoos_and_exports_of_yolo_are_read(save: Save) -> None:
    model = models.doubled(np.float32)
    model.set_rt_info("YOLO", ["model_info", "model_type"])
    model.set_rt_info(["cat", "big_dog"], ["model_info", "labels"])
    with ib.open_model(f"openvino:{save(model)}") as opened:
        assert opened.metadata.parameters["model_info.model_type"] == "YOLO"
        assert opened.metadata.outputs[0].labels == ("cat", "big_dog")


def test_a_model_of_nothing_is_none(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(ProtocolError, match="not a whole one"):
        told(tmp_path / "m.onnx")
