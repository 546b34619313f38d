"""A model of Triton's Python backend that runs an ONNX file with onnxruntime on the CPU.

Copied beside a ``source.json`` into each model's version folder; runs inside the server.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
from onnxruntime.capi import onnxruntime_pybind11_state

_STATUS = "Status Message: "
_NUMBER = re.compile(r"\d(?:[\d.,]*\d)?(?:[eE][+-]?\d+)?")


class TritonPythonModel:
    """The class that the Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the file that ``source.json`` names."""
        folder = Path(args["model_repository"], args["model_version"])
        source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = source["threads"]
        # Threads that wait actively would take the processor from the server and from the client.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            source["path"], options, providers=["CPUExecutionProvider"]
        )
        self.inputs = self.session.get_inputs()
        nodes = [*self.inputs, *self.session.get_outputs()]
        self.has_text = any(node.type == "tensor(string)" for node in nodes)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself: its shapes need not be those of the others."""
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        """Answer one request."""
        try:
            feeds = {node.name: self.feed(request, node) for node in self.inputs}
            names = list(request.requested_output_names())
            results = self.session.run(names, feeds)
        except UnicodeError:
            # onnxruntime's, of an output; what it says shows the bytes.
            text = "a string that the model gave is not UTF-8"
            return self.error(RuntimeError(text), pb_utils.TritonError.INTERNAL)
        except (ValueError, onnxruntime_pybind11_state.InvalidArgument) as exc:
            return self.error(exc, pb_utils.TritonError.INVALID_ARG)
        except Exception as exc:  # noqa: BLE001 - onnxruntime's classes have no common base of their own
            return self.error(exc, pb_utils.TritonError.INTERNAL)
        outputs = zip(names, results, strict=True)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, _encode(value)) for name, value in outputs]
        )

    def feed(self, request: Any, node: Any) -> Any:
        """The array that onnxruntime takes for one input."""
        value = pb_utils.get_input_tensor_by_name(request, node.name).as_numpy()
        if node.type == "tensor(string)":
            value = _decode(node.name, value)
        # Triton has no tensors of rank 0.
        return value.reshape(()) if not node.shape and value.size == 1 else value

    def error(self, exc: Exception, code: int) -> Any:
        """The answer that says what went wrong."""
        text = without_contents(str(exc), has_text=self.has_text)
        return pb_utils.InferenceResponse([], pb_utils.TritonError(text, code))


def without_contents(text: str, *, has_text: bool) -> str:
    """What onnxruntime says of a failure, without what the tensors hold.

    Of what an operator says the numbers are blotted out; with strings about, it is left out.
    """
    where, status, account = text.rpartition(_STATUS)
    if not status:
        return text
    if has_text:
        account = "(its account may quote strings, and is left out)"
    return where + status + _NUMBER.sub("#", account)


def _decode(name: str, value: Any) -> Any:
    """Triton's bytes as text: onnxruntime would take the bytes' repr, silently."""
    texts = np.empty(value.shape, dtype=object)
    try:
        for index, item in enumerate(value.flat):
            texts.flat[index] = item.decode("utf-8")
    except UnicodeDecodeError:
        # Not chained: that exception shows the bytes.
        raise ValueError(f"input {name!r} has a string that is not UTF-8") from None
    return texts


def _encode(value: Any) -> Any:
    """An output as the Python backend takes it."""
    value = np.asarray(value)
    if value.dtype.kind in "OU":
        texts, value = value, np.empty(value.shape, dtype=object)
        for index, item in enumerate(texts.flat):
            value.flat[index] = item.encode("utf-8")
    return np.ascontiguousarray(value.reshape(1) if value.ndim == 0 else value)
