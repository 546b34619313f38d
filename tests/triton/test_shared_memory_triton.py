"""Shared memory with a real Triton, over both protocols, in good times and bad."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    DeadlineExceeded,
    InferError,
    InferResult,
    Model,
    UnsupportedOperation,
    open_model,
)
from infer_backends.plugin import Deadline
from infer_backends_triton import _regions, _shared_memory
from infer_backends_triton._local import LocalTriton
from infer_backends_triton._region_pool import RegionPool
from infer_backends_triton._regions import Region
from infer_backends_triton._shared_memory import SharedMemory
from tests.conftest import Protocol
from tests.servers.repository import write_repository

pytestmark = pytest.mark.usefixtures("prefix")

URL = Callable[..., str]
LARGE = 200_000
KEPT: list[Model] = []


@contextmanager
def opened(url: str, mode: str = "system") -> Iterator[Model]:
    with open_model(url, shared_memory=mode) as model:
        yield model


def memory_of(model: Model) -> SharedMemory:
    memory: Any = model._backend
    while not hasattr(memory, "_memory"):
        memory = memory._member if hasattr(memory, "_member") else memory._backend
    found: SharedMemory = memory._memory
    return found


def pool_of(model: Model) -> RegionPool:
    return memory_of(model)._pool


def files(prefix: str) -> set[str]:
    return {path.name for path in _regions.FOLDER.glob(f"{prefix}*")}


def registered(triton: LocalTriton, prefix: str) -> set[str]:
    """What the server has, seen by a client that has nothing to do with it."""
    with open_model(f"{triton.grpc_url}/identity_1d") as model:
        names = memory_of(model)._pool._server.registered(Deadline.after(10))
        return {name for name in names if name.startswith(prefix)}


def numbers(seed: int, count: int = LARGE) -> Any:
    return np.random.default_rng(seed).normal(size=count).astype(np.float32)


def until(true: Callable[[], bool], timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def own_triton(tmp_path: Path, triton_environment: Path) -> Iterator[LocalTriton]:
    """A server that the test may stop."""
    models = write_repository(tmp_path / "models", only={"identity_1d", "delayed"})
    arguments = ["--disable-auto-complete-config"]
    with LocalTriton(
        models, environment=triton_environment, arguments=arguments, startup_timeout=120
    ) as server:
        yield server


def url_of(triton: LocalTriton, protocol: Protocol, model: str = "identity_1d") -> str:
    return f"{triton.http_url if protocol == 'http' else triton.grpc_url}/{model}"


def test_large_tensors_go_by_regions_registered_once_and_come_back_as_they_went(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    with opened(url_of(triton, protocol), "auto") as model:
        for seed in range(6):
            x = numbers(seed)
            y = model(x)
            assert y.tobytes() == x.tobytes()
            assert y.flags.writeable
            y[:] = 0
        # One for the first call, whose output's size was not known; one for all that followed.
        assert files(prefix) == registered(triton, prefix)
        assert len(files(prefix)) == 2
        assert not pool_of(model)._busy
    assert files(prefix) == set()
    assert registered(triton, prefix) == set()


def test_metadata_and_small_calls_do_not_pay(
    triton: LocalTriton, protocol: Protocol, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Region, "create", None)
    with opened(url_of(triton, protocol)) as model:
        assert model.metadata.name == "identity_1d"
        small = numbers(1, _shared_memory.THRESHOLD // 4 - 1)
        assert model(small).tobytes() == small.tobytes()
    assert files(prefix) == set()


def test_switched_off_it_is_not_used(
    triton: LocalTriton, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Region, "create", None)
    with opened(url_of(triton, protocol), "off") as model:
        x = numbers(1)
        assert model(x).tobytes() == x.tobytes()


def test_some_tensors_may_be_large_and_others_not(
    triton: LocalTriton, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shared_memory, "THRESHOLD", 64)
    with opened(url_of(triton, protocol, "delayed")) as model:
        seconds = np.zeros(1, np.float32)
        for seed in range(3):
            x = numbers(seed, 1000)
            result = model.infer({"INPUT": x, "SECONDS": seconds}, request_id="r1")
            assert result["OUTPUT"].tobytes() == x.tobytes()
            assert result.model_version == "1"
        with pytest.raises(InferError):
            model.infer({"INPUT": numbers(0), "SECONDS": seconds}, request_id="\ud800")
        x = numbers(3)
        assert model(x, seconds).tobytes() == x.tobytes()


def test_outputs_of_a_batch_and_a_choice_of_them(
    triton: LocalTriton, protocol: Protocol, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shared_memory, "THRESHOLD", 16)
    with opened(url_of(triton, protocol, "add_sub")) as model:
        b, a = np.arange(12, dtype=np.int32).reshape(3, 4), np.ones((3, 4), np.int32)
        for names in (None, ["difference", "sum"], ["difference"]):
            result = model.infer({"b": b, "a": a}, outputs=names)
            assert list(result) == (names or ["sum", "difference"])
            np.testing.assert_array_equal(result["difference"], b - a)
            if "sum" in result:
                np.testing.assert_array_equal(result["sum"], b + a)
        # Metadata says what a batch of three rows needs: all three calls fit one region.
        assert len(files(prefix)) == 1


def test_an_output_that_outgrows_its_room_comes_all_the_same(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    with opened(url_of(triton, protocol, "big")) as model:
        for count in (200_000, 200_000, 150_000, 500_000, 900_000, 3_000_000, 10, 2_999_999):
            y = model(np.array([count]))
            np.testing.assert_array_equal(y, (np.arange(count) % 251).astype(np.uint8))
        assert files(prefix) == registered(triton, prefix)
        assert len(files(prefix)) <= 3
    assert files(prefix) == registered(triton, prefix) == set()


def test_sixteen_threads_do_not_see_each_others_tensors(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    with opened(url_of(triton, protocol)) as model:

        def call(seed: int) -> bool:
            x = numbers(seed, 40_000 + 1000 * (seed % 16))
            return bool(model(x).tobytes() == x.tobytes())

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(call, range(320)))
    assert files(prefix) == registered(triton, prefix) == set()


def test_a_late_write_never_reaches_the_next_answer(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    with opened(url_of(triton, protocol, "delayed")) as model:
        seconds, none = np.full(1, 1.5, np.float32), np.zeros(1, np.float32)
        x = numbers(0)
        # Now the size of the output is known, and its region is there.
        for _ in range(2):
            model(x, none)
        regions = {name: watch(name) for name in files(prefix)}
        late = numbers(1)
        with pytest.raises(DeadlineExceeded):
            model.infer({"INPUT": late, "SECONDS": seconds}, timeout=0.5)
        answered, end = 0, time.monotonic() + 30
        while not any(has(region, late) for region in regions.values()):
            x = numbers(2 + answered)
            assert model(x, none).tobytes() == x.tobytes()
            answered += 1
            assert time.monotonic() < end
        assert answered > 1
        x = numbers(0)
        assert model(x, none).tobytes() == x.tobytes()
        # The server is done with it, and is told to forget it.
        until(lambda: tidied(pool_of(model)))
        assert registered(triton, prefix) == files(prefix)
    assert files(prefix) == registered(triton, prefix) == set()


def tidied(pool: RegionPool) -> bool:
    pool.tidy()
    return not pool._retired


def watch(name: str) -> mmap.mmap:
    descriptor = os.open(_regions.FOLDER / name, os.O_RDONLY)
    try:
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)


def has(region: mmap.mmap, x: Any) -> bool:
    """Whether the server wrote ``x`` to where the output goes."""
    return bool(region[x.nbytes : 2 * x.nbytes] == x.tobytes())


def test_a_restart_of_the_server_costs_no_call(
    own_triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    with opened(url_of(own_triton, protocol)) as model:
        x = numbers(0)
        for _ in range(2):
            assert model(x).tobytes() == x.tobytes()
        own_triton.kill()
        with pytest.raises(InferError):
            model.infer({"INPUT": x}, timeout=5)
        own_triton.start()
        for seed in range(4):
            x = numbers(seed)
            assert model(x).tobytes() == x.tobytes()
        # What lay idle is registered again when it is used.
        assert set() < registered(own_triton, prefix) <= files(prefix)
    assert files(prefix) == registered(own_triton, prefix) == set()


def test_a_server_that_dies_in_the_middle_of_a_call(
    own_triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    with opened(url_of(own_triton, protocol, "delayed")) as model:
        x, none = numbers(0), np.zeros(1, np.float32)
        model(x, none)
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(model.infer, {"INPUT": x, "SECONDS": none + 30})
            until(lambda: len(pool_of(model)._busy) == 1)
            own_triton.kill()
            with pytest.raises(InferError):
                call.result()
        own_triton.start()
        assert model(x, none).tobytes() == x.tobytes()
        assert not pool_of(model)._busy
    assert files(prefix) == registered(own_triton, prefix) == set()


def test_a_server_that_is_gone_holds_up_no_close(
    own_triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    with opened(url_of(own_triton, protocol)) as model:
        model(numbers(0))
        own_triton.kill()
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    assert files(prefix) == set()


def test_after_a_fork_child_and_parent_have_their_own(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    with opened(url_of(triton, protocol)) as model:
        x = numbers(0)
        for _ in range(2):
            model(x)
        before = files(prefix)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                same = all(model(numbers(s)).tobytes() == numbers(s).tobytes() for s in range(3))
                own = files(prefix) - before
                model.close()
                left = files(prefix)
                status = 0 if same and own and left == before else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert files(prefix) == before
        assert model(x).tobytes() == x.tobytes()
        assert registered(triton, prefix) == files(prefix) == before
    assert files(prefix) == registered(triton, prefix) == set()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_process_that_ends_leaves_nothing(
    triton: LocalTriton, protocol: Protocol, prefix: str, method: str
) -> None:
    url = url_of(triton, protocol)
    context: Any = multiprocessing.get_context(method)
    worker = context.Process(target=work, args=(url, prefix))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    assert files(prefix) == registered(triton, prefix) == set()


def work(url: str, prefix: str) -> None:
    _regions.PREFIX = prefix
    model = open_model(url, shared_memory="system")
    x = numbers(0)
    assert model(x).tobytes() == x.tobytes()
    assert len(files(prefix)) == 1
    KEPT.append(model)


@contextmanager
def owner(triton: LocalTriton, protocol: Protocol, prefix: str, what: str) -> Iterator[Any]:
    url = triton.http_url if protocol == "http" else triton.grpc_url
    command = [sys.executable, "-m", "tests.triton.region_owner", url, prefix, what]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as client:
        assert client.stdout is not None
        try:
            client.names = set(client.stdout.readline().split())  # type: ignore[attr-defined]
            yield client
        finally:
            client.kill()


@pytest.mark.parametrize("what", ["exit", "collect"])
def test_regions_go_with_their_owner(
    triton: LocalTriton, protocol: Protocol, prefix: str, what: str
) -> None:
    with owner(triton, protocol, prefix, what) as client:
        assert client.names
        if what == "exit":
            assert client.wait(30) == 0
        assert files(prefix) == registered(triton, prefix) == set()


def test_the_next_client_cleans_up_after_one_that_was_killed(
    triton: LocalTriton, protocol: Protocol, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owner(triton, protocol, prefix, "wait") as living:
        with owner(triton, protocol, prefix, "wait") as dead:
            left = dead.names - living.names
            dead.send_signal(signal.SIGKILL)
            dead.wait(30)
        assert left <= files(prefix)
        assert left <= registered(triton, prefix)
        with owner(triton, protocol, prefix, "wait") as following:
            own = following.names - living.names - left
            assert files(prefix) == registered(triton, prefix) == living.names | own


@contextmanager
def invisible() -> Iterator[None]:
    """A server that does not see this machine's shared memory, as one in a container."""
    original = Region.create

    def create(size: int) -> Region:
        region = original(size)
        region.unlink()
        return region

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Region, "create", create)
        yield


