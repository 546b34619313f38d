"""Which onnxruntime is installed, and whether it is whole.

``onnxruntime``, ``onnxruntime-gpu`` and their siblings are distributions of one package, and
install over each other without a word; uninstalling one then takes the other's files away. So the
distributions are looked at before the package is imported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
from types import ModuleType

from infer_backends.plugin import MissingDependency
from infer_backends_onnxruntime._quiet import without_discovery_warnings

_DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-cann",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-silicon",
    "onnxruntime-training",
    "onnxruntime-training-cpu",
    "onnxruntime-vitisai",
    "onnxruntime-webgpu",
    "ort-nightly",
    "ort-nightly-gpu",
)
_INSTALL = (
    "pip install 'infer-backends-onnxruntime[cpu]', "
    "or with an NVIDIA GPU: pip install 'infer-backends-onnxruntime[gpu]'"
)


def require_installed() -> None:
    """Look for one whole onnxruntime, without importing it.

    Raises:
        MissingDependency: There is none, or several lie over each other; with the lines to type.
    """
    places = _distributions_by_place()
    for found in places.values():
        if len(found) > 1:
            raise MissingDependency(
                f"{' and '.join(found)} are installed over each other, which breaks both: "
                f"{_repair(found)}"
            )
    spec = importlib.util.find_spec("onnxruntime")
    if spec is not None and spec.origin is not None:
        return
    if places:
        name = next(iter(places.values()))[0]
        raise MissingDependency(
            f"{name} is installed, but its files are gone (another onnxruntime was uninstalled "
            f"over it): pip install --force-reinstall --no-deps {name}"
        )
    raise MissingDependency(f"the scheme 'onnx' needs onnxruntime: {_INSTALL}")


def import_runtime() -> ModuleType:
    """The package ``onnxruntime``, imported without noise.

    Raises:
        MissingDependency: It is not installed, not whole, or does not import.
    """
    require_installed()
    try:
        with without_discovery_warnings():
            runtime = importlib.import_module("onnxruntime")
        # A half-removed installation can import as an empty shell.
        _ = runtime.InferenceSession, runtime.RunOptions, runtime.GraphOptimizationLevel
    except Exception as exc:
        name = distribution_name()
        raise MissingDependency(
            f"{name} is installed but does not import ({type(exc).__name__}): "
            f"pip install --force-reinstall {name}"
        ) from exc
    return runtime


def distribution_name() -> str:
    """The name of the installed onnxruntime distribution, for messages."""
    return next(iter(_distributions_by_place().values()), ("onnxruntime",))[0]


def _distributions_by_place() -> dict[str, tuple[str, ...]]:
    """The installed distributions of onnxruntime, by the folder they are installed in.

    One in a virtual environment hides one outside of it, and harms nobody.
    """
    places: dict[str, tuple[str, ...]] = {}
    for name in _DISTRIBUTIONS:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        place = os.path.realpath(str(distribution.locate_file("onnxruntime")))
        places[place] = (*places.get(place, ()), name)
    return places


def _repair(found: tuple[str, ...]) -> str:
    # With several, the special one is what was wanted: the plain one comes as a dependency.
    wanted = next((name for name in found if name != "onnxruntime"), found[0])
    return f"pip uninstall -y {' '.join(found)} && pip install {wanted}"
