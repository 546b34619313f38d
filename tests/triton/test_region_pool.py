"""The pool of regions: what is used again, and when, and what the server is told."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from infer_backends.plugin import Deadline, InferenceFailed, ModelClosed, Unavailable
from infer_backends_triton import _region_pool, _regions
from infer_backends_triton._region_pool import (
    NoMemoryError,
    NoRoomError,
    RegionPool,
    guards_regions,
    round_up,
)
from infer_backends_triton._status import RegionError, RegionTaken

pytestmark = pytest.mark.usefixtures("prefix")

SIZE = 100_000


class Server:
    """A server's list of regions, and what happened to it."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.in_use: set[str] = set()
        self.registrations: list[str] = []
        self.failure: Exception | None = None
        self.said_version = "2.50.0"

    def register(self, name: str, size: int, _deadline: Deadline) -> None:
        self.registrations.append(name)
        if self.failure is not None:
            raise self.failure
        if name in self.known:
            raise RegionTaken("already in manager")
        assert (_regions.FOLDER / name).stat().st_size == size
        self.known[name] = size

    def unregister(self, name: str, _deadline: Deadline) -> None:
        if name in self.in_use:
            raise RegionError("Cannot unregister: it is currently in use")
        self.known.pop(name, None)

    def registered(self, _deadline: Deadline) -> list[str]:
        return list(self.known)

    def version(self, _deadline: Deadline) -> str:
        return self.said_version


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(server: Server, clock: Clock) -> Iterator[RegionPool]:
    pool = RegionPool(server, limit=10 * SIZE, clock=clock)
    yield pool
    pool.close()


def soon() -> Deadline:
    return Deadline.after(5)


def files(prefix: str) -> set[str]:
    return {path.name for path in _regions.FOLDER.glob(f"{prefix}*")}


@pytest.mark.parametrize("size", [1, 16384, 16385, 20480, 20481, 4_915_200, 9_830_400, 2**30 + 1])
def test_there_are_few_sizes_and_little_is_wasted(size: int) -> None:
    rounded = round_up(size)
    assert rounded >= size
    assert rounded % 4096 == 0
    assert rounded <= max(1.25 * size, 16384)
    assert round_up(rounded) == rounded


def test_a_region_whose_call_was_answered_is_used_again_and_registered_once(
    pool: RegionPool, server: Server
) -> None:
    first = pool.take(SIZE, soon())
    pool.keep(first)
    assert pool.take(SIZE - 5, soon()) is first
    assert server.registrations == [first.name]


def test_calls_at_the_same_time_have_regions_of_their_own(pool: RegionPool) -> None:
    assert pool.take(SIZE, soon()) is not pool.take(SIZE, soon())


def test_a_retired_region_is_not_used_again_and_the_server_forgets_it(
    pool: RegionPool, server: Server, prefix: str
) -> None:
    region = pool.take(SIZE, soon())
    pool.retire(region)
    assert files(prefix) == set()
    other = pool.take(SIZE, soon())
    assert other is not region
    pool.keep(other)
    assert set(server.known) == {other.name}


def test_a_region_that_the_server_still_uses_is_asked_about_again_later(
    pool: RegionPool, server: Server, clock: Clock
) -> None:
    region = pool.take(SIZE, soon())
    server.in_use.add(region.name)
    pool.retire(region)
    pool.tidy()
    assert region.name in server.known
    server.in_use.clear()
    pool.tidy()
    assert region.name in server.known
    clock.now += 1
    pool.tidy()
    assert region.name not in server.known


@pytest.mark.parametrize(
    ("version", "guards"),
    [
        ("2.50.0", True),
        ("2.51.0dev", True),
        ("3.0.1", True),
        ("2.49.0", False),
        ("1.99.0", False),
        ("", False),
        ("x2.51.0", False),
        ("2", False),
    ],
)
def test_servers_that_let_go_of_regions_in_use_are_known(version: str, guards: bool) -> None:
    assert guards_regions(version) is guards


def test_a_server_that_would_crash_is_not_told_to_forget_what_a_call_may_use(
    pool: RegionPool, server: Server, prefix: str
) -> None:
    server.said_version = "2.49.0"
    server.known = {f"{prefix}dead": 1}
    abandoned, answered = pool.take(SIZE, soon()), pool.take(SIZE, soon())
    pool.retire(abandoned)
    pool.keep(answered)
    pool.close()
    assert files(prefix) == set()
    assert set(server.known) == {f"{prefix}dead", abandoned.name}


