"""The plugin keeps the contract: with ONNX files, and with what OpenVINO makes of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from infer_backends import DataType
from infer_backends.testing import REFERENCE_MODELS, BackendContract

_LEAST, _MOST = -(2**63), 2**63 - 1


class OpenVINOContract(BackendContract):
    # It computes FP64 in FP32, and gives strings back in memory that is not theirs.
    unsupported: ClassVar[frozenset[str]] = frozenset({"identity_fp64", "identity_bytes"})
    # And it computes integers in 32 bits, with a sign.
    refused: ClassVar[Mapping[DataType, Collection[object]]] = {
        DataType.INT64: (_LEAST, _MOST),
        DataType.UINT64: (2**64 - 1,),
        DataType.UINT32: (2**32 - 1,),
    }
    survives_fork: ClassVar[bool] = False
    option_values: ClassVar[Mapping[str, Any]] = {
        "threads": 1,
        "hint": "throughput",
        "precision": "fp32",
        "device": "AUTO",
    }


class TestONNXFiles(OpenVINOContract):
    @pytest.fixture
    def reference_url(self) -> Callable[[str], str]:
        folder = REFERENCE_MODELS["mixed"].onnx_file.parent
        return lambda name: f"openvino:{folder / name}.onnx"


class TestIR(OpenVINOContract):
    @pytest.fixture
    def reference_url(self, reference_ir: Path) -> Callable[[str], str]:
        return lambda name: f"openvino:{reference_ir / name}.xml"


class TestThroughput(TestONNXFiles):
    @pytest.fixture
    def reference_url(self) -> Callable[[str], str]:
        folder = REFERENCE_MODELS["mixed"].onnx_file.parent
        return lambda name: f"openvino:{folder / name}.onnx?hint=throughput&device=AUTO%3ACPU"
