"""Whether OpenVINO is installed, and whole; and its import, without a word to anybody.

When it is imported, OpenVINO tells its makers so, by a process that it forks and a request over the
network (``openvino_telemetry``). It does without where that package is missing, and so it is made
to seem. Who imports OpenVINO before has decided otherwise.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
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


_TELEMETRY = "openvino_telemetry"
_LOCK = threading.Lock()


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Import OpenVINO in the body of this, so that it sends nothing."""
    with _LOCK:
        if "openvino" in sys.modules or _TELEMETRY in sys.modules:
            yield
            return
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # so that importing it fails
        try:
            yield
        finally:
            del sys.modules[_TELEMETRY]


def import_runtime() -> ModuleType:
    """The package ``openvino``.

    Raises:
        MissingDependency: It is not installed, not whole, or does not import.
    """
    require_installed()
    try:
        with without_telemetry():
            runtime = importlib.import_module("openvino")
            importlib.import_module("openvino.frontend")
        # A half-removed installation can import as an empty shell.
        _ = runtime.Core, runtime.Tensor, runtime.Type
    except Exception as exc:
        raise MissingDependency(
            f"openvino is installed but does not import ({type(exc).__name__}): "
            "pip install --force-reinstall openvino"
        ) from exc
    return runtime
