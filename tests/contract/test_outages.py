"""The clients of servers during an outage: what the contract says of it, through a proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import pytest

from infer_backends.testing._of_members import MembersContract
from infer_backends_triton._local import LocalTriton
from tests.faults.proxy import FaultProxy
from tests.servers.mlserver import MLServer

Away = Callable[[], AbstractContextManager[None]]


class OutageContract(MembersContract):
    """The tests that concern other members and outages; a subclass says where the server is."""

    @pytest.fixture(params=["refuse", "vanish"])
    def outage(self, request: pytest.FixtureRequest, proxy: FaultProxy) -> Away:
        how: Literal["refuse", "vanish"] = request.param

        @contextmanager
        def away() -> Iterator[None]:
            getattr(proxy, how)()
            try:
                yield
            finally:
                proxy.restore()

        return away


@contextmanager
def proxy_of(port: int) -> Iterator[FaultProxy]:
    proxy = FaultProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


class TestTritonHTTP(OutageContract):
    @pytest.fixture
    def proxy(self, reference_triton: LocalTriton) -> Iterator[FaultProxy]:
        with proxy_of(reference_triton.ports.http) as proxy:
            yield proxy

    @pytest.fixture
    def reference_url(self, proxy: FaultProxy) -> Callable[[str], str]:
        return lambda name: f"http://127.0.0.1:{proxy.port}/{name}"


class TestTritonGRPC(OutageContract):
    @pytest.fixture
    def proxy(self, reference_triton: LocalTriton) -> Iterator[FaultProxy]:
        with proxy_of(reference_triton.ports.grpc) as proxy:
            yield proxy

    @pytest.fixture
    def reference_url(self, proxy: FaultProxy) -> Callable[[str], str]:
        return lambda name: f"grpc://127.0.0.1:{proxy.port}/{name}"


class TestMLServerHTTP(OutageContract):
    @pytest.fixture
    def proxy(self, mlserver: MLServer) -> Iterator[FaultProxy]:
        with proxy_of(mlserver.http_port) as proxy:
            yield proxy

    @pytest.fixture
    def reference_url(self, proxy: FaultProxy) -> Callable[[str], str]:
        return lambda name: f"http://127.0.0.1:{proxy.port}/{name}"
