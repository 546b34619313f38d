"""One real Triton for all these tests, made right again after each, and nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import infer_backends as ib
from infer_backends_triton import _regions
from tests.conftest import Protocol
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.faults.servers import Server, wait_until, write_onnx

#: What gRPC waits with. It makes and drops them when it likes, with its first server for one.
_OF_GRPC = frozenset({"anon_inode:[eventpoll]", "anon_inode:[eventfd]"})

OpenPair = Callable[..., ib.Model]


def _descriptors() -> dict[int, str]:
    """What this process has open, by number."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        # One of them listed the folder.
        with contextlib.suppress(FileNotFoundError):
            found[int(entry.name)] = str(entry.readlink())
    return found


class _Belongings:
    """What this process has now, apart from what belongs to the server of the tests."""

    def __init__(self, server: Server) -> None:
        gc.collect()
        self.threads = {thread.name: thread for thread in threading.enumerate()}
        own = server.descriptors()
        self.descriptors = {
            f"{number}: {target}"
            for number, target in _descriptors().items()
            if number not in own and target not in _OF_GRPC
        }
        self.children = {child.pid for child in psutil.Process().children()} - server.children()
        self.regions = {path.name for path in _regions.FOLDER.glob(f"{_regions.PREFIX}*")}

    def more_than(self, before: _Belongings) -> list[str]:
        return [
            *(f"thread {name}" for name in self.threads.keys() - before.threads.keys()),
            *(f"descriptor {text}" for text in self.descriptors - before.descriptors),
            *(f"process {pid}" for pid in self.children - before.children),
            *(f"region {name}" for name in self.regions - before.regions),
        ]


@pytest.fixture(scope="session")
def own_regions() -> Iterator[None]:
    """The names of our shared memory begin as no one else's: others run on this machine too."""
    patch = pytest.MonkeyPatch()
    patch.setattr(_regions, "PREFIX", f"infer_backends_faults_{os.urandom(4).hex()}_")
    yield
    patch.undo()


@pytest.fixture(scope="session")
def local_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a file for onnxruntime."""
    return write_onnx(tmp_path_factory.mktemp("local") / "m.onnx")


@pytest.fixture(scope="session")
def shared_server(
    tmp_path_factory: pytest.TempPathFactory,
    triton_environment: Path,
    local_file: Path,
    own_regions: None,
) -> Iterator[Server]:
    """The server; tests ask for ``server``."""
    server = Server(tmp_path_factory.mktemp("faults") / "models", triton_environment)
    server.start()
    try:
        # What the runtimes keep from their first use on is no leak of a test.
        for url in (server.url("http"), server.url("grpc"), f"onnx:{local_file}"):
            with ib.open_model(url) as model:
                model([1.0])
        yield server
    finally:
        server.end()


@pytest.fixture(autouse=True)
def nothing_left(shared_server: Server) -> Iterator[None]:
    """No test leaves a thread, a descriptor, a process or a region behind."""
    before = _Belongings(shared_server)
    yield
    left: list[str] = []

    def nothing() -> bool:
        left[:] = _Belongings(shared_server).more_than(before)
        return not left

    try:
        wait_until(nothing, within=10)
    except AssertionError:
        pytest.fail(f"left behind: {', '.join(sorted(left))}")


@pytest.fixture
def server(shared_server: Server, nothing_left: None) -> Iterator[Server]:
    """The server: it runs, and is made right after the test."""
    yield shared_server
    shared_server.make_right()


@pytest.fixture
def local_url(local_file: Path) -> str:
    """The URL of the second member."""
    return f"onnx:{local_file}"


@pytest.fixture
def open_pair(local_url: str, nothing_left: None) -> Iterator[OpenPair]:
    """``open_pair(url, **options)``: that URL first, the local model second; closed at the end.

    Probes follow each other quickly, so that tests need not wait long for a recovery.
    """
    opened: list[ib.Model] = []

    def open_it(*urls: str, probe_period: float = 0.2, **options: Any) -> ib.Model:
        model = ib.open_model([*urls, local_url], probe_period=probe_period, **options)
        opened.append(model)
        return model

    yield open_it
    for model in opened:
        model.close()


@pytest.fixture
def proxy(server: Server, protocol: Protocol) -> Iterator[FaultProxy]:
    """What stands between us and the server."""
    with fault_proxy(server.port(protocol)) as made:
        yield made


@pytest.fixture
def url(proxy: FaultProxy, protocol: Protocol) -> str:
    """The URL of the server, by way of the proxy; tensors travel inline."""
    return f"{protocol}://127.0.0.1:{proxy.port}/m?shared_memory=off"
