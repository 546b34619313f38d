"""The built-in backends keep the contract: the very suite that is shipped for other plugins."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from infer_backends import DataType
from infer_backends.testing import REFERENCE_MODELS, BackendContract, FakeModel, FakeModels
from infer_backends_triton import _shared_memory
from infer_backends_triton._local import LocalTriton
from tests.contract.conftest import url_of
from tests.servers.mlserver import MLServer

#: Where a server has another model of that name.
SCALAR = {"scalar": "scalar_fp32"}


def insisting(url: Callable[[str], str]) -> Callable[[str], str]:
    return lambda name: f"{url(name)}?shared_memory=system"


class TritonContract(BackendContract):
    """A model of Triton has one dimension or more."""

    absent: ClassVar[frozenset[str]] = frozenset({"scalar"})


class TestTritonHTTP(TritonContract):
    @pytest.fixture
    def reference_url(
        self, reference_triton: LocalTriton, triton: LocalTriton
    ) -> Callable[[str], str]:
        return url_of(reference_triton.http_url, triton.http_url)


class TestTritonGRPC(TritonContract):
    @pytest.fixture
    def reference_url(
        self, reference_triton: LocalTriton, triton: LocalTriton
    ) -> Callable[[str], str]:
        return url_of(reference_triton.grpc_url, triton.grpc_url)


class TestTritonHTTPS(TritonContract):
    @pytest.fixture
    def reference_url(self, reference_https_url: Callable[[str], str]) -> Callable[[str], str]:
        return reference_https_url


class TestTritonGRPCOverTLS(TritonContract):
    @pytest.fixture
    def reference_url(self, reference_grpcs_url: Callable[[str], str]) -> Callable[[str], str]:
        return reference_grpcs_url


class SharedMemoryContract(TritonContract):
    """Every tensor that can goes by shared memory, and it is an error if that fails."""

    @pytest.fixture(autouse=True)
    def everything_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_shared_memory, "THRESHOLD", 1)


class TestTritonHTTPSharedMemory(SharedMemoryContract):
    @pytest.fixture
    def reference_url(
        self, reference_triton: LocalTriton, triton: LocalTriton
    ) -> Callable[[str], str]:
        return insisting(url_of(reference_triton.http_url, triton.http_url))


class TestTritonGRPCSharedMemory(SharedMemoryContract):
    @pytest.fixture
    def reference_url(
        self, reference_triton: LocalTriton, triton: LocalTriton
    ) -> Callable[[str], str]:
        return insisting(url_of(reference_triton.grpc_url, triton.grpc_url))


class TestMLServerHTTP(BackendContract):
    """Tensors go as JSON: what that cannot say is refused, at open or by the call."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"identity_fp16"})
    absent: ClassVar[frozenset[str]] = frozenset({"identity_bf16"})
    refused: ClassVar[Mapping[DataType, Collection[object]]] = {
        DataType.FP32: (math.nan, math.inf, -math.inf),
        DataType.FP64: (math.nan, math.inf, -math.inf),
    }

    @pytest.fixture
    def reference_url(self, mlserver: MLServer) -> Callable[[str], str]:
        return lambda name: mlserver.url(SCALAR.get(name, name), "http")


class TestMLServerGRPC(BackendContract):
    absent: ClassVar[frozenset[str]] = frozenset({"identity_bf16"})

    @pytest.fixture
    def reference_url(self, mlserver: MLServer) -> Callable[[str], str]:
        return lambda name: mlserver.url(SCALAR.get(name, name), "grpc")


class TestOnnxruntime(BackendContract):
    # onnxruntime's Python API has no arrays of BF16.
    unsupported: ClassVar[frozenset[str]] = frozenset({"identity_bf16"})

    @pytest.fixture
    def reference_url(self, reference_folder: Path) -> Callable[[str], str]:
        return lambda name: f"onnx:{reference_folder / name}.onnx"


class TestFakes(BackendContract):
    """So an application's tests are on what behaves as a real backend does."""

    # The function of a fake runs in the thread that calls it. What takes long by `slow` is ended.
    interrupts: ClassVar[bool] = False

    @pytest.fixture
    def reference_url(self) -> Callable[[str], str]:
        return "fake:{}".format


class TestStartedFakes(BackendContract):
    """Those that tests start, and take away."""

    interrupts: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    def fakes(self, fake_model: FakeModels) -> dict[str, FakeModel]:
        return {
            name: fake_model(name, model.inputs, model.outputs, compute=model.compute)
            for name, model in REFERENCE_MODELS.items()
        }

    @pytest.fixture
    def reference_url(self) -> Callable[[str], str]:
        return "fake:{}".format

    @pytest.fixture
    def outage(self, fakes: dict[str, FakeModel]) -> Callable[[], AbstractContextManager[None]]:
        @contextmanager
        def away() -> Iterator[None]:
            with fakes[self.main.name].down():
                yield

        return away
