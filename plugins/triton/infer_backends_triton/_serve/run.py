"""One run of the server, from a start to the stop after it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from infer_backends_triton._serve.environment import Environment
from infer_backends_triton._serve.process import ServerProcess

#: Seconds from the request to stop until the server is killed.
GRACE = 5.0
_LOG_BYTES = 256 * 1024


class Run:
    """What exists from one start to the stop after it: a workspace and a process."""

    def __init__(self, environment: Environment) -> None:
        self.shm_prefix = f"infer-backends-{secrets.token_hex(8)}-"
        self.workspace = Path(tempfile.mkdtemp(prefix="infer-backends-triton-"))
        self.log = self.workspace / "server.log"
        try:
            self.process = ServerProcess(
                environment.facts.python, self.workspace, self.shm_prefix, GRACE
            )
        except BaseException:
            shutil.rmtree(self.workspace, ignore_errors=True)
            raise
        self._end = weakref.finalize(self, _end_run, self.process, self.workspace, self.shm_prefix)
        self._lay_out(environment)

    def launch(self, arguments: Sequence[str], environment: Environment) -> None:
        """Start the server with ``arguments``."""
        variables = environment.variables()
        libraries = [
            str(self.workspace / "lib"),
            str(environment.libraries),
            variables.get("LD_LIBRARY_PATH", ""),
        ]
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
        program = environment.server / "bin" / "tritonserver"
        self.process.launch([str(program), *arguments], variables, self.log)

    def read_log(self) -> str:
        """What the server has logged: all of it, or the last 256 KiB."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
            return log.read().decode(errors="replace")
        return ""

    def end(self, how: str) -> str:
        """End the server and remove the workspace; returns what was logged."""
        self.process.end(how)
        text = self.read_log()
        self._end()
        return text

    def forget(self) -> None:
        """In a forked child: leave everything to the parent."""
        self._end.detach()
        self.process.abandon()

    def _lay_out(self, environment: Environment) -> None:
        """Make the folders that the server is told of, out of links to the wheel's files."""
        backend = self.workspace / "backends" / "python"
        backend.mkdir(parents=True)
        for source in (environment.server / "backends" / "python").iterdir():
            (backend / source.name).symlink_to(source)
        (backend / environment.stub.name).symlink_to(environment.stub)
        # The interpreter's own folder would bring other libraries along.
        (self.workspace / "lib").mkdir()
        library = environment.libpython
        if library.is_absolute():
            (self.workspace / "lib" / library.name).symlink_to(library)


def _end_run(process: ServerProcess, workspace: Path, shm_prefix: str) -> None:
    process.end()
    # The supervisor has done this, unless somebody killed it.
    for region in Path("/dev/shm").glob(f"{shm_prefix}*"):  # noqa: S108 - where they are
        region.unlink(missing_ok=True)
    shutil.rmtree(workspace, ignore_errors=True)
