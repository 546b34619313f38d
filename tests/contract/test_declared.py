"""What the onnxruntime plugin tells of the reference models without loading them."""

from __future__ import annotations

from pathlib import Path

import pytest

from infer_backends import DataType, ModelURL
from infer_backends._registry import REGISTRY
from infer_backends.plugin import Deadline, OpenOptions
from infer_backends.testing import REFERENCE_MODELS


@pytest.mark.parametrize("name", REFERENCE_MODELS)
def test_what_is_told_is_what_the_opened_model_says(reference_folder: Path, name: str) -> None:
    url = ModelURL.parse(reference_folder / f"{name}.onnx")
    plugin = REGISTRY.find(url.scheme)
    options = OpenOptions.read(url, plugin.options(url.scheme), {"device": "cpu"}, headers=None)
    options.deadline = Deadline.after(60)
    told = plugin.metadata(url, options)
    reference = REFERENCE_MODELS[name]
    if any(spec.dtype is DataType.BF16 for spec in reference.inputs):
        assert told is None
        return
    backend = plugin.open(url, options)
    try:
        assert told == backend.metadata
        assert told is not None
        assert (told.inputs, told.outputs) == (reference.inputs, reference.outputs)
    finally:
        backend.close()
