"""The backend: runs a session, stops it at deadlines, and lives through forks."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType, ModuleType
from typing import Any

from infer_backends.plugin import (
    Array,
    DataType,
    Deadline,
    DeadlineExceeded,
    InferError,
    InferRequest,
    InferResponse,
    ModelClosed,
    ModelMetadata,
    ModelNotFound,
    ModelURL,
    OpenOptions,
    UnsupportedOperation,
    never_destroy,
    skip_exit_handlers_of_c,
)
from infer_backends_onnxruntime._devices import CPU, Device
from infer_backends_onnxruntime._errors import run_error
from infer_backends_onnxruntime._fork_gate import GATE
from infer_backends_onnxruntime._install import import_runtime
from infer_backends_onnxruntime._metadata import read_metadata
from infer_backends_onnxruntime._session import SessionSpec, make_session
from infer_backends_onnxruntime._strings import decode, encode
from infer_backends_onnxruntime._watchdog import Watch, Watchdog

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def open_backend(url: ModelURL, options: OpenOptions) -> OnnxBackend:
    """Open the model file that ``url`` names; see the plugin's hook."""
    spec = SessionSpec.from_options(url, options)
    runtime = import_runtime()
    options.deadline.require("loading the model")
    return OnnxBackend(runtime, spec, str(url))


class OnnxBackend:
    """An ONNX model in this process. Safe for threads, and after a fork.

    onnxruntime's thread pools do not survive a fork, so a child makes its own session, with its
    first call.
    """

    def __init__(self, runtime: ModuleType, spec: SessionSpec, url: str) -> None:
        self._runtime = runtime
        self._spec = spec
        self._url = url
        self._closed = False
        self._state = spec.require_file()
        self._session: Any = make_session(runtime, spec)
        self._metadata = read_metadata(self._session, spec)
        self._output_names = [tensor.name for tensor in self._metadata.outputs]
        self._text_inputs = _names_of_text(self._metadata.inputs)
        self._text_outputs = frozenset(_names_of_text(self._metadata.outputs))
        self._version = next(iter(self._metadata.versions), "")
        self._start_afresh()
        _LIVE.add(self)

    def _start_afresh(self) -> None:
        """Make what threads share; in a forked child, those of the parent may be locked."""
        self._opening = threading.Lock()
        self._watchdog = Watchdog()
        # Shared by all calls without a deadline of their own: it is how close() stops them.
        self._run_options = self._runtime.RunOptions()

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself."""
        return self._metadata

    def ready(self, deadline: Deadline) -> bool:  # noqa: ARG002  # nothing here takes time
        """Whether the model is open."""
        return not self._closed

    def describe(self, deadline: Deadline) -> ModelMetadata:  # noqa: ARG002  # as for ready
        """What the model says of itself: what it said when it was opened."""
        if self._closed:
            raise ModelClosed(f"the model {self._metadata.name!r} is closed: open it again")
        return self._metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """Run the model; see :class:`infer_backends.plugin.Backend`.

        Raises:
            DeadlineExceeded: The deadline has passed before the run; or during it, if the caller
                set it explicitly (then the run ends after the operator that is running).
            InvalidInput: onnxruntime refuses the inputs.
            InferenceFailed: An operator failed.
            ModelClosed: The model was closed, before or meanwhile.
        """
        session = self._session or self._reopen()
        remaining = request.deadline.require("running the model")
        inputs = request.inputs
        if self._text_inputs:
            inputs = {**inputs, **self._texts(inputs)}
        wanted = request.outputs
        names = self._output_names if wanted is None else list(wanted)
        error: InferError | None = None
        arrays: list[Array] = []
        watch: Watch | None = None
        # As GATE.enter() and GATE.leave() do, in place: a small model runs for microseconds.
        inside = GATE.inside
        inside.append(None)
        if GATE.forks:
            GATE.wait(inside)
        try:
            if request.deadline.explicit:
                options = self._runtime.RunOptions()
                watch = self._watchdog.begin(remaining, options)
                arrays = session.run(names, inputs, options)
            else:
                arrays = session.run(names, inputs, self._run_options)
        except Exception as exc:  # noqa: BLE001  # none of onnxruntime's may escape
            error = self._explain(exc, watch)
        finally:
            inside.pop()
            if GATE.forks:
                GATE.tell()
            if watch is not None:
                self._watchdog.end(watch)
        if error is not None:
            # Raised here, where nothing that quotes a tensor hangs on to it as its context.
            raise error
        if len(names) == 1:
            # Most models have one output, and this takes a tenth of the time.
            outputs = {names[0]: arrays[0]}
        else:
            outputs = dict(zip(names, arrays, strict=False))
        if self._text_outputs:
            outputs |= self._texts_as_bytes(outputs)
        return InferResponse(outputs, self._version, _NOTHING, self._url)

    def _texts(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {name: decode(name, inputs[name]) for name in self._text_inputs if name in inputs}

    def _texts_as_bytes(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        return {name: encode(outputs[name]) for name in self._text_outputs.intersection(outputs)}

    def close(self) -> None:
        """Stop the calls in flight, after the operator each is in, and let go of the model."""
        self._closed = True
        self._session = None
        self._run_options.terminate = True
        self._watchdog.close()

    def __del__(self) -> None:
        if hasattr(self, "_run_options"):
            self.close()

    def _explain(self, exc: Exception, watch: Watch | None) -> InferError:
        name = self._metadata.name
        error = run_error(exc, name, has_text=bool(self._text_inputs or self._text_outputs))
        stopped: InferError
        if watch is not None and watch.fired:
            stopped = DeadlineExceeded(
                f"the deadline passed while the model {name!r} was running; give a larger timeout"
            )
        elif self._closed:
            stopped = ModelClosed(f"the model {name!r} was closed while it was running")
        else:
            return error
        stopped.__cause__ = error.__cause__
        return stopped

    def _reopen(self) -> Any:
        """The session of a forked child, made by its first call."""
        with self._opening:
            if self._closed:
                raise ModelClosed(f"the model {self._metadata.name!r} is closed: open it again")
            if self._session is None:
                if self._metadata.platform != CPU:
                    raise UnsupportedOperation(
                        f"a CUDA session does not survive a fork, and {self._metadata.name!r} has "
                        "one: open the model in the child, and start it with 'spawn'",
                        unprocessed=True,
                    )
                if self._spec.require_file() != self._state:
                    raise ModelNotFound(
                        f"the file of {self._spec.location!r} has changed since it was opened: "
                        "open it again"
                    )
                self._session = make_session(
                    self._runtime, replace(self._spec, device=Device("cpu"))
                )
            return self._session

    def after_fork_in_child(self) -> None:
        """Drop the parent's session without destroying it."""
        if self._session is not None:
            never_destroy(self._session)
            self._session = None
        self._start_afresh()


def _names_of_text(tensors: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in tensors if tensor.dtype is DataType.BYTES)


_LIVE: weakref.WeakSet[OnnxBackend] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    if "onnxruntime" in sys.modules:
        skip_exit_handlers_of_c()
    for backend in list(_LIVE):
        backend.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
