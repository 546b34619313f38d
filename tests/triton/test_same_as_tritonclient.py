"""The same arrays, by tritonclient and by this library, come back the same to the bit."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np
import pytest

from infer_backends import DataType, open_model
from infer_backends.plugin import Array
from infer_backends_triton import LocalTriton

TEXTS = [b"", b"\0", b"a\0b\0", "naïve 🦜".encode(), b"\xff\xfe", b"x" * 70_000]
EDGES = {
    2: [0x7C01, 0x7E5A, 0x7F81, 0x8000, 0x0001, 0xFFFF],
    4: [0x7F800001, 0x7FC12345, 0xFFBFFFFF, 0x80000000, 0x00000001, 0x7F800000],
    8: [1 << 63, 0x7FF0000000000001, 0x7FF8DEADBEEF0001, 1, 0x7FF << 52, (1 << 64) - 1],
}


class Answer(NamedTuple):
    """What came back, as it can be compared to the bit."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    elements: object

    @classmethod
    def of(cls, array: Array) -> Answer:
        elements = array.tolist() if array.dtype == object else array.tobytes()
        return cls(array.dtype, array.shape, elements)


def values(dtype: DataType) -> Array:
    """A 2 x n array: NaNs with payloads, zeros with signs, and elements drawn at random."""
    if dtype is DataType.BYTES:
        return np.array(TEXTS, object).reshape(2, 3)
    if dtype is DataType.BOOL:
        return np.array([[True, False, True], [False, False, True]])
    target: np.dtype[Any] = dtype.numpy_dtype
    bits = np.dtype(f"u{target.itemsize}")
    drawn = np.random.default_rng(1).integers(0, 1 << 8 * bits.itemsize, 94, bits)
    edges = EDGES.get(bits.itemsize, [0, 1, 127, 128, 254, 255])
    return np.concatenate([np.array(edges, bits), drawn]).view(target).reshape(2, -1)


def by_tritonclient(protocol: str, server: LocalTriton, dtype: DataType, array: Array) -> Array:
    module = importlib.import_module(f"tritonclient.{protocol}")
    url = server.http_url if protocol == "http" else server.grpc_url
    tensor = module.InferInput("INPUT", list(array.shape), dtype.value)
    tensor.set_data_from_numpy(array)
    with module.InferenceServerClient(url.split("//")[1].rstrip("/")) as client:
        result = client.infer(f"identity_{dtype.value.lower()}", [tensor]).as_numpy("OUTPUT")
    answer: Array = result
    return answer


def by_this_library(protocol: str, server: LocalTriton, dtype: DataType, array: Array) -> Array:
    url = server.http_url if protocol == "http" else server.grpc_url
    name = f"{url.rstrip('/')}/identity_{dtype.value.lower()}"
    with open_model(name, shared_memory="off") as model:
        output: Array = model(array)
    return output


@pytest.mark.parametrize("rows", [2, 0], ids=["", "empty"])
@pytest.mark.parametrize("dtype", list(DataType), ids=str)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_answers_are_those_of_tritonclient_to_the_bit(
    triton: LocalTriton, protocol: str, dtype: DataType, rows: int
) -> None:
    array = values(dtype)[:rows]
    expected = Answer.of(by_tritonclient(protocol, triton, dtype, array))
    assert Answer.of(by_this_library(protocol, triton, dtype, array)) == expected
    # An identity: so neither of them may have changed what was sent.
    assert expected == Answer.of(array)
