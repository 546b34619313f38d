"""The example for Ray Data works on this machine, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/ray_data.py"
DIGITS = ROOT / "infer_backends/_cli/_demo_data"

pytest.importorskip("ray", reason="Ray has no wheel for this Python or system")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder whose path is short enough for the sockets in it."""
    path = Path(tempfile.mkdtemp(prefix="ray"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def listening(process: psutil.Process) -> set[str]:
    """The addresses at which a process and its descendants can be reached."""
    found: set[str] = set()
    for one in [process, *process.children(recursive=True)]:
        # It may have ended meanwhile.
        with contextlib.suppress(psutil.Error):
            look: Any = getattr(one, "net_connections", None) or one.connections
            found |= {c.laddr.ip for c in look("inet") if c.status == psutil.CONN_LISTEN}
    return found


def of_session(temporary: Path) -> list[str]:
    """The processes of the Ray that has its files there."""
    commands: list[str] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            commands.append(" ".join(process.cmdline()))
    return [command for command in commands if str(temporary) in command]


@pytest.mark.timeout(400)
def test_actors_and_a_function_classify_on_loopback_and_nothing_is_left(temporary: Path) -> None:
    environment = {
        **os.environ,
        "RAY_TMPDIR": str(temporary),
        # Otherwise Ray writes one into the home directory.
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    arguments = [f"onnx:{DIGITS / 'digits.onnx'}", str(DIGITS / "digits.npz")]
    command = [sys.executable, str(EXAMPLE), *arguments]
    addresses: set[str] = set()
    with (temporary / "errors").open("w+") as errors:
        program = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            while program.poll() is None:
                addresses |= listening(psutil.Process(program.pid))
                try:
                    program.wait(0.5)
                except subprocess.TimeoutExpired:
                    continue
            printed = program.stdout.read() if program.stdout else ""
        finally:
            program.kill()
            program.wait()
            if program.stdout:
                program.stdout.close()
        errors.seek(0)
        assert program.returncode == 0, errors.read()
    right = {way: float(part) for way, part in re.findall(r"(\w+): (\S+) are right", printed)}
    assert right.keys() == {"actors", "function"}
    assert min(right.values()) > 0.97
    assert addresses
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert of_session(temporary) == []
