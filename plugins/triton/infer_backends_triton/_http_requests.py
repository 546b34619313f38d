"""Requests of the Open Inference Protocol over HTTP: a head, a JSON object, the tensors. Pure.

With the server's binary tensor data extension the bytes of the tensors follow the object, in its
order, and ``Inference-Header-Content-Length`` says where they begin. They are views of the
callers' arrays, where those are laid out as the wire has them. Without the extension, tensors are
lists in the object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from infer_backends.plugin import InferRequest, InvalidInput, ModelMetadata, ParameterValue
from infer_backends_triton._call_options import ranks
from infer_backends_triton._codec import encode, to_json
from infer_backends_triton._http_messages import HEADER_LENGTH

# Callers mostly send the same shapes again.
_KNOWN_BEGINNINGS = 64
_NO_PARAMETERS: Mapping[str, ParameterValue] = {}

# Of each input: its name, its shape, and the length of its bytes.
_Tensors = tuple[tuple[str, tuple[int, ...], int], ...]


class RequestWriter:
    """Writes the requests to one model. What they have in common is worked out once.

    Args:
        metadata: The model's metadata.
        head: The lines of a request's head but for those that describe its body.
        binary: Whether the server takes tensors as bytes.
    """

    def __init__(self, metadata: ModelMetadata, head: bytes, *, binary: bool) -> None:
        self._dtypes = {spec.name: spec.dtype for spec in metadata.inputs}
        self._outputs = tuple(spec.name for spec in metadata.outputs)
        self._head = head
        self._binary = binary
        self._known_beginning = lru_cache(_KNOWN_BEGINNINGS)(self._usual_beginning)

    def write(self, request: InferRequest, head: bytes | None = None) -> list[bytes | memoryview]:
        """The pieces of one request, in order; none of them empty.

        Args:
            request: What is asked. Its arrays must not change while the pieces are in use.
            head: The lines of the head, if not the usual ones.

        Raises:
            InvalidInput: A parameter or the request's id cannot be sent.
            UnsupportedOperation: JSON cannot carry one of the inputs.
        """
        if not self._binary:
            return [self._in_json(request, self._head if head is None else head)]
        pieces: list[bytes | memoryview] = [b""]
        described = []
        for name, array in request.inputs.items():
            raw = encode(array, self._dtypes[name])
            size = len(raw)
            described.append((name, array.shape, size))
            if size:
                pieces.append(raw)
        tensors = tuple(described)
        top_k = 0 if request.options is None else ranks(request)
        if head is None and not request.request_id and not request.parameters and not top_k:
            pieces[0] = self._known_beginning(tensors, request.outputs)
        else:
            pieces[0] = self._beginning(
                self._head if head is None else head,
                tensors,
                request.outputs or self._outputs if top_k else request.outputs,
                request.request_id,
                request.parameters,
                top_k,
            )
        return pieces

    def _usual_beginning(self, tensors: _Tensors, outputs: tuple[str, ...] | None) -> bytes:
        return self._beginning(self._head, tensors, outputs, "", _NO_PARAMETERS)

    def _beginning(
        self,
        head: bytes,
        tensors: _Tensors,
        outputs: tuple[str, ...] | None,
        request_id: str,
        parameters: Mapping[str, ParameterValue],
        top_k: int = 0,
    ) -> bytes:
        """All of a request but the bytes of its tensors, which follow."""
        message: dict[str, Any] = {"id": request_id} if request_id else {}
        if outputs is not None:
            wanted = {"binary_data": True, **ranked(top_k)}
            message["outputs"] = [{"name": name, "parameters": wanted} for name in outputs]
        else:
            if "binary_data_output" in parameters:
                raise InvalidInput(
                    "the parameter 'binary_data_output' is not for callers: remove it"
                )
            parameters = {**parameters, "binary_data_output": True}
        if parameters:
            message["parameters"] = dict(parameters)
        message["inputs"] = [
            {
                "name": name,
                "shape": shape,
                "datatype": self._dtypes[name].value,
                "parameters": {"binary_data_size": size},
            }
            for name, shape, size in tensors
        ]
        return begin_request(head, message, sum(size for _, _, size in tensors))

    def _in_json(self, request: InferRequest, head: bytes) -> bytes:
        """A whole request, whose tensors are in the JSON object."""
        message: dict[str, Any] = {"id": request.request_id} if request.request_id else {}
        top_k = ranks(request)
        if top_k:
            outputs = request.outputs or self._outputs
            wanted = ranked(top_k)
            message["outputs"] = [{"name": name, "parameters": wanted} for name in outputs]
        elif request.outputs is not None:
            message["outputs"] = [{"name": name} for name in request.outputs]
        if request.parameters:
            message["parameters"] = dict(request.parameters)
        message["inputs"] = [
            {
                "name": name,
                "shape": array.shape,
                "datatype": self._dtypes[name].value,
                "data": to_json(array, self._dtypes[name], name),
            }
            for name, array in request.inputs.items()
        ]
        return begin_request(head, message, None)


def ranked(top_k: int) -> dict[str, Any]:
    """The parameters of an output, only so many elements of which are asked for; 0 for all."""
    return {"classification": top_k} if top_k else {}


def begin_request(head: bytes, message: Mapping[str, Any], tensors: int | None) -> bytes:
    """All of a request but the bytes of its tensors.

    Args:
        head: The lines of the head but for those that describe the body.
        message: The JSON object.
        tensors: How many bytes of tensors follow; None where tensors are in the JSON object.

    Raises:
        InvalidInput: The object has something that JSON cannot carry.
    """
    text = _dump(message)
    lines = [b"%bcontent-length: %d" % (head, len(text) + (tensors or 0))]
    if tensors is None:
        lines.append(b"content-type: application/json")
    else:
        lines.append(b"content-type: application/octet-stream")
        lines.append(b"%b: %d" % (HEADER_LENGTH.encode(), len(text)))
    return b"\r\n".join([*lines, b"", text])


def _dump(header: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(header, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError) as exc:
        # Not chained: a UnicodeError keeps the whole text, tensors included.
        raise InvalidInput(
            "the request's id or one of its parameters cannot be sent: expected text in Unicode, "
            "finite numbers, and booleans"
        ) from ValueError(type(exc).__name__)
