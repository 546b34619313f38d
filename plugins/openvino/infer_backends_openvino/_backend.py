"""The backend: compiles a model, runs it, and stops it at deadlines."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any

from infer_backends.plugin import (
    Array,
    Deadline,
    DeadlineExceeded,
    InferError,
    InferRequest,
    InferResponse,
    ModelClosed,
    ModelMetadata,
    ModelURL,
    OpenOptions,
)
from infer_backends_openvino._devices import require_devices
from infer_backends_openvino._errors import compile_error, input_error, run_error
from infer_backends_openvino._exchange import input_maker, own_array
from infer_backends_openvino._metadata import read_metadata
from infer_backends_openvino._reading import read_model
from infer_backends_openvino._requests import Requests
from infer_backends_openvino._runtime import RUNTIME
from infer_backends_openvino._settings import Settings

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def open_backend(url: ModelURL, options: OpenOptions) -> OpenVINOBackend:
    """Open the model file that ``url`` names; see the plugin's hook."""
    settings = Settings.from_options(url, options)
    runtime, core = RUNTIME.start()
    options.deadline.require("loading the model")
    require_devices(core, settings.device, settings.file.location)
    model = read_model(runtime, core, settings.file)
    metadata = read_metadata(model, settings)
    settings.require_cache()
    options.deadline.require("compiling the model")
    return OpenVINOBackend(runtime, model, metadata, settings)


def tell_metadata(url: ModelURL, options: OpenOptions) -> ModelMetadata:
    """The metadata of a model that is not compiled; see the plugin's hook.

    It is read by OpenVINO, as it is when the model is opened: reading takes a small part of the
    time of compiling.
    """
    settings = Settings.from_options(url, options)
    runtime, core = RUNTIME.start()
    options.deadline.require("reading what the model is")
    require_devices(core, settings.device, settings.file.location)
    return read_metadata(read_model(runtime, core, settings.file), settings)


class OpenVINOBackend:
    """A model in this process, run by OpenVINO. Safe for threads; not usable after a fork."""

    def __init__(
        self,
        runtime: ModuleType,
        model: Any,
        metadata: ModelMetadata,
        settings: Settings,
    ) -> None:
        file = settings.file
        try:
            compiled = RUNTIME.compile(model, settings.device, settings.properties())
        except Exception as exc:
            raise compile_error(exc, file, settings.device, runtime.__version__) from exc
        self._metadata = metadata
        self._url = settings.url
        self._inputs = [
            (index, spec.name, input_maker(runtime, spec))
            for index, spec in enumerate(metadata.inputs)
        ]
        self._outputs = {spec.name: (index, spec) for index, spec in enumerate(metadata.outputs)}
        stateful = bool(model.get_variables())
        self._requests = Requests(compiled, metadata.name, stateful=stateful)
        _LIVE.add(self)

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself."""
        return self._metadata

    def ready(self, deadline: Deadline) -> bool:  # noqa: ARG002  # nothing here takes time
        """Whether the model is open, and this is not a forked child."""
        return not self._requests.closed and not RUNTIME.forked

    def describe(self, deadline: Deadline) -> ModelMetadata:  # noqa: ARG002  # as for ready
        """What the model says of itself: what it said when it was opened."""
        if self._requests.closed:
            raise ModelClosed(f"the model {self._metadata.name!r} is closed: open it again")
        return self._metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """Run the model; see :class:`infer_backends.plugin.Backend`.

        Raises:
            DeadlineExceeded: The deadline has passed before the run; or during it, if the caller
                set it explicitly (then the run ends after the operator that is running).
            InvalidInput: An input has integers that do not fit in 32 bits, or OpenVINO refuses it.
            InferenceFailed: An operator failed.
            ModelClosed: The model was closed, before or meanwhile.
            UnsupportedOperation: This is a forked child.
        """
        remaining = request.deadline.require("running the model")
        tensors = [(index, make(request.inputs[name])) for index, name, make in self._inputs]
        lent, done = self._requests.take(), False
        try:
            self._set_inputs(lent, tensors)
            self._run(lent, remaining if request.deadline.explicit else None)
            outputs = self._collect(lent, request.outputs)
            done = True
        finally:
            if done:
                self._requests.give_back(lent)
            else:
                self._requests.leave(lent, request.inputs)
        return InferResponse(outputs, "", _NOTHING, self._url)

    def _set_inputs(self, lent: Any, tensors: list[tuple[int, Any]]) -> None:
        index = 0
        try:
            for index, tensor in tensors:
                lent.set_input_tensor(index, tensor)
        except Exception as exc:
            name = self._metadata.inputs[index].name
            raise input_error(exc, name, self._metadata.name) from exc

    def _run(self, lent: Any, seconds: float | None) -> None:
        """Run a request to its end; or for so many seconds, and then leave it running."""
        error: InferError | None = None
        done = True
        try:
            if seconds is None:
                lent.infer(share_outputs=True)
            else:
                done = self._requests.run_until(lent, time.monotonic() + seconds)
        except Exception as exc:  # noqa: BLE001  # none of OpenVINO's may escape
            error = run_error(exc, self._metadata.name)
        # Raised here, where nothing that quotes a tensor hangs on to it as its context.
        if self._requests.closed and (error is not None or not done):
            closed = ModelClosed(
                f"the model {self._metadata.name!r} was closed while it was running"
            )
            raise closed from error
        if error is not None:
            raise error
        if not done:
            raise DeadlineExceeded(
                f"the deadline passed while the model {self._metadata.name!r} was running; give a "
                "larger timeout"
            )

    def _collect(self, lent: Any, wanted: tuple[str, ...] | None) -> dict[str, Array]:
        outputs: dict[str, Array] = {}
        for name in self._outputs if wanted is None else wanted:
            index, spec = self._outputs[name]
            outputs[name] = own_array(lent.get_output_tensor(index), spec)
        return outputs

    def close(self) -> None:
        """Stop the calls in flight, after the operator each is in, and let go of the model."""
        self._requests.close()

    def __del__(self) -> None:
        if hasattr(self, "_requests"):
            self.close()

    def after_fork_in_child(self) -> None:
        """Leave what belongs to the parent as it is, for ever."""
        self._requests.never_destroy()


_LIVE: weakref.WeakSet[OpenVINOBackend] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for backend in list(_LIVE):
        backend.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
