from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from infer_backends.plugin import Array, Deadline, InferRequest, ModelURL, OpenOptions
from infer_backends_onnxruntime import plugin
from infer_backends_onnxruntime._backend import OnnxBackend

Save = Callable[..., Path]
OpenBackend = Callable[..., OnnxBackend]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """``save(model, name="model.onnx")``: the path of the model, written to a file."""

    def write(model: onnx.ModelProto, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture
def open_backend(save: Save) -> Iterator[OpenBackend]:
    """``open_backend(model or path, **options)``: what the plugin's hook opens."""
    opened: list[OnnxBackend] = []

    def open_one(model: onnx.ModelProto | Path, **options: Any) -> OnnxBackend:
        path = model if isinstance(model, Path) else save(model)
        values = {option.name: option.default for option in plugin.infer_backends_options()}
        url = ModelURL(scheme="onnx", path=str(path))
        backend = plugin.infer_backends_open(url, OpenOptions({**values, **options}))
        assert isinstance(backend, OnnxBackend)
        opened.append(backend)
        return backend

    yield open_one
    for backend in opened:
        backend.close()


def request(
    inputs: dict[str, Any],
    outputs: tuple[str, ...] | None = None,
    timeout: float | None = None,
) -> InferRequest:
    """A request; an explicit deadline if there is a timeout, in seconds."""
    deadline = Deadline.after(60, explicit=False) if timeout is None else Deadline.after(timeout)
    arrays: dict[str, Array] = {name: np.asarray(value) for name, value in inputs.items()}
    return InferRequest(arrays, outputs, deadline)
