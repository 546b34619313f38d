"""Whatever becomes of its owner, a local Triton leaves no process, file or shared memory behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.servers import repository

OWNER = Path(__file__).with_name("owner.py")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository.write_repository(tmp_path_factory.mktemp("small"), {"identity_fp32"})


@contextmanager
def owner(
    environment: Path, models: Path, what: str
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A process that owns a server, in a process group of its own, and what it says of that."""
    process = subprocess.Popen(
        [sys.executable, str(OWNER), str(environment), str(models), what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.kill()


def descendants(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it did not come about in 30 s"
        time.sleep(0.02)


def wait_until_nothing_is_left(told: dict[str, Any], processes: list[psutil.Process]) -> None:
    wait_until(lambda: not any(process.is_running() for process in processes))
    wait_until(lambda: not Path(told["workspace"]).exists())
    wait_until(lambda: not list(Path("/dev/shm").glob(told["shm_prefix"] + "*")))


def test_everything_is_gone_after_the_owner_was_killed(
    triton_environment: Path, models: Path
) -> None:
    with owner(triton_environment, models, "wait") as (process, told):
        processes = descendants(told["pid"])
        assert len(processes) > 1, "the server has a process for its model"
        assert Path(told["workspace"]).exists()
        assert list(Path("/dev/shm").glob(told["shm_prefix"] + "*"))
        process.kill()
        wait_until_nothing_is_left(told, processes)


def test_everything_is_gone_after_an_exception_in_the_block(
    triton_environment: Path, models: Path
) -> None:
    with owner(triton_environment, models, "raise") as (process, told):
        _, stderr = process.communicate()
        assert process.returncode == 1
        assert stderr.rstrip().endswith("RuntimeError: the block failed")
        wait_until_nothing_is_left(told, [])
        assert not psutil.pid_exists(told["pid"])


def test_everything_is_gone_after_an_owner_that_forgot_to_stop_it(
    triton_environment: Path, models: Path
) -> None:
    with owner(triton_environment, models, "exit") as (process, told):
        _, stderr = process.communicate()
        assert (process.returncode, stderr) == (0, "")
        assert not psutil.pid_exists(told["pid"])
        wait_until_nothing_is_left(told, [])


def test_ctrl_c_in_the_terminal_reaches_the_owner_only_which_then_stops_the_server(
    triton_environment: Path, models: Path
) -> None:
    with owner(triton_environment, models, "wait") as (process, told):
        processes = descendants(told["pid"])
        assert os.getpgid(told["pid"]) != os.getpgid(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate()
        assert "KeyboardInterrupt" in stderr
        wait_until_nothing_is_left(told, processes)


def test_a_terminated_owner_takes_its_server_along(triton_environment: Path, models: Path) -> None:
    with owner(triton_environment, models, "wait") as (process, told):
        processes = descendants(told["pid"])
        process.terminate()
        wait_until_nothing_is_left(told, processes)


def test_a_forked_child_neither_owns_nor_stops_the_server(
    triton_environment: Path, models: Path
) -> None:
    with owner(triton_environment, models, "fork") as (process, told):
        ready = f"http://127.0.0.1:{told['http_port']}/v2/health/ready"
        with urllib.request.urlopen(ready) as response:
            assert response.status == 200
        processes = descendants(told["pid"])
        process.send_signal(signal.SIGINT)
        process.communicate()
        wait_until_nothing_is_left(told, processes)


def test_killing_the_supervisor_takes_the_server_along(
    triton_environment: Path, models: Path
) -> None:
    with owner(triton_environment, models, "wait") as (process, told):
        processes = descendants(told["pid"])
        supervisor = psutil.Process(told["pid"]).parent()
        assert supervisor is not None
        supervisor.kill()
        wait_until(lambda: not any(process.is_running() for process in processes))
        process.send_signal(signal.SIGINT)
        process.communicate()
        wait_until_nothing_is_left(told, processes)
