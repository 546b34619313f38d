"""Forks of a process that uses gRPC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infer_backends.plugin import UnsupportedOperation
from infer_backends_triton._grpc_fork import ForkGate

URL = Callable[..., str]
SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"


@contextmanager
def a_call(gate: ForkGate) -> Iterator[None]:
    generation = gate.enter()
    try:
        yield
    finally:
        gate.leave(generation)


def run(
    url: str, seconds: float, forks: int, threads: int, support: str | None
) -> tuple[dict[str, int], list[str]]:
    """How the children of forker.py ended, and what errors the parent's calls had."""
    environment = {name: value for name, value in os.environ.items() if name != SUPPORT}
    if support is not None:
        environment[SUPPORT] = support
    numbers = [str(number) for number in (seconds, forks, threads)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.triton.forker", url, *numbers],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told["children"], told["errors"]


@pytest.mark.parametrize("support", [None, "1"])
@pytest.mark.parametrize("threads", [0, 4])
def test_children_work_though_calls_were_in_flight(
    triton_url: URL, support: str | None, threads: int
) -> None:
    children, errors = run(triton_url("slow", "grpc"), 0.005, 10, threads, support)
    assert (children, errors) == ({"works": 10}, [])


@pytest.mark.parametrize("support", [None, "1"])
def test_a_call_too_long_to_wait_for_has_the_child_refuse_and_the_parent_go_on(
    triton_url: URL, support: str | None
) -> None:
    children, errors = run(triton_url("slow", "grpc"), 2.5, 1, 1, support)
    assert (children, errors) == ({"refused": 1}, [])


@pytest.mark.parametrize("support", ["0", "False"])
def test_children_refuse_at_once_where_grpcs_support_is_off(triton_url: URL, support: str) -> None:
    children, errors = run(triton_url("slow", "grpc"), 0.005, 2, 2, support)
    assert (children, errors) == ({"refused": 2}, [])


def test_a_refusal_lets_another_backend_do_it() -> None:
    gate = ForkGate(supported=False)
    with a_call(gate):
        pass
    gate.before()
    gate.after_in_child()
    with pytest.raises(UnsupportedOperation, match="gRPC was in use") as caught:
        gate.enter()
    assert caught.value.unprocessed


def test_calls_wait_while_the_process_forks() -> None:
    gate = ForkGate(supported=True)
    gate.before()
    entered = threading.Event()

    def call() -> None:
        with a_call(gate):
            entered.set()

    caller = threading.Thread(target=call)
    caller.start()
    assert not entered.wait(0.05)
    gate.after_in_parent()
    assert entered.wait(10)
    caller.join()


def test_calls_wait_until_the_last_of_several_forks_is_over() -> None:
    gate = ForkGate(supported=True)
    gate.before()
    gate.before()
    gate.after_in_parent()
    entered = threading.Event()

    def call() -> None:
        with a_call(gate):
            entered.set()

    caller = threading.Thread(target=call)
    caller.start()
    assert not entered.wait(0.05)
    gate.after_in_parent()
    assert entered.wait(10)
    caller.join()


def test_a_fork_waits_for_the_calls_in_flight() -> None:
    gate = ForkGate(supported=True, drain=60)
    finish, started = threading.Event(), threading.Event()

    def call() -> None:
        with a_call(gate):
            started.set()
            assert finish.wait(10)

    caller = threading.Thread(target=call)
    caller.start()
    assert started.wait(10)
    threading.Timer(0.05, finish.set).start()
    begun = time.monotonic()
    gate.before()
    assert finish.is_set()
    assert time.monotonic() - begun < 30
    gate.after_in_child()
    with a_call(gate):
        pass
    caller.join()


def test_a_fork_within_a_call_leaves_the_childs_count_at_nothing() -> None:
    gate = ForkGate(supported=True, drain=0)
    with a_call(gate):
        gate.before()
        gate.after_in_child()
        with pytest.raises(UnsupportedOperation, match="in flight"), a_call(gate):
            pass
    gate.before()
    gate.after_in_child()
    with pytest.raises(UnsupportedOperation, match="in flight"), a_call(gate):
        pass


def test_a_process_that_never_used_grpc_forks_freely() -> None:
    gate = ForkGate(supported=False)
    gate.before()
    gate.after_in_child()
    with a_call(gate):
        pass
    gate.before()
    gate.after_in_child()
    with pytest.raises(UnsupportedOperation, match=SUPPORT), a_call(gate):
        pass
