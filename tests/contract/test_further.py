"""The built-in backends that stream, and keep sequences, keep what the contract says of that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from infer_backends.testing import SequenceContract, StreamingContract
from infer_backends_triton._local import LocalTriton


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
