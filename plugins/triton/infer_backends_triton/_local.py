"""A real Triton on this machine, from the wheel nvidia-pytriton; no GPU, no container."""

from __future__ import annotations

import http.client
import os
import platform
import socket
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from infer_backends.plugin import DeadlineExceeded, InvalidInput, Unavailable
from infer_backends_triton._serve.control import control_arguments
from infer_backends_triton._serve.environment import Environment, check_system, find_environment
from infer_backends_triton._serve.log import last_errors
from infer_backends_triton._serve.models import (
    Models,
    Repository,
    Sources,
    StrPath,
    parse_models,
)
from infer_backends_triton._serve.ports import HOST, ReservedPort, check_ports
from infer_backends_triton._serve.run import GRACE, Run
from infer_backends_triton._serve.wrapper import read_signatures, write_model

if TYPE_CHECKING:
    from typing_extensions import Self

_POLL = 0.02  # seconds between questions whether the server is ready
_TAIL = 20  # lines of the log in an error
#: What every server is told; the ports and folders come on top. Ports can be shared with the socket
#: that holds them for us.
_OPTIONS = {
    "http-address": HOST,
    "reuse-http-port": 1,
    "grpc-address": HOST,
    "reuse-grpc-port": 1,
    "metrics-address": HOST,
    "allow-gpu-metrics": 0,
    "exit-timeout-secs": int(GRACE) - 1,
}
_OURS = {"model-repository", "backend-directory", "http-port", "grpc-port", "metrics-port"}


class Ports(NamedTuple):
    """The server's ports on 127.0.0.1."""

    http: int
    grpc: int
    metrics: int


