"""Whether CUDA and TensorRT would work here, found out without a sound.

A provider whose libraries are missing prints to stderr and stdout whatever the log level, and
falls back to the CPU. So the driver is asked for its devices, and the libraries are loaded one by
one (first from the ``nvidia-*`` and ``tensorrt`` wheels, as onnxruntime itself would find none of
those), before the provider is asked for.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from infer_backends.plugin import InferError, MissingDependency, UnsupportedOperation
from infer_backends_onnxruntime._elf import needed_libraries
from infer_backends_onnxruntime._install import distribution_name

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
_LIBRARY_OF = {CUDA: "onnxruntime_providers_cuda", TENSORRT: "onnxruntime_providers_tensorrt"}
_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NVIDIA_PREFIXES = ("libcu", "libnv")


def why_not(runtime: ModuleType, provider: str, index: int) -> InferError | None:
    """What keeps ``provider`` from running on device ``index``, as the error to raise; or None."""
    if provider not in runtime.get_available_providers():
        installed = distribution_name()
        return MissingDependency(
            f"{installed} {runtime.__version__} was built without {provider}: "
            f"pip uninstall -y {installed} && pip install 'infer-backends-onnxruntime[gpu]'"
        )
    return _driver_problem(index) or _library_problem(runtime, provider)


def _driver_problem(index: int) -> InferError | None:
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as exc:
        error = UnsupportedOperation(
            f"this machine has no NVIDIA driver ({_DRIVER} is not found): install the driver, or "
            "open the model with device=cpu"
        )
        error.__cause__ = exc
        return error
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code:
        return UnsupportedOperation(
            f"the NVIDIA driver finds no usable device (CUDA error {code}): see what nvidia-smi "
            "says, or open the model with device=cpu"
        )
    if index >= count.value:
        return UnsupportedOperation(
            f"there is no CUDA device {index}: this process sees {count.value} (counted from 0; "
            "CUDA_VISIBLE_DEVICES may hide some)"
        )
    return None


def _library_problem(runtime: ModuleType, provider: str) -> InferError | None:
    folders = _wheel_folders(runtime)
    missing = [name for name in _wanted(runtime, provider) if not _load(name, folders)]
    if not missing:
        return None
    extra = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    if provider == TENSORRT and any(name.startswith("libnv") for name in missing):
        extra += f" tensorrt-cu{_cuda_major(runtime) or '12'}"
    return MissingDependency(
        f"{provider} of onnxruntime {runtime.__version__} needs {', '.join(missing)}, not found "
        f"here: {extra}, or install the matching CUDA, cuDNN and TensorRT"
    )


def _wanted(runtime: ModuleType, provider: str) -> tuple[str, ...]:
    """The NVIDIA libraries that must load before ``provider`` is asked for."""
    folder = Path(str(runtime.__file__)).parent / "capi"
    major = _cuda_major(runtime)
    if sys.platform == "win32":
        names = [f"cublas64_{major}.dll", f"cudart64_{major}.dll", "cudnn64_9.dll"]
        return tuple(names if major else ())
    needed = needed_libraries(folder / f"lib{_LIBRARY_OF[provider]}.so")
    names = [name for name in needed if name.startswith(_NVIDIA_PREFIXES) and name != _DRIVER]
    if not any(name.startswith("libcudnn") for name in names):
        # Later versions load it on first use: convolutions fail without it, after the open.
        names.append("libcudnn.so.9")
    return tuple(names)


def _cuda_major(runtime: ModuleType) -> str:
    return str(getattr(runtime, "cuda_version", "") or "").partition(".")[0]


def _wheel_folders(runtime: ModuleType) -> list[Path]:
    """Where the ``nvidia-*`` and ``tensorrt`` wheels keep their libraries."""
    roots = {Path(str(runtime.__file__)).parent.parent / "nvidia"}
    for package in ("nvidia", "tensorrt_libs"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations is not None:
            roots.update(Path(place) for place in spec.submodule_search_locations)
    parts = ("bin", "bin/x86_64") if sys.platform == "win32" else ("lib",)
    folders = [folder for root in roots for part in parts for folder in root.glob(f"*/{part}")]
    return sorted([*folders, *(root for root in roots if root.name == "tensorrt_libs")])


def _load(name: str, folders: list[Path]) -> bool:
    """Load a library, from the wheels if they have it; it stays loaded, for the provider."""
    places = [str(folder / name) for folder in folders if (folder / name).is_file()]
    for place in (*places, name):
        try:
            ctypes.CDLL(place)
        except OSError:
            continue
        return True
    return False
