"""The committed digits and model are what the script makes, and good."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

import infer_backends as ib
from infer_backends._cli._demo._digits import MODEL_PATH, held_out_digits

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_digits.py"
FOLDER = MODEL_PATH.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_model_is_one_that_any_onnxruntime_of_recent_years_reads() -> None:
    model = onnx.load(MODEL_PATH)
    assert model.graph.name == "digits"
    assert model.ir_version <= 8
    assert [opset.version for opset in model.opset_import] == [13]
    with ib.open_model(MODEL_PATH) as opened:
        assert list(map(str, opened.metadata.inputs)) == ["image: FP32[-1, 64]"]
        assert list(map(str, opened.metadata.outputs)) == ["probabilities: FP32[-1, 10]"]


def test_the_model_is_right_about_digits_it_was_not_trained_on() -> None:
    digits = held_out_digits()
    with ib.open_model(MODEL_PATH) as model:
        assert digits.accuracy(model(digits.images)) > 0.98


def test_the_digits_are_what_they_are_said_to_be() -> None:
    digits = held_out_digits()
    assert digits.images.shape == (540, 64)
    assert digits.images.dtype == digits.labels.dtype == np.uint8
    assert digits.images.max() == 16
    assert np.bincount(digits.labels).min() >= 52
    assert len(np.unique(digits.images, axis=0)) == 540
    assert digits.some(6).tolist() == sorted(digits.some(6))
    assert len(set(digits.labels[digits.some(6)])) == 6


def test_the_committed_files_are_byte_for_byte_what_the_script_writes(script: ModuleType) -> None:
    committed = MODEL_PATH.read_bytes()
    assert script.model_bytes(script.read_weights(committed)) == committed
    digits = held_out_digits()
    written = script.digits_bytes(script.Digits(digits.images, digits.labels))
    with np.load(io.BytesIO(written), allow_pickle=False) as again:
        np.testing.assert_array_equal(again["images"], digits.images)
        np.testing.assert_array_equal(again["labels"], digits.labels)


def test_the_network_of_the_script_is_the_network_of_the_file(script: ModuleType) -> None:
    digits = held_out_digits()
    seen = script.predict(script.read_weights(MODEL_PATH.read_bytes()), digits.images)
    with ib.open_model(MODEL_PATH) as model:
        np.testing.assert_array_equal(seen, np.argmax(model(digits.images), axis=1))


def test_the_files_are_small_and_credit_their_authors() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 100_000
    credit = (FOLDER / "README.md").read_text()
    for text in ("E. Alpaydin and C. Kaynak", "10.24432/C50P49", "CC BY 4.0"):
        assert text in credit
