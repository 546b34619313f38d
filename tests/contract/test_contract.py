"""The built-in backends keep the contract: the very suite that is shipped for other plugins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from infer_backends.testing import BackendContract
from infer_backends_triton._local import LocalTriton


def url_of(base: str, other: str) -> Callable[[str], str]:
    """BF16 is served by a Python model, since onnxruntime cannot."""
    return lambda name: f"{other if name == 'identity_bf16' else base}/{name}"


class TestTritonHTTP(BackendContract):
    @pytest.fixture
    def reference_url(
        self, reference_triton: LocalTriton, triton: LocalTriton
    ) -> Callable[[str], str]:
        return url_of(reference_triton.http_url, triton.http_url)


class TestTritonGRPC(BackendContract):
    @pytest.fixture
    def reference_url(
        self, reference_triton: LocalTriton, triton: LocalTriton
    ) -> Callable[[str], str]:
        return url_of(reference_triton.grpc_url, triton.grpc_url)


class TestOnnxruntime(BackendContract):
    # onnxruntime's Python API has no arrays of BF16.
    unsupported: ClassVar[frozenset[str]] = frozenset({"identity_bf16"})

    @pytest.fixture
    def reference_url(self, reference_folder: Path) -> Callable[[str], str]:
        return lambda name: f"onnx:{reference_folder / name}.onnx"
