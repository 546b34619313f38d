"""A forked child has the members of its parent, and none of its threads."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from infer_backends import Unavailable
from infer_backends._resilience._policy import Policy
from infer_backends.plugin import Array, Deadline, InferRequest
from tests.core.fakes import double, request
from tests.core.resilience.members import Described, Switch, opening, pair, threads, until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    # Forking is the point.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def in_a_child(do: Callable[[], object]) -> Any:
    """What a forked child finds."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(do()))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    return results.get()


def soon() -> Deadline:
    return Deadline.after(10)


def test_a_child_reaches_a_member_that_the_parent_was_opening() -> None:
    first, second = pair()
    first.down = Unavailable("refused")
    both = opening(first, second)
    first.down = None
    inside, leave = threading.Event(), threading.Event()
    parent = os.getpid()

    def slowly_in_the_parent(deadline: Deadline) -> None:
        if os.getpid() == parent:
            inside.set()
            assert leave.wait(20)

    first.before_open = slowly_in_the_parent
    opener = threading.Thread(target=both.probe)
    opener.start()
    assert inside.wait(10)
    with both.endpoints[0].breaker._lock:

        def answering() -> str:
            both.probe()
            return both.fallback.infer(request(deadline=soon())).backend_url

        assert in_a_child(answering) == "fake://first/m"
    leave.set()
    opener.join(10)


def test_a_child_probes_a_member_that_is_down_itself() -> None:
    backend = Described("fake://first/m")
    both = opening(
        Switch("fake://first/m", backend),
        Switch("fake://second/m"),
        policy=Policy(probe_period=0.05),
    )
    backend.is_ready = False
    both.take_down()
    until(lambda: both.endpoints[0].status().probes)

    def recovering() -> tuple[list[str], str]:
        before = threads()
        backend.is_ready = True
        both.fallback.infer(request())
        until(lambda: both.states()[0] == "recovering")
        return before, both.fallback.infer(request()).backend_url

    assert in_a_child(recovering) == ([], "fake://first/m")
    assert both.states()[0] == "down"


def test_a_child_does_not_wait_for_calls_of_its_parent() -> None:
    first, second = pair()
    both = opening(first, second)
    inside, leave = threading.Event(), threading.Event()
    parent = os.getpid()

    def slowly_in_the_parent(request: InferRequest) -> dict[str, Array]:
        if os.getpid() == parent:
            inside.set()
            assert leave.wait(20)
        return double(request)

    both.take_down()
    both.endpoints[0].breaker.recover("it is ready")
    first.backend.answer = slowly_in_the_parent
    caller = threading.Thread(target=both.fallback.infer, args=(request(),))
    caller.start()
    assert inside.wait(10)

    def trying() -> tuple[int, str]:
        in_flight = both.endpoints[0].status().in_flight
        return in_flight, both.fallback.infer(request()).backend_url

    assert in_a_child(trying) == (0, "fake://first/m")
    leave.set()
    caller.join(10)


def test_a_child_loads_for_itself_what_its_parent_is_loading() -> None:
    first, second = Switch("fake://first/m"), Switch("fake://second/m", lazy=True)
    both = opening(first, second)
    first.backend.error = Unavailable("refused")
    inside, leave = threading.Event(), threading.Event()
    parent = os.getpid()

    def slowly_in_the_parent(deadline: Deadline) -> None:
        if os.getpid() == parent:
            inside.set()
            assert leave.wait(20)

    second.before_open = slowly_in_the_parent
    both.endpoints[1].begin_loading()
    assert inside.wait(10)
    found = in_a_child(lambda: both.fallback.infer(request(deadline=soon())).backend_url)
    assert found == "fake://second/m"
    leave.set()


def test_a_child_may_close_its_copy_and_the_parent_goes_on() -> None:
    first, second = pair()
    both = opening(first, second, policy=Policy(probe_period=0.05))
    both.take_down()

    def closing() -> list[str]:
        both.fallback.close()
        return threads()

    assert in_a_child(closing) == []
    assert both.fallback.infer(request()).backend_url in {"fake://first/m", "fake://second/m"}
