"""The reference models: their files are what the script makes, and compute what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from infer_backends import DataType
from infer_backends.plugin import Array
from infer_backends.testing import REFERENCE_MODELS
from infer_backends.testing._reference import _FOLDER
from infer_backends.testing._values import assert_same, values

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "reference_models.py"
# ONNX's own evaluator has text that is no object array.
NAMES = [name for name in REFERENCE_MODELS if name not in {"identity_bytes", "identity_bf16"}]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_models", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", REFERENCE_MODELS)
def test_a_file_means_what_the_script_makes(script: ModuleType, name: str) -> None:
    reference = REFERENCE_MODELS[name]
    # Another version of onnx may write another byte, but no other model.
    made = onnx.load_model_from_string(script.model_bytes(reference))
    assert onnx.load(reference.onnx_file) == made


def test_there_is_a_file_for_every_model_and_no_other() -> None:
    assert {path.stem for path in _FOLDER.iterdir()} == set(REFERENCE_MODELS)
    assert sum(path.stat().st_size for path in _FOLDER.iterdir()) < 10_000


def inputs_of(name: str) -> dict[str, Array]:
    reference = REFERENCE_MODELS[name]
    if name.startswith("identity_"):
        return {"x": values(reference.inputs[0].dtype)}
    size = 6 if name == "reshaped" else 2
    arrays: dict[str, Array] = {}
    for spec in reference.inputs:
        shape = [size if dimension == -1 else dimension for dimension in spec.shape]
        numbers = np.arange(3, 3 + np.prod(shape, dtype=int))
        arrays[spec.name] = numbers.astype(spec.dtype.numpy_dtype).reshape(shape)
    return arrays


@pytest.mark.parametrize("name", NAMES)
def test_the_file_computes_what_the_function_does(name: str) -> None:
    reference, arrays = REFERENCE_MODELS[name], inputs_of(name)
    expected = reference.compute(arrays)
    assert list(expected) == [spec.name for spec in reference.outputs]
    outputs = ReferenceEvaluator(str(reference.onnx_file)).run(None, arrays)
    for spec, output in zip(reference.outputs, outputs, strict=True):
        assert_same(np.asarray(output), np.asarray(expected[spec.name]))
        assert output.dtype == spec.dtype.numpy_dtype
        assert all(want in {-1, got} for want, got in zip(spec.shape, output.shape, strict=True))


def test_six_elements_can_be_reshaped_and_five_cannot() -> None:
    compute = REFERENCE_MODELS["reshaped"].compute
    assert compute({"x": np.arange(6, dtype=np.float32)})["y"].shape == (2, 3)
    with pytest.raises(ValueError, match="reshape"):
        compute({"x": np.arange(5, dtype=np.float32)})


def test_every_datatype_has_a_model() -> None:
    assert {spec.dtype for model in REFERENCE_MODELS.values() for spec in model.inputs} == set(
        DataType
    )
