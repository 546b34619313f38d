"""Make an onnxruntime session from a file, on the device that was asked for."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from infer_backends.plugin import (
    FileState,
    InferError,
    InvalidURL,
    ModelFile,
    ModelURL,
    OpenOptions,
    UnsupportedOperation,
)
from infer_backends_onnxruntime._cuda import why_not
from infer_backends_onnxruntime._devices import CPU, Device, parse_device
from infer_backends_onnxruntime._errors import load_error
from infer_backends_onnxruntime._fork_gate import GATE
from infer_backends_onnxruntime._graph import declared_tensors

_LOGGER = logging.getLogger(__name__)
_MOST_THREADS = 1024
_FATAL = 4  # Everything below it is raised as well: printing it would say it twice.
_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """All that it takes to make the same session again, in this process or a forked one.

    Attributes:
        file: The model's file.
        device: What to run on.
        threads: Threads within one operator; 0 is the runtime's choice.
        optimization: ``none``, ``basic``, ``extended`` or ``all``.
    """

    file: ModelFile
    device: Device
    threads: int
    optimization: str

    @property
    def path(self) -> str:
        """The file's absolute path."""
        return self.file.path

    @property
    def location(self) -> str:
        """The model's URL, for messages."""
        return self.file.location

    @classmethod
    def from_options(cls, url: ModelURL, options: OpenOptions) -> SessionSpec:
        """The spec of the model that ``url`` names.

        Raises:
            InvalidURL: The URL names no path, or an option has a wrong value.
            ModelNotFound: The path is relative, and the working directory is gone.
        """
        threads = options["threads"]
        if not 0 <= threads <= _MOST_THREADS:
            raise InvalidURL(
                f"the option 'threads' has a wrong value: expected 0 to {_MOST_THREADS}"
            )
        device = parse_device(options["device"])
        return cls(ModelFile.of(url), device, threads, options["optimization"])

    def require_file(self) -> FileState:
        """The state of the model's file; see :meth:`infer_backends.plugin.ModelFile.require`."""
        return self.file.require("an .onnx file")


def make_session(runtime: ModuleType, spec: SessionSpec) -> Any:
    """An ``InferenceSession`` that runs on the device of ``spec``.

    Raises:
        MissingDependency: The device needs packages or libraries that are not there.
        UnsupportedOperation: The device, or something in the model, cannot be had.
        ProtocolError: The file is not a valid model.
    """
    if spec.device.kind == "auto":
        return _make_best(runtime, spec)
    wanted = spec.device.provider
    if wanted != CPU:
        problem = why_not(runtime, wanted, spec.device.index)
        if problem is not None:
            raise problem
    session = _make(runtime, spec, spec.device)
    used = session.get_providers()
    if used[0] != wanted:
        raise UnsupportedOperation(
            f"{wanted} did not start for {spec.location!r}, and onnxruntime would go on with "
            f"{used[0]}: open the model with device=auto to allow that"
        )
    return session


def _make_best(runtime: ModuleType, spec: SessionSpec) -> Any:
    """CUDA if it really works, else the CPU.

    TensorRT has to be asked for by name: it builds an engine for every new shape, for minutes.
    """
    problem = why_not(runtime, spec.device.provider, spec.device.index)
    if problem is None:
        try:
            return _make(runtime, spec, spec.device)
        except InferError as exc:
            session = _make(runtime, spec, Device("cpu"))  # The model's own fault shows here again.
            _LOGGER.warning("%s runs on the CPU: CUDA did not start: %s", spec.location, exc)
            return session
    _LOGGER.info("%s runs on the CPU: %s", spec.location, problem)
    return _make(runtime, spec, Device("cpu"))


def _make(runtime: ModuleType, spec: SessionSpec, device: Device) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = spec.threads or _threads_allowed()
    options.graph_optimization_level = getattr(
        runtime.GraphOptimizationLevel, _LEVELS[spec.optimization]
    )
    token = GATE.enter()
    try:
        # Without enable_fallback=0 it prints, and goes on with another provider.
        session = runtime.InferenceSession(
            spec.path, options, providers=device.providers, enable_fallback=0
        )
    except Exception as exc:
        declared = declared_tensors(spec.path)
        raise load_error(exc, spec.location, runtime.__version__, declared) from exc
    finally:
        GATE.leave(token)
    session.disable_fallback()
    return session


def _threads_allowed() -> int:
    """0, the runtime's choice, unless this process is confined to some of the processors.

    onnxruntime would start a thread for each of the machine's, and complain on stderr that it
    cannot pin them.
    """
    if not hasattr(os, "sched_getaffinity"):
        return 0
    allowed = len(os.sched_getaffinity(0))
    return allowed if allowed < (os.cpu_count() or 1) else 0
