"""Which device a model gets: what was asked for, or an error, and never a silent CPU."""

from __future__ import annotations

import ctypes
import logging
import re
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

import infer_backends as ib
from infer_backends.plugin import (
    InferenceFailed,
    InvalidURL,
    MissingDependency,
    UnsupportedOperation,
)
from infer_backends_onnxruntime import _cuda, _session
from infer_backends_onnxruntime._devices import CPU, Device, parse_device
from infer_backends_onnxruntime._elf import needed_libraries
from tests.onnxruntime import models
from tests.onnxruntime.conftest import OpenBackend, Save

GPU_WHEEL = _cuda.CUDA in onnxruntime.get_available_providers()


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("auto", Device("auto")),
        ("cpu", Device("cpu")),
        ("cuda", Device("cuda", 0)),
        ("cuda:3", Device("cuda", 3)),
        ("tensorrt:12", Device("tensorrt", 12)),
    ],
)
def test_a_device_is_a_kind_and_a_number(text: str, device: Device) -> None:
    assert parse_device(text) == device


@pytest.mark.parametrize("text", ["", "CPU", "gpu", "cuda:", "cuda: 1", "cuda:1\n", "cuda:1234"])
def test_another_device_is_an_error_that_lists_the_choices(text: str) -> None:
    with pytest.raises(InvalidURL, match="expected auto, cpu, cuda, cuda:N, tensorrt or"):
        parse_device(text)


def test_a_provider_takes_what_those_before_it_cannot_run() -> None:
    assert Device("cpu").providers == [CPU]
    assert Device("cuda", 2).providers == [(_cuda.CUDA, {"device_id": 2}), CPU]
    assert [one[0] for one in Device("tensorrt", 1).providers[:2]] == [_cuda.TENSORRT, _cuda.CUDA]
    assert Device("auto").provider == _cuda.CUDA


def test_the_cpu_asked_for_is_the_cpu(open_backend: OpenBackend) -> None:
    backend = open_backend(models.identity(), device="cpu")
    assert backend.metadata.platform == "CPUExecutionProvider"


@pytest.mark.parametrize("device", ["cuda:999", "tensorrt:999"])
def test_a_device_that_cannot_be_had_is_an_error_that_says_what_to_do(
    save: Save, device: str
) -> None:
    with pytest.raises((MissingDependency, UnsupportedOperation)) as caught:
        ib.open_model(save(models.identity()), device=device)
    if GPU_WHEEL:
        assert re.search("no NVIDIA driver|no CUDA device 999|no usable device", str(caught.value))
    else:
        assert "was built without" in str(caught.value)
        assert str(caught.value).endswith(
            "pip uninstall -y onnxruntime && pip install 'infer-backends-onnxruntime[gpu]'"
        )


def test_the_providers_themselves_say_which_libraries_they_want() -> None:
    cuda = _cuda._wanted(onnxruntime, _cuda.CUDA)
    tensorrt = _cuda._wanted(onnxruntime, _cuda.TENSORRT)
    assert "libcudnn.so.9" in cuda
    assert "libcuda.so.1" not in cuda
    if GPU_WHEEL:
        major = onnxruntime.cuda_version.split(".")[0]
        assert {f"libcublas.so.{major}", f"libcudart.so.{major}"} <= set(cuda)
        assert any(name.startswith("libnvinfer") for name in tensorrt)


# --- a machine made up: driver, provider file, wheels -------------------------------------------


class Driver:
    """Answers as ``libcuda`` does."""

    def __init__(self, devices: int, code: int = 0) -> None:
        self.devices, self.code = devices, code

    def cuInit(self, _: int) -> int:  # noqa: N802  # the driver's name for it
        return self.code

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802  # the driver's name for it
        count._obj.value = self.devices
        return 0


