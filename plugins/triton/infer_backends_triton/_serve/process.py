"""The owner's side of the supervisor: starting a server, watching it, ending it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from infer_backends_triton._serve.environment import PROGRAMS

_MARGIN = 10.0  # seconds that the supervisor may take beyond its own grace period


class ServerProcess:
    """One run of tritonserver under a supervisor, which outlives us if need be.

    The supervisor runs first: from then on the workspace is removed whatever becomes of us.

    Args:
        python: The interpreter that runs the supervisor.
        workspace: The folder that the supervisor removes when its owner is gone.
        shm_prefix: What the names of the server's regions in shared memory begin with.
        grace: Seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, python: Path, workspace: Path, shm_prefix: str, grace: float) -> None:
        self._grace = grace
        self._unread = b""
        self._ended = False
        self.pid: int | None = None
        self.status: int | None = None
        # A session of its own: Ctrl-C in the terminal is for us, not for the server.
        self._supervisor = subprocess.Popen(
            [
                str(python),
                "-IS",
                str(PROGRAMS / "supervisor.py"),
                str(workspace),
                shm_prefix,
                str(grace),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        self._input = cast("IO[bytes]", self._supervisor.stdin)
        self._output = cast("IO[bytes]", self._supervisor.stdout)

    def launch(self, argv: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        """Start the server; returns when it runs, or could not be run."""
        self._say(json.dumps({"argv": list(argv), "env": dict(variables), "log": str(log)}))
        self._listen(time.monotonic() + _MARGIN, until_pid=True)

    def wait(self, seconds: float) -> int | None:
        """The server's exit status, negative for a signal; None if it still runs after that."""
        self._listen(time.monotonic() + seconds)
        return self.status

    def end(self, how: str = "stop") -> None:
        """End the server and everything it started, then the supervisor; a second call is a no-op.

        Args:
            how: ``stop`` asks first and kills after the grace period; ``kill`` kills.
        """
        if self._ended:
            return
        try:
            if self.pid is not None and self.status is None:
                self._say(how)
                self._listen(time.monotonic() + self._grace + _MARGIN)
            self._say("done")
        finally:
            # Were we interrupted before we said so, the end of its input tells the supervisor.
            self._ended = True
            self._close()
            self._reap()

    def abandon(self) -> None:
        """In a forked child: let go of the pipes, and so leave the server to the parent."""
        self._close()
        self._ended = True
        self._supervisor.returncode = 0  # or Popen would complain, in the child, that it runs

    def _close(self) -> None:
        self._input.close()
        self._output.close()

    def _reap(self) -> None:
        try:
            self._supervisor.wait(self._grace + _MARGIN)
        except subprocess.TimeoutExpired:
            # The server dies with it: it asked for that signal.
            self._supervisor.kill()
            self._supervisor.wait()

    def _say(self, line: str) -> None:
        rest = memoryview(line.encode() + b"\n")
        try:
            while rest:
                rest = rest[os.write(self._input.fileno(), rest) :]
        except BrokenPipeError:
            return  # it has ended; _listen will notice

    def _listen(self, end: float, *, until_pid: bool = False) -> None:
        """Read what the supervisor says until the server has ended, or ``end`` has come."""
        source = self._output.fileno()
        while self.status is None and not (until_pid and self.pid is not None):
            readable, _, _ = select.select([source], [], [], max(0.0, end - time.monotonic()))
            if not readable:
                return
            chunk = os.read(source, 4096)
            if not chunk:
                self.status = -1  # the supervisor was killed, and the server with it
                return
            *lines, self._unread = (self._unread + chunk).split(b"\n")
            for line in lines:
                word, _, number = line.decode().partition(" ")
                if word == "pid":
                    self.pid = int(number)
                elif word == "exit":
                    self.status = int(number)