def test_a_region_that_is_much_too_large_or_too_small_is_not_taken(pool: RegionPool) -> None:
    region = pool.take(SIZE, soon())
    pool.keep(region)
    assert pool.take(SIZE // 4, soon()) is not region
    assert pool.take(SIZE * 2, soon()) is not region


def test_what_lies_idle_makes_room_for_what_is_needed(
    pool: RegionPool, server: Server, prefix: str
) -> None:
    small = [pool.take(SIZE, soon()) for _ in range(5)]
    for region in small:
        pool.keep(region)
    large = pool.take(8 * SIZE, soon())
    assert files(prefix) == set(server.known) == {large.name}


def test_the_regions_of_one_model_have_a_limit(pool: RegionPool) -> None:
    taken = [pool.take(3 * SIZE, soon()) for _ in range(2)]
    with pytest.raises(NoRoomError):
        pool.take(6 * SIZE, soon())
    pool.keep(taken.pop())
    pool.keep(taken.pop())
    pool.keep(pool.take(6 * SIZE, soon()))


def test_a_region_that_nobody_used_for_a_while_is_released(
    pool: RegionPool, server: Server, clock: Clock, prefix: str
) -> None:
    first, second = pool.take(SIZE, soon()), pool.take(3 * SIZE, soon())
    pool.keep(first)
    clock.now += 61
    pool.keep(second)
    assert files(prefix) == set(server.known) == {second.name}


def test_after_a_restart_of_the_server_regions_are_registered_again(
    pool: RegionPool, server: Server
) -> None:
    first, second = pool.take(SIZE, soon()), pool.take(SIZE, soon())
    pool.keep(second)
    server.known.clear()
    pool.lose(first)
    pool.lose(first)
    pool.retire(first)
    assert pool.take(SIZE, soon()) is second
    assert server.registrations == [first.name, second.name, second.name]


def test_a_region_that_the_server_knows_after_all_is_no_error(
    pool: RegionPool, server: Server
) -> None:
    region = pool.take(SIZE, soon())
    pool.lose(region)
    pool.keep(region)
    assert pool.take(SIZE, soon()) is region
    assert set(server.known) == {region.name}


@pytest.mark.parametrize("failure", [RegionError("no"), Unavailable("no"), InferenceFailed("no")])
def test_a_region_that_the_server_does_not_take_is_not_left_behind(
    pool: RegionPool, server: Server, prefix: str, failure: Exception
) -> None:
    server.failure = failure
    with pytest.raises(type(failure)):
        pool.take(SIZE, soon())
    assert files(prefix) == set()
    server.failure = None
    pool.tidy()
    pool.keep(pool.take(9 * SIZE, soon()))


def test_no_memory_is_told_from_no_room(pool: RegionPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    for _ in range(20):
        with pytest.raises(NoMemoryError):
            pool.take(SIZE, soon())


def test_what_dead_clients_left_on_the_servers_list_is_taken_off_it(
    pool: RegionPool, server: Server, prefix: str
) -> None:
    living = _regions.Region.create(SIZE)
    server.known = {f"{prefix}dead": 1, living.name: 1, "another_library": 1}
    try:
        region = pool.take(SIZE, soon())
        assert set(server.known) == {living.name, "another_library", region.name}
        pool.keep(region)
        server.known[f"{prefix}dead"] = 1
        pool.keep(pool.take(SIZE, soon()))
        assert f"{prefix}dead" in server.known
    finally:
        living.close()


def test_the_first_region_of_a_process_sweeps_up_after_the_dead(
    pool: RegionPool, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = _regions.FOLDER / f"{prefix}dead"
    monkeypatch.setattr(_region_pool, "_begun_by", [])
    dead.write_bytes(b"x")
    pool.keep(pool.take(SIZE, soon()))
    assert not dead.exists()
    dead.write_bytes(b"x")
    pool.keep(pool.take(5 * SIZE, soon()))
    assert dead.exists()
    dead.unlink()


def test_closing_releases_everything(pool: RegionPool, server: Server, prefix: str) -> None:
    idle, busy = pool.take(SIZE, soon()), pool.take(SIZE, soon())
    retired = pool.take(SIZE, soon())
    server.in_use = {retired.name}
    pool.retire(retired)
    pool.tidy()
    server.in_use = set()
    pool.keep(idle)
    pool.close()
    pool.close()
    assert files(prefix) == set()
    assert set(server.known) == {busy.name}
    busy.content[:] = 1
    pool.keep(busy)
    assert server.known == {}
    with pytest.raises(ModelClosed):
        pool.take(SIZE, soon())


def test_a_child_of_fork_begins_without_regions(
    pool: RegionPool, server: Server, prefix: str
) -> None:
    busy, idle = pool.take(SIZE, soon()), pool.take(SIZE, soon())
    pool.keep(idle)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            own = pool.take(SIZE, soon())
            fresh = own.name not in {busy.name, idle.name}
            pool.close()
            pool.keep(own)
            status = 0 if fresh and files(prefix) == {busy.name, idle.name} else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert files(prefix) == {busy.name, idle.name}
    assert pool.take(SIZE, soon()) is idle
    assert set(server.known) == {busy.name, idle.name}