class LocalTriton:
    """A Triton Inference Server that runs on this machine for as long as it is wanted.

    It listens on 127.0.0.1, on ports that it keeps from one start to the next. It is stopped, with
    all its processes, files and shared memory, at the end of the ``with`` block, by :meth:`stop`,
    when this object is collected, and when this process ends, even by SIGKILL. A forked child
    neither owns nor stops it. Methods may be called by several threads.

    Args:
        models: What to serve: the path of a Triton model repository or of an ``.onnx`` file; a
            list of ``.onnx`` files and Triton model folders, named after their files; or a mapping
            of names to those. An ONNX file keeps its shapes (a tensor of rank 0, which Triton
            does not have, becomes ``[1]``) and is run by onnxruntime on the CPU.
        environment: The folder of the Python environment that the server runs from, with
            nvidia-pytriton 0.7, NumPy 1.x and whatever the models import (onnxruntime for ONNX
            files). None: what the variable ``INFER_BACKENDS_TRITON_ENVIRONMENT`` says, or the
            current environment.
        arguments: More arguments for tritonserver, such as ``--log-verbose=1``.
        startup_timeout: Seconds that the server has to become ready.
        http_port: The port for HTTP, from 1 to 65535; None for a free one.
        grpc_port: The port for gRPC, likewise.
        model_control: Who says which models are loaded: ``none`` (nobody, all of them are),
            ``explicit`` (all of them are at the start; clients may load and unload them, see
            :func:`infer_backends.open_server`) or ``poll`` (what is in the repository, looked at
            again and again). None for Triton's own choice, which is ``none``.

    Raises:
        InvalidInput: ``models`` names something that is missing or cannot be served,
            ``arguments`` has one that is chosen here, a port is not one that can be used, or
            ``model_control`` is no mode.
        Unavailable: A port that is asked for is in use.
        UnsupportedOperation: This is not Linux on x86-64.

    Example::

        with LocalTriton({"digits": "digits.onnx"}) as server:
            model = open_model(f"{server.grpc_url}/digits")
    """

    def __init__(
        self,
        models: Models,
        *,
        environment: StrPath | None = None,
        arguments: Sequence[str] = (),
        startup_timeout: float = 60.0,
        http_port: int | None = None,
        grpc_port: int | None = None,
        model_control: str | None = None,
    ) -> None:
        check_system(sys.platform, platform.machine())
        check_ports(http_port, grpc_port)
        self._models = parse_models(models)
        self._environment = environment
        self._arguments = (
            *control_arguments(model_control, arguments),
            *_check_arguments(arguments),
        )
        self._startup_timeout = startup_timeout
        self._lock = threading.RLock()
        self._run: Run | None = None
        self._last_log = ""
        self._reserved: list[ReservedPort] = []
        for wanted in (http_port, grpc_port, None):
            port = ReservedPort(wanted)
            weakref.finalize(self, port.release)
            self._reserved.append(port)
        self._ports = Ports(*(port.number for port in self._reserved))
        _LIVE.add(self)

    @property
    def ports(self) -> Ports:
        """The ports; ours from the beginning, whether or not the server runs."""
        return self._ports

    @property
    def http_url(self) -> str:
        """The URL of the server over HTTP, without a model."""
        return f"http://{HOST}:{self._ports.http}"

    @property
    def grpc_url(self) -> str:
        """The URL of the server over gRPC, without a model; ``grpcs`` if it was given TLS."""
        tls = any(argument.startswith("--grpc-use-ssl") for argument in self._arguments)
        return f"grpc{'s' if tls else ''}://{HOST}:{self._ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """The address of the server's metrics."""
        return f"http://{HOST}:{self._ports.metrics}/metrics"

    @property
    def pid(self) -> int | None:
        """The server's process, or None when it does not run."""
        with self._lock:
            run = self._run
            return run.process.pid if run and run.process.wait(0) is None else None

    @property
    def log_path(self) -> Path | None:
        """The file that the server writes its log to, or None when it was stopped."""
        run = self._run
        return run.log if run else None

    def log_tail(self, lines: int = _TAIL) -> str:
        """The last lines of the server's log; of the last run, when it was stopped."""
        with self._lock:
            text = self._run.read_log() if self._run else self._last_log
        return "\n".join(text.splitlines()[-lines:])

    def start(self) -> None:
        """Start the server and wait until it and its models are ready; no-op if it runs.

        Raises:
            UnsupportedOperation: Triton cannot run on this system, with this Python or NumPy, or
                with a tensor of an ONNX file.
            MissingDependency: A package is missing in the server's environment.
            InvalidInput: An ONNX file that onnxruntime cannot load.
            Unavailable: The server ended instead; the message has its log's last lines.
            DeadlineExceeded: It was not ready in time; so has this one.
        """
        with self._lock:
            if self.pid is not None:
                return
            self.stop()
            environment = find_environment(self._environment)
            self._run = Run(environment)
            try:
                repository = self._make_repository(self._run, environment)
                command = self._command(self._run, repository)
                self._run.launch(command, environment)
                self._wait_until_ready(self._run)
            except BaseException:
                self._end("kill")
                raise

    @property
    def stop_timeout(self) -> float:
        """Seconds from the request to stop until what is left of the server is killed."""
        return GRACE

    def stop(self) -> None:
        """Let calls in flight finish, and end the server; no-op if it does not run.

        Triton takes no new HTTP connections, but answers on those that are open, idle ones too,
        until their clients close them. Then it unloads its models, which takes about three
        seconds, and a client is told that a model is not there. What is left after 5 seconds
        (:attr:`stop_timeout`) is killed. :meth:`kill` does not wait.
        """
        self._end("stop")

    def kill(self) -> None:
        """End the server at once with SIGKILL, as a crash would."""
        self._end("kill")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.pid is not None else "stopped"
        return f"<LocalTriton {self.http_url} {self.grpc_url} {state}>"

    def _end(self, how: str) -> None:
        with self._lock:
            if self._run is not None:
                run, self._run = self._run, None
                self._last_log = run.end(how)

    def _make_repository(self, run: Run, environment: Environment) -> Path:
        repository = run.workspace / "models"
        if isinstance(self._models, Repository):
            path = self._models.path
            if not any(character.isspace() for character in str(path)):
                return path
            # The Python backend's own command line is taken apart at spaces.
            repository.symlink_to(path, target_is_directory=True)
            return repository
        repository.mkdir()
        paths, files = self._models.paths, self._models.onnx
        signatures = read_signatures(list(files.values()), environment)
        threads = len(os.sched_getaffinity(0))
        for (name, path), signature in zip(files.items(), signatures, strict=True):
            write_model(repository / name, name, path, signature, threads)
        for name in paths.keys() - files.keys():
            (repository / name).symlink_to(paths[name], target_is_directory=True)
        return repository

    def _command(self, run: Run, repository: Path) -> list[str]:
        options = {
            "model-repository": repository,
            "backend-directory": run.workspace / "backends",
            "backend-config": f"python,shm-region-prefix-name={run.shm_prefix}",
            "http-port": self._ports.http,
            "grpc-port": self._ports.grpc,
            "metrics-port": self._ports.metrics,
            **_OPTIONS,
        }
        command = [f"--{name}={value}" for name, value in options.items()]
        if isinstance(self._models, Sources) and self._models.onnx == self._models.paths:
            # Their configurations are complete; to complete them, each would be started twice.
            command.append("--disable-auto-complete-config")
        return [*command, *self._arguments]

    def _wait_until_ready(self, run: Run) -> None:
        end = time.monotonic() + self._startup_timeout
        while True:
            status = run.process.wait(_POLL)
            if status is not None:
                raise Unavailable(
                    f"the local Triton could not start (exit status {status}); its log says:\n"
                    f"{last_errors(run.read_log(), _TAIL)}"
                )
            if _is_ready(self._ports.http) and self._has_metrics():
                return
            if time.monotonic() >= end:
                raise DeadlineExceeded(
                    f"the local Triton was not ready after {self._startup_timeout:g} s; give a "
                    f"larger startup_timeout, or see why in its log, which ends:\n{self.log_tail()}"
                )

    def _has_metrics(self) -> bool:
        """Whether the metrics, which the server begins to serve last of all, are there."""
        off = {"--allow-metrics=0", "--allow-metrics=false", "--allow-metrics=False"}
        if off & set(self._arguments):
            return True
        try:
            socket.create_connection((HOST, self._ports.metrics), timeout=2.0).close()
        except OSError:
            return False
        return True

    def forget(self) -> None:
        """In a forked child: the server and the ports are the parent's."""
        self._lock = threading.RLock()  # a thread that is not here may have held it
        for port in self._reserved:
            port.release()
        if self._run is not None:
            self._run.forget()
            self._run = None


def _check_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    for argument in arguments:
        if argument.partition("=")[0].removeprefix("--") in _OURS | _OPTIONS.keys():
            raise InvalidInput(
                f"{argument.partition('=')[0]} is chosen by LocalTriton: leave it out"
            )
    return tuple(arguments)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2.0)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _forget_all() -> None:
    for server in list(_LIVE):
        server.forget()


_LIVE: weakref.WeakSet[LocalTriton] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
