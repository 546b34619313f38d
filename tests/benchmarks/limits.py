"""The least that a call can take: clients by hand, that do nothing but carry the bytes.

Nobody would call a model so: there are no checks, no deadline and no errors, one connection serves
one caller, and the request is made before the clock runs. They show what the kernel, grpcio and
the server leave for a client to lose.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence

import numpy as np

from tests.benchmarks.models import Array

_PIECE = 65536  # bytes of an answer that are taken with its head


def http_head(address: str, model: str, array: Array) -> bytes:
    """What goes before the tensor's own bytes in a request for ``model``."""
    tensor = {
        "name": "INPUT",
        "shape": list(array.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": array.nbytes},
    }
    output = {"name": "OUTPUT", "parameters": {"binary_data": True}}
    text = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    lines = (
        f"POST /v2/models/{model}/infer HTTP/1.1",
        f"Host: {address}",
        f"Inference-Header-Content-Length: {len(text)}",
        f"Content-Length: {len(text) + array.nbytes}",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + text


def answer_sizes(head: bytes) -> tuple[int, int]:
    """The bytes of an answer's JSON text, and those of the tensor behind it."""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    text = int(fields[b"inference-header-content-length"])
    return text, int(fields[b"content-length"]) - text


class BareSocket:
    """One blocking socket: ``sendmsg`` of a prepared head and the array, and ``recv_into``."""

    def __init__(self, address: str, model: str) -> None:
        host, _, port = address.partition(":")
        self._sock = socket.create_connection((host, int(port)))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._address, self._model = address, model
        self._buffer = bytearray(_PIECE)
        self._first = memoryview(self._buffer)
        self._array: Array | None = None
        self._request: Sequence[bytes | memoryview] = ()

    def __call__(self, array: Array) -> Array:
        if array is not self._array:
            head = http_head(self._address, self._model, array)
            self._array, self._request = array, (head, array.data.cast("B"))
        self._sock.sendmsg(self._request)
        received, end = 0, -1
        while end < 0:
            received += self._more(self._first[received:])
            end = self._buffer.find(b"\r\n\r\n", 0, received)
        text, size = answer_sizes(bytes(self._first[:end]))
        start = end + 4 + text
        while received < start:
            received += self._more(self._first[received:])
        answer = np.empty(size // 4, np.float32)
        view = answer.data.cast("B")
        taken = received - start
        view[:taken] = self._first[start:received]
        if taken < size:
            self._sock.recv_into(view[taken:], size - taken, socket.MSG_WAITALL)
        return answer

    def _more(self, view: memoryview) -> int:
        got = self._sock.recv_into(view)
        if not got:
            raise ConnectionError("the server closed the connection")
        return got


def grpc_request(model: str, array: Array) -> bytes:
    """The message for ``model``: its fields but the tensor, and the tensor at the end."""
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    message = ModelInferRequest(model_name=model)
    message.inputs.add(name="INPUT", datatype="FP32", shape=array.shape)
    message.raw_input_contents.append(array.tobytes())
    serialized: bytes = message.SerializeToString()
    return serialized


def tensor_of(answer: bytes, model: str, array: Array) -> Array:
    """The tensor at the end of an answer, where it stays: one that is read only."""
    size = array.nbytes if model == "echo" else struct.calcsize("f")
    return np.frombuffer(answer, np.float32, offset=len(answer) - size)


class BareGRPC:
    """One channel: a generic call with bytes made before, whose answer stays bytes."""

    def __init__(self, address: str, model: str) -> None:
        import grpc

        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options=unlimited)
        self._infer = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", None, None
        )
        self._model = model
        self._array: Array | None = None
        self._request = b""

    def __call__(self, array: Array) -> Array:
        if array is not self._array:
            self._array, self._request = array, grpc_request(self._model, array)
        answer: bytes = self._infer(self._request)
        return tensor_of(answer, self._model, array)
