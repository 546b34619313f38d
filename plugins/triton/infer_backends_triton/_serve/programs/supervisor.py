"""The process between us and tritonserver; it cleans up whatever becomes of its owner.

Run as a script by the server environment's interpreter, so it imports the standard library only::

    python supervisor.py WORKSPACE SHM_PREFIX GRACE

Its owner holds the other end of its standard input, and writes lines:

- first, ``{"argv": [...], "env": {...}, "log": PATH}``: start the server;
- ``stop``: SIGTERM, after ``GRACE`` seconds SIGKILL;
- ``kill``: SIGKILL at once;
- ``done``: end, and leave the workspace to the owner.

The end of the input means that the owner is gone, however it went: then the server is stopped and
the workspace removed. A death signal on the server alone would not do: it is sent when the
*thread* that forked ends, it cannot remove files, and it does not reach the server's children.

On standard output it answers ``pid N`` and, when nothing of the server is left, ``exit STATUS``
(minus the signal's number for a signal, as :mod:`subprocess` has it).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps the regions
_OWNER_CHECK = 1.0  # seconds between looks at who our parent is


def main(workspace: str, shm_prefix: str, grace: float) -> None:
    """Serve one owner until it is done or gone."""
    # Orphans of the server become our children, so that none can be overlooked.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    owner = Owner()
    server: Server | None = None
    try:
        command = owner.wait_for_line(None)
        if command and command != "done":
            server = Server(json.loads(command), shm_prefix)
            owner.tell(f"pid {server.pid}")
            command = owner.wait_for_line(server)
            status = server.end(0.0 if command == "kill" else grace)
            owner.tell(f"exit {status}")
            if command is not None:
                owner.wait_for_line(None)
    finally:
        if server is not None:
            server.end(0.0)
        if owner.gone:
            shutil.rmtree(workspace, ignore_errors=True)


class Owner:
    """The process that started us, seen through two pipes."""

    def __init__(self) -> None:
        self.gone = False
        self._pid = os.getppid()
        self._unread = b""
        # A signal makes select() return when one of our children has ended.
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def wait_for_line(self, server: Server | None) -> str | None:
        """The next line; None when the owner is gone; empty when the server has ended first."""
        while b"\n" not in self._unread:
            if server is not None and server.has_ended():
                return ""
            readable, _, _ = select.select([0, self._wake], [], [], _OWNER_CHECK)
            if self._wake in readable:
                os.read(self._wake, 4096)
            chunk = os.read(0, 65536) if 0 in readable else None
            # Our input also stays open while a forked child of the owner holds it.
            if chunk == b"" or os.getppid() != self._pid:
                self.gone = True
                return None
            self._unread += chunk or b""
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def tell(self, line: str) -> None:
        """Write one line; an owner that no longer reads is no reason to fail."""
        with contextlib.suppress(OSError):
            os.write(1, line.encode() + b"\n")


class Server:
    """tritonserver, with all the processes that come from it."""

    def __init__(self, command: dict[str, Any], shm_prefix: str) -> None:
        self._shm_prefix = shm_prefix
        self._status: int | None = None
        supervisor = os.getpid()

        def die_with_supervisor() -> None:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != supervisor:
                os._exit(1)

        with open(command["log"], "ab") as log:
            process = subprocess.Popen(
                command["argv"],
                env=command["env"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                restore_signals=True,
                start_new_session=True,
                preexec_fn=die_with_supervisor,  # noqa: PLW1509 - we have one thread
            )
        self.pid = process.pid
        process.returncode = 0  # reaped here, not by Popen

    def has_ended(self) -> bool:
        """Whether the server itself has ended; reaps what there is to reap."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self.pid:
                    self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None

    def end(self, grace: float) -> int:
        """Stop everything, and remove what it left in shared memory; returns the exit status."""
        if not self.has_ended():
            self._signal(signal.SIGTERM if grace else signal.SIGKILL)
            self._wait(grace)
            if not self.has_ended():
                self._signal(signal.SIGKILL)
        self._kill_orphans()
        for path in _SHARED_MEMORY.glob(f"{self._shm_prefix}*"):
            path.unlink(missing_ok=True)
        return self._status if self._status is not None else 0

    def _signal(self, number: int) -> None:
        # SIGTERM goes to the server alone: it stops its model processes itself.
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.has_ended() and time.monotonic() < end:
            time.sleep(0.01)

    def _kill_orphans(self) -> None:
        while True:
            children = _children()
            if not children:
                break
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.has_ended()
            time.sleep(0.005)


def _children() -> list[int]:
    """Our children, zombies among them, as /proc has them."""
    me, found = str(os.getpid()), []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything; then come the state and the parent.
            if stat.read_text(errors="replace").rpartition(")")[2].split()[1] == me:
                found.append(int(stat.parent.name))
    return found


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
