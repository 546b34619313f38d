"""The contract of all backends, kept by linear models."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infer_backends.plugin import DataType, TensorSpec
from infer_backends.testing import REFERENCE_MODELS, BackendContract, ReferenceModel

WEIGHTS = np.array([[1, 10], [2, 20], [3, 30]], np.float32)
STEPS = ReferenceModel(
    name="steps",
    inputs=(TensorSpec("x", DataType.FP32, (-1, 3)),),
    outputs=(TensorSpec("y", DataType.FP32, (-1, 2)),),
    compute=lambda inputs: {"y": np.matmul(inputs["x"], WEIGHTS)},
)


class TestLinear(BackendContract):
    main = STEPS
    absent = frozenset(REFERENCE_MODELS)
    tolerance = 1e-6
    option_values = {"bias": 0.5}

    @pytest.fixture
    def reference_url(self, tmp_path: Path) -> Callable[[str], str]:
        np.savez(tmp_path / "steps.npz", weights=WEIGHTS)
        return lambda name: f"linear:{tmp_path / name}.npz"
