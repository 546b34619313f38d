"""Whether OpenVINO is installed, and whole."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from infer_backends.plugin import MissingDependency


def require_installed() -> None:
    """Look for OpenVINO, without importing it.

    Raises:
        MissingDependency: It is not there.
    """
    spec = importlib.util.find_spec("openvino")
    # What an uninstallation leaves behind is a package without a file of its own.
    if spec is None or spec.origin is None:
        raise MissingDependency("the scheme 'openvino' needs OpenVINO: pip install openvino")


def import_runtime() -> ModuleType:
    """The package ``openvino``.

    Raises:
        MissingDependency: It is not installed, not whole, or does not import.
    """
    require_installed()
    try:
        runtime = importlib.import_module("openvino")
        # A half-removed installation can import as an empty shell.
        _ = runtime.Core, runtime.Tensor, runtime.Type, importlib.import_module("openvino.frontend")
    except Exception as exc:
        raise MissingDependency(
            f"openvino is installed but does not import ({type(exc).__name__}): "
            "pip install --force-reinstall openvino"
        ) from exc
    return runtime
