"""A backend whose models have one fixed form is held to the contract by a main model of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from infer_backends import DataType, TensorSpec, register_backend
from infer_backends.testing import REFERENCE_MODELS, BackendContract, ReferenceModel

EXAMPLE = Path(__file__).parents[2] / "examples" / "infer-backends-linear"
WEIGHTS = np.array([[1, 10], [2, 20], [3, 30]], np.float32)


class TestLinear(BackendContract):
    """The plugin of the tutorial, in this process."""

    main: ClassVar[ReferenceModel] = ReferenceModel(
        "steps",
        (TensorSpec("x", DataType.FP32, (-1, 3)),),
        (TensorSpec("y", DataType.FP32, (-1, 2)),),
        lambda inputs: {"y": np.matmul(inputs["x"], WEIGHTS)},
    )
    absent: ClassVar[Collection[str]] = frozenset(REFERENCE_MODELS)
    tolerance: ClassVar[float] = 1e-6

    @pytest.fixture
    def reference_url(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Callable[[str], str]]:
        monkeypatch.syspath_prepend(EXAMPLE)
        plugin = importlib.import_module("infer_backends_linear")
        np.savez(tmp_path / "steps.npz", weights=WEIGHTS)
        options = plugin.infer_backends_options()
        with register_backend("linear", plugin.infer_backends_open, options=options):
            yield lambda name: f"linear:{tmp_path / name}.npz"
