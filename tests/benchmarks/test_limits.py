"""What the limits send, and how they read what comes back."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.limits import answer_sizes, grpc_request, http_head, tensor_of
from tests.benchmarks.models import array_of


def test_the_head_of_a_request_counts_the_bytes_behind_it() -> None:
    array = array_of(16)
    head, _, text = http_head("127.0.0.1:8000", "echo", array).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/echo/infer HTTP/1.1\r\n")
    assert f"Inference-Header-Content-Length: {len(text)}\r\n".encode() in head
    assert head.endswith(f"Content-Length: {len(text) + array.nbytes}".encode())


def test_the_sizes_of_an_answer_are_read_from_its_head() -> None:
    lines = b"HTTP/1.1 200 OK", b"Inference-Header-Content-Length: 20", b"Content-Length: 36"
    assert answer_sizes(b"\r\n".join(lines)) == (20, 16)


def test_the_tensor_is_at_the_end_of_a_message() -> None:
    array = array_of(64)
    message = grpc_request("echo", array)
    assert np.array_equal(tensor_of(message, "echo", array), array)
    assert np.array_equal(tensor_of(message, "reduce", array), array[-1:])
