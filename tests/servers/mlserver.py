"""A real MLServer: another server of the Open Inference Protocol, with less than Triton has.

It takes tensors as JSON over HTTP, raw or typed over gRPC; it has no configurations, no binary
tensors over HTTP, no shared memory, and no BF16; and it does batching without saying so.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.servers.mlserver_models import write_models
from tests.servers.ports import free_ports

_STARTUP = 60.0


class MLServer:
    """A server in a process of its own, on free ports of 127.0.0.1.

    Args:
        environment: The Python environment that it runs in; see :mod:`tests.servers.environment`.
        folder: An empty folder, for its models and its log.
        only: The models that it has; empty for all.
    """

    def __init__(self, environment: Path, folder: Path, only: Collection[str] = ()) -> None:
        self._program = environment / "bin" / "mlserver"
        self._folder = folder
        self._log = folder / "log.txt"
        self.http_port, self.grpc_port = free_ports(2)
        self._models = write_models(folder, self.http_port, self.grpc_port, only)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, model: str, protocol: str = "http") -> str:
        """The URL of a model; of the server itself if it is empty."""
        port = self.http_port if protocol == "http" else self.grpc_port
        return f"{protocol}://127.0.0.1:{port}/{model}".removesuffix("/")

    def start(self) -> None:
        """Start the process, and wait until its models are ready."""
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [str(self._program), "start", str(self._folder)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + _STARTUP
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"MLServer did not start:\n{self._log.read_text()[-4000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End the process at once; may be called more than once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=5)
        try:
            for name in self._models:
                connection.request("GET", f"/v2/models/{name}/ready")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    return False
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True


@contextlib.contextmanager
def mlserver_in(environment: Path, folder: Path, only: Collection[str] = ()) -> Iterator[MLServer]:
    """A running server, stopped at the end."""
    server = MLServer(environment, folder, only)
    server.start()
    try:
        yield server
    finally:
        server.kill()
