from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest

from infer_backends.plugin import Array, Deadline, InferRequest, ModelURL, OpenOptions
from infer_backends.testing import REFERENCE_MODELS
from infer_backends_openvino import plugin
from infer_backends_openvino._backend import OpenVINOBackend

Save = Callable[..., Path]
OpenBackend = Callable[..., OpenVINOBackend]
DIGITS = Path(__file__).parents[2] / "infer_backends/_cli/_demo_data/digits.onnx"


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """``save(model, name="model")``: the path of the model, an ONNX file or OpenVINO's IR."""

    def write(model: Any, name: str = "model") -> Path:
        if isinstance(model, onnx.ModelProto):
            path = tmp_path / f"{name}.onnx"
            path.write_bytes(model.SerializeToString())
        else:
            path = tmp_path / f"{name}.xml"
            ov.save_model(model, path, compress_to_fp16=False)
        return path

    return write


@pytest.fixture
def open_backend(save: Save) -> Iterator[OpenBackend]:
    """``open_backend(model or path, **options)``: what the plugin's hook opens."""
    opened: list[OpenVINOBackend] = []

    def open_one(model: Any, **options: Any) -> OpenVINOBackend:
        path = model if isinstance(model, Path) else save(model)
        backend = plugin.infer_backends_open(ModelURL("openvino", path=str(path)), given(**options))
        assert isinstance(backend, OpenVINOBackend)
        opened.append(backend)
        return backend

    yield open_one
    for backend in opened:
        backend.close()


@pytest.fixture(scope="session")
def reference_ir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the reference models as OpenVINO writes them."""
    folder = tmp_path_factory.mktemp("ir")
    for name, reference in REFERENCE_MODELS.items():
        model = ov.Core().read_model(reference.onnx_file)
        ov.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)
    return folder


def given(**options: Any) -> OpenOptions:
    """The options of a URL, those not named as they are by default."""
    values = {option.name: option.default for option in plugin.infer_backends_options()}
    return OpenOptions({**values, **options})


def request(
    inputs: dict[str, Any],
    outputs: tuple[str, ...] | None = None,
    timeout: float | None = None,
) -> InferRequest:
    """A request; an explicit deadline if there is a timeout, in seconds."""
    deadline = Deadline.after(60, explicit=False) if timeout is None else Deadline.after(timeout)
    arrays: dict[str, Array] = {name: np.asarray(value) for name, value in inputs.items()}
    return InferRequest(arrays, outputs, deadline)
