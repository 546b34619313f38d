"""Alarms of calls that wait inside gRPC: rung in time, once, by a thread that does not stay."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from infer_backends.plugin import Deadline, DeadlineExceeded
from infer_backends_triton._grpc_alarms import Alarms
from tests.triton.grpc_fakes import a_request, fake_server, opened

NAME = "infer-backends-triton-alarms"


def void(_: object = None) -> None:
    """An alarm that does nothing."""


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def ended(alarms: Alarms) -> bool:
    """Whether the thread of ``alarms`` ends, given time to."""
    thread = alarms._thread
    if thread is not None:
        thread.join(10)
    return thread is None or not thread.is_alive()


def test_each_call_is_alarmed_at_its_time_whatever_the_order_they_began_in() -> None:
    alarms, rung = Alarms(), threading.Semaphore(0)
    order: list[str] = []

    def ring(name: str) -> None:
        order.append(name)
        rung.release()

    late = Deadline.after(30).with_alarm(0.3, lambda: ring("late"))
    early = Deadline.after(30).with_alarm(0.05, lambda: ring("early"))
    watches = [alarms.begin(late), alarms.begin(early)]
    assert len(threads()) == 1
    assert rung.acquire(timeout=10)
    assert rung.acquire(timeout=10)
    assert order == ["early", "late"]
    assert ended(alarms), "nobody waits for an alarm any more"
    for watch in watches:
        alarms.end(watch)


def test_a_second_alarm_of_one_call_is_rung_too() -> None:
    alarms, both = Alarms(), threading.Barrier(2, timeout=10)
    deadline = Deadline.after(30).with_alarm(0.1, lambda: void(both.wait())).with_alarm(0.05, void)
    watch = alarms.begin(deadline)
    both.wait()
    alarms.end(watch)
    assert ended(alarms)


def test_a_call_that_has_ended_is_not_alarmed() -> None:
    alarms, rung = Alarms(), threading.Event()
    other = Deadline.after(30).with_alarm(0.2, rung.set)
    ringing: list[int] = []
    watch = alarms.begin(Deadline.after(30).with_alarm(0.1, lambda: ringing.append(1)))
    alarms.end(watch)
    kept = alarms.begin(other)
    assert rung.wait(10)
    assert ringing == []
    alarms.end(kept)
    assert ended(alarms)


def test_an_alarm_that_is_due_already_is_rung_at_once() -> None:
    alarms, ringing = Alarms(), [0]
    deadline = Deadline.after(30).with_alarm(0, ringing.clear)
    alarms.end(alarms.begin(deadline))
    assert ringing == []
    with pytest.raises(DeadlineExceeded):
        alarms.begin(Deadline.after(0).with_alarm(1, void))
    assert ended(alarms)


def test_a_deadline_that_passes_before_its_alarm_rings_nothing() -> None:
    alarms, ringing = Alarms(), [0]
    alarms.begin(Deadline.after(0.05).with_alarm(20, ringing.clear))
    assert ended(alarms)
    assert ringing == [0]


def test_without_a_thread_to_be_had_the_call_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    alarms, rung = Alarms(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        alarms.end(alarms.begin(Deadline.after(30).with_alarm(0.01, rung.set)))
    watch = alarms.begin(Deadline.after(30).with_alarm(0.01, rung.set))
    assert rung.wait(10)
    alarms.end(watch)
    assert ended(alarms)


def test_a_closed_backend_keeps_no_thread() -> None:
    with fake_server() as server, opened(server.url) as backend:
        request = a_request()
        request.deadline = request.deadline.with_alarm(15, void)
        for _ in range(3):
            assert backend.infer(request).outputs["y"].tolist() == [1, 2]
        alarms = backend._connection._alarms
        assert len(threads()) == 1
        thread = threads()[0]
    thread.join(10)
    assert ended(alarms)
    assert threads() == []


FORKING = """
import os, sys
from tests.triton.forker import wait_for
from tests.triton.grpc_fakes import a_request, opened
import numpy as np

def rings(backend):
    rung = []
    request = a_request(inputs={"SECONDS": np.array([0.3], np.float32)})
    request.deadline = request.deadline.with_alarm(0.05, lambda: rung.append(1))
    backend.infer(request)
    return rung == [1]

with opened(sys.argv[1]) as backend:
    assert rings(backend)
    child = os.fork()
    if child == 0:
        os._exit(0 if rings(backend) else 12)
    print(wait_for(child), rings(backend))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_alarms_ring_in_a_forked_child_too(triton_url: Callable[..., str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, triton_url("slow", "grpc")],
        capture_output=True,
        check=False,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=90,
    )
    assert done.stdout.split() == ["works", "True"], done.stderr
