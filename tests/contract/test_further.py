"""The built-in backends that stream, and keep sequences, keep what the contract says of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from infer_backends import DataType, TensorSpec
from infer_backends.testing import FakeModels, SequenceContract, StreamingContract
from infer_backends_triton._local import LocalTriton


class TestStreamsOfFakes(StreamingContract):
    @pytest.fixture
    def reference_url(self, fake_model: FakeModels) -> Callable[[str], str]:
        number = TensorSpec("number", DataType.INT32, (1,))
        fake_model(
            "counting", [number], [replace(number, name="index")], compute=count, decoupled=True
        )
        return "fake:{}".format


def count(arrays: Mapping[str, Any]) -> Iterator[Any]:
    for index in range(int(arrays["number"][0])):
        yield [index]


class TestSequencesOfFakes(SequenceContract):
    @pytest.fixture
    def reference_url(self, fake_model: FakeModels) -> Callable[[str], str]:
        number = TensorSpec("number", DataType.INT32, (1,))
        fake_model("adding", [number], [replace(number, name="sum")], compute=add, stateful=True)
        return "fake:{}".format


def add(arrays: Mapping[str, Any], state: dict[str, Any]) -> Any:
    state["sum"] = state.get("sum", 0) + arrays["number"]
    return state["sum"]


class TestStreamsOverGRPC(StreamingContract):
    @pytest.fixture
    def reference_url(self, triton: LocalTriton) -> Callable[[str], str]:
        return lambda name: f"{triton.grpc_url}/decoupled"


class TestSequencesOverHTTP(SequenceContract):
    @pytest.fixture
    def reference_url(self, triton: LocalTriton) -> Callable[[str], str]:
        return lambda name: f"{triton.http_url}/accumulator"


class TestSequencesOverGRPC(SequenceContract):
    @pytest.fixture
    def reference_url(self, triton: LocalTriton) -> Callable[[str], str]:
        return lambda name: f"{triton.grpc_url}/accumulator"
