"""What the code blocks of the documentation find when they run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infer_backends_triton import LocalTriton

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "infer_backends/_cli/_demo_data"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, triton_environment: Path) -> Path:
    """The current folder of a reader: that of the tutorial, with the digits copied."""
    shutil.copytree(DIGITS, tmp_path / DIGITS.relative_to(ROOT))
    for name in ("digits.onnx", "digits.npz"):
        shutil.copy(DIGITS / name, tmp_path)
    with np.load(DIGITS / "digits.npz") as digits:
        np.save(tmp_path / "image.npy", digits["images"][:1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFER_BACKENDS_TRITON_ENVIRONMENT", str(triton_environment))
    return tmp_path


@pytest.fixture(scope="module")
def server(triton_environment: Path) -> Iterator[LocalTriton]:
    """The server that stands at ``localhost:8000`` and ``localhost:8001`` in the documentation."""
    served = {"digits": DIGITS / "digits.onnx"}
    with LocalTriton(served, environment=triton_environment) as triton:
        yield triton