def test_a_server_that_cannot_open_a_region_is_called_inline(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    x = numbers(0)
    with invisible(), opened(url_of(triton, protocol), "auto") as model:
        for _ in range(3):
            assert model(x).tobytes() == x.tobytes()
        assert memory_of(model)._paused_until > time.monotonic() + 30
    with (
        invisible(),
        opened(url_of(triton, protocol)) as model,
        pytest.raises(UnsupportedOperation, match="Unable to open"),
    ):
        model(x)
    assert files(prefix) == registered(triton, prefix) == set()


def test_it_is_tried_again_after_a_while(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    x = numbers(0)
    with opened(url_of(triton, protocol), "auto") as model:
        with invisible():
            model(x)
        model(x)
        assert files(prefix) == set()
        memory_of(model)._paused_until = time.monotonic()
        assert model(x).tobytes() == x.tobytes()
        assert files(prefix)


def test_without_memory_calls_go_inline(
    triton: LocalTriton, protocol: Protocol, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.posix_fallocate

    def fallocate(descriptor: int, start: int, size: int) -> None:
        if size > 500_000:
            raise OSError("full")
        original(descriptor, start, size)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    small, x = numbers(0, 50_000), numbers(0)
    with opened(url_of(triton, protocol), "auto") as model:
        for _ in range(2):
            assert model(x).tobytes() == x.tobytes()
            assert files(prefix) == set()
        # What is small enough still goes its way.
        assert model(small).tobytes() == small.tobytes()
        assert files(prefix)
    with (
        opened(url_of(triton, protocol)) as model,
        pytest.raises(UnsupportedOperation, match="not enough shared memory"),
    ):
        model(x)


def test_a_result_says_who_answered(triton: LocalTriton, protocol: Protocol) -> None:
    url = url_of(triton, protocol)
    with opened(url, "auto") as model:
        results = [model.infer({"INPUT": numbers(0)}, request_id="r7") for _ in range(3)]
    for result in results:
        assert isinstance(result, InferResult)
        assert (result.backend_url, result.model_version, result.request_id) == (url, "1", "r7")


def test_closing_while_calls_are_in_flight_leaves_no_file(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    model = open_model(url_of(triton, protocol, "delayed"))
    x, none = numbers(0), np.zeros(1, np.float32)
    model(x, none)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            model(x, none + 1)
        except InferError as exc:
            errors.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: len(pool_of(model)._busy) == 1)
    model.close(timeout=0)
    thread.join(20)
    assert len(errors) == 1
    assert files(prefix) == set()
