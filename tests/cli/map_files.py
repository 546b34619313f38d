"""Samples in files for the command ``map``, and what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.plugin import DataType, ModelMetadata, TensorSpec
from tests.core.fakes import FakeBackend, double, metadata


@pytest.fixture
def folder_of_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with samples/0.npy to 4.npy, [i, i] each, and rows.npz, the same."""
    monkeypatch.chdir(tmp_path)
    Path("samples").mkdir()
    for value in range(5):
        np.save(f"samples/{value}.npy", np.full(2, value, np.float32))
    np.savez("rows.npz", x=np.repeat(np.arange(5, dtype=np.float32), 2).reshape(5, 2))
    return tmp_path


def written(folder: str | Path = "out") -> dict[str, Any]:
    """What is in every file of a folder, by the file's name."""
    found = {}
    for path in sorted(Path(folder).iterdir()):
        with np.load(path, allow_pickle=False) as file:
            found[path.name] = {name: file[name].tolist() for name in file.files}
    return found


def joined(name: str = "y", folder: str = "out") -> list[Any]:
    """The rows of an output, put together as the documentation says."""
    paths = sorted(Path(folder).glob("rows-*.npz"))
    rows: list[Any] = np.concatenate([np.load(path)[name] for path in paths]).tolist()
    return rows


@pytest.fixture
def fake() -> Iterator[Callable[..., FakeBackend]]:
    """``fake(answer, metadata)``: the backend at ``fake://h/m``."""
    backends: list[FakeBackend] = []

    def make(answer: Any = double, described: ModelMetadata | None = None) -> FakeBackend:
        model = described or metadata(
            [TensorSpec("x", DataType.FP32, (-1, 2))], [TensorSpec("y", DataType.FP32, (-1, 2))]
        )
        backends.append(FakeBackend(answer, metadata=model))
        return backends[-1]

    with ib.register_backend("fake", lambda url, options: backends[-1]):
        yield make


FAKE = "fake://h/m"