def install_driver(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    real = ctypes.CDLL
    monkeypatch.setattr(
        ctypes, "CDLL", lambda name: driver if name == _cuda._DRIVER else real(name)
    )


def shared_object(*needed: str) -> bytes:
    """An ELF file with nothing but a list of needed libraries."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    entries, offset = b"", 1
    for name in needed:
        entries += struct.pack("<qQ", 1, offset)
        offset += len(name) + 1
    entries += struct.pack("<qQ", 0, 0)
    start = 64 + len(strings) + len(entries)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, 3, 0,
    )  # fmt: skip
    section = struct.Struct("<IIQQQQIIQQ")
    return (
        header
        + strings
        + entries
        + section.pack(*[0] * 10)
        + section.pack(0, 3, 0, 0, 64, len(strings), 0, 0, 1, 0)
        + section.pack(0, 6, 0, 0, 64 + len(strings), len(entries), 1, 0, 8, 16)
    )


@pytest.fixture
def runtime(tmp_path: Path) -> ModuleType:
    """An onnxruntime whose provider files want libraries that no machine has."""
    made: Any = ModuleType("onnxruntime")
    made.__file__ = str(tmp_path / "onnxruntime" / "__init__.py")
    made.__version__, made.cuda_version = "9.9", "99.1"
    made.get_available_providers = lambda: [_cuda.TENSORRT, _cuda.CUDA, CPU]
    capi = tmp_path / "onnxruntime" / "capi"
    capi.mkdir(parents=True)
    (capi / "libonnxruntime_providers_cuda.so").write_bytes(
        shared_object("libcublasLt.so.99", "libcudart.so.99", "libcuda.so.1", "libc.so.6")
    )
    (capi / "libonnxruntime_providers_tensorrt.so").write_bytes(
        shared_object("libnvinfer.so.99", "libcudnn.so.99")
    )
    module: ModuleType = made
    return module


def test_the_needed_libraries_of_an_elf_file_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(shared_object("libone.so.1", "libtwo.so"))
    assert needed_libraries(path) == ("libone.so.1", "libtwo.so")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert needed_libraries(path) in {(), ("libone.so.1", "libtwo.so")}
    path.write_bytes(b"MZ" + whole[2:])
    assert needed_libraries(path) == ()
    assert needed_libraries(tmp_path / "none.so") == ()


def test_the_needed_libraries_of_a_real_library_are_read() -> None:
    import _ctypes

    assert any(name.startswith("lib") for name in needed_libraries(Path(_ctypes.__file__)))


def test_a_table_of_an_impossible_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    whole = bytearray(shared_object("libone.so"))
    size = len(whole) - 64 + 32
    whole[size : size + 8] = struct.pack("<Q", 1 << 40)
    path.write_bytes(whole)
    assert needed_libraries(path) == ()


def test_without_a_driver_the_device_cannot_be_had(
    runtime: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cuda, "_DRIVER", "libno-such-driver.so.1")
    error = _cuda.why_not(runtime, _cuda.CUDA, 0)
    assert isinstance(error, UnsupportedOperation)
    assert "no NVIDIA driver (libno-such-driver.so.1 is not found)" in str(error)
    assert isinstance(error.__cause__, OSError)


@pytest.mark.parametrize(
    ("driver", "index", "message"),
    [
        (Driver(0, code=100), 0, r"finds no usable device \(CUDA error 100\)"),
        (Driver(1), 1, "there is no CUDA device 1: this process sees 1"),
        (Driver(0), 0, "there is no CUDA device 0: this process sees 0"),
    ],
)
def test_a_driver_without_that_device_is_believed(
    runtime: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    driver: Driver,
    index: int,
    message: str,
) -> None:
    install_driver(monkeypatch, driver)
    error = _cuda.why_not(runtime, _cuda.CUDA, index)
    assert isinstance(error, UnsupportedOperation)
    assert re.search(message, str(error))


@pytest.mark.skipif(sys.platform != "linux", reason="the made-up libraries are ELF files")
def test_missing_libraries_are_named_with_what_installs_them(
    runtime: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_driver(monkeypatch, Driver(1))
    assert str(_cuda.why_not(runtime, _cuda.CUDA, 0)) == (
        "CUDAExecutionProvider of onnxruntime 9.9 needs libcublasLt.so.99, libcudart.so.99, "
        "libcudnn.so.9, not found here: pip install 'onnxruntime-gpu[cuda,cudnn]', or install "
        "the matching CUDA, cuDNN and TensorRT"
    )
    message = str(_cuda.why_not(runtime, _cuda.TENSORRT, 0))
    assert "needs libnvinfer.so.99, libcudnn.so.99, not found" in message
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]' tensorrt-cu99" in message


@pytest.mark.skipif(sys.platform != "linux", reason="the made-up libraries are ELF files")
def test_libraries_are_found_in_the_wheels_beside_onnxruntime(
    runtime: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import _ctypes

    install_driver(monkeypatch, Driver(1))
    folder = tmp_path / "nvidia" / "cu99" / "lib"
    folder.mkdir(parents=True)
    for name in ("libcublasLt.so.99", "libcudart.so.99", "libcudnn.so.9"):
        (folder / name).symlink_to(_ctypes.__file__)
    assert _cuda.why_not(runtime, _cuda.CUDA, 0) is None


def test_a_provider_that_does_not_start_is_an_error_if_it_was_asked_for_by_name(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever made the check too hopeful: the session's own account decides."""
    session = onnxruntime.InferenceSession(save(models.identity()), providers=[CPU])
    monkeypatch.setattr(_session, "why_not", lambda *_: None)
    monkeypatch.setattr(_session, "_make", lambda *_: session)
    with pytest.raises(UnsupportedOperation, match="CUDAExecutionProvider did not start .*auto"):
        ib.open_model(save(models.identity()), device="cuda")


def test_auto_goes_on_with_the_cpu_where_cuda_does_not_start_and_says_so_once(
    save: Save, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make = _session._make

    def failing(runtime: ModuleType, spec: _session.SessionSpec, device: Device) -> Any:
        if device.kind != "cpu":
            raise InferenceFailed("out of device memory")
        return make(runtime, spec, device)

    monkeypatch.setattr(_session, "why_not", lambda *_: None)
    monkeypatch.setattr(_session, "_make", failing)
    with caplog.at_level(logging.WARNING), ib.open_model(save(models.identity())) as model:
        assert model.metadata.platform == "CPUExecutionProvider"
        assert model(np.ones((1, 4), np.float32)).tolist() == [[1, 1, 1, 1]]
    (record,) = caplog.records
    assert "runs on the CPU: CUDA did not start: out of device memory" in record.getMessage()
