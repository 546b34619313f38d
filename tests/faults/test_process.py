"""This process has its own troubles: many threads, forks, a wrong clock, no descriptors left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Protocol
from tests.faults.calls import Load, call
from tests.faults.conftest import OpenPair
from tests.faults.proxy import Fault, FaultProxy
from tests.faults.servers import Server, wait_until

ROOT = Path(__file__).parents[2]


def test_a_hundred_threads_are_answered_when_the_server_dies_and_one_prober_looks_for_it(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    url = server.url(protocol)
    model = open_pair(url, probe_period=0.2)
    with Load(model, 100, timeout=30, pace=0.1) as load:
        load.wait_for(url, 100)
        server.kill()
        killed = time.monotonic()
        load.wait_for(local_url, 300)
        probes, down = model.status().members[0].probes, time.monotonic() - killed
        server.start()
        load.wait_for(url, 100)
    load.check()
    assert probes <= down / (0.9 * 0.2) + 1


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_wall_clock_that_jumps_changes_nothing(
    proxy: FaultProxy,
    url: str,
    open_pair: OpenPair,
    local_url: str,
    jump: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = open_pair(url)
    assert call(model).url == url
    real, offsets = time.time, [0.0]

    def jumping() -> float:
        # gRPC reckons with this one and with the system's, which no test may set.
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))
        return real() if caller.startswith("grpc.") else real() + offsets[-1]

    monkeypatch.setattr(time, "time", jumping)
    offsets.append(jump)
    assert call(model).url == url
    proxy.set(Fault("response", "hang"))
    with Load(model, 4, timeout=1) as load:
        wait_until(lambda: load.inside == 4)
        offsets.append(-jump)
        load.wait_for(local_url)
        offsets.append(jump)
        proxy.restore()
        load.wait_for(url)
    load.check()


def fork(url: str, local_url: str, pid: int | str) -> dict[str, Any]:
    """What tests.faults.forking tells."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.forking", url, local_url, str(pid)],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_fork_while_calls_run_leaves_a_model_that_works_on_both_sides(
    server: Server, protocol: Protocol, local_url: str
) -> None:
    told = fork(server.url(protocol), local_url, 0)
    assert told == {"children": {"right": 4}, "errors": [], "wrong": 0}


def test_a_fork_while_the_server_hangs_leaves_two_processes_that_both_find_it_again(
    server: Server, local_url: str
) -> None:
    # Over HTTP: gRPC can bring down a child that is forked while one of its channels connects.
    assert server.triton.pid is not None
    told = fork(server.url("http"), local_url, server.triton.pid)
    assert told == {"children": {"right": 4}, "errors": [], "wrong": 0}


def test_a_child_that_cannot_use_grpc_is_answered_by_the_local_model(
    server: Server, local_url: str
) -> None:
    told = fork(server.url("grpc"), local_url, "long")
    assert told == {"children": {"right": 1}, "errors": [], "wrong": 0}


def test_without_a_descriptor_the_local_model_answers_and_traffic_goes_back(
    proxy: FaultProxy, url: str, local_url: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.starving", url, local_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as program:
        try:
            assert read_step(program)["urls"] == [url]
            proxy.drop()
            go_on(program)
            starving = read_step(program)
            assert (starving["errors"], starving["right"]) == ([], True)
            assert set(starving["urls"]) == {local_url}
            assert set(starving["attempts"]) == {"Unavailable"}
            go_on(program)
            read_step(program)
            go_on(program)
            assert program.wait(30) == 0
        finally:
            program.kill()


def read_step(program: subprocess.Popen[str]) -> dict[str, Any]:
    assert program.stdout is not None
    line = program.stdout.readline()
    assert line, f"it ended, with status {program.wait(30)}"
    told: dict[str, Any] = json.loads(line)
    return told


def go_on(program: subprocess.Popen[str]) -> None:
    assert program.stdin is not None
    program.stdin.write("\n")
    program.stdin.flush()
