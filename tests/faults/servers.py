"""The real Triton of these tests, what may happen to it, and the model that it serves.

The model ``m`` returns its input ``x`` as ``y``, FP32 [-1]; so whoever answers, each answer tells
whether it is the right one. A first value below zero has the server wait for so many seconds; an
infinite one has it answer that it is too busy.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from infer_backends_triton._local import LocalTriton

if TYPE_CHECKING:
    from typing_extensions import Self

_CODE = """\
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            if x.size and x.flat[0] < 0:
                time.sleep(-float(x.flat[0]))
            if x.size and x.flat[0] == float("inf"):
                busy = pb_utils.TritonError("too busy", pb_utils.TritonError.UNAVAILABLE)
                responses.append(pb_utils.InferenceResponse([], busy))
                continue
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
        return responses
"""

_CONFIG = """\
name: "m"
backend: "python"
max_batch_size: 0
input [ {{ name: "x" data_type: TYPE_FP32 dims: {dims} }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: {dims} }} ]
instance_group [ {{ kind: KIND_CPU count: 2 }} ]
"""


def write_onnx(path: Path) -> Path:
    """The same model as a file for onnxruntime."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "m", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.save(model, path)
    return path


def wait_until(condition: Callable[[], object], within: float = 30.0) -> None:
    """Wait for a condition; fail when it does not come."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within} s"
        time.sleep(0.005)


class Server:
    """A Triton that can be hurt, on ports that stay the same.

    Args:
        folder: Where its model repository is written.
        environment: The Python environment that it runs from.
    """

    def __init__(self, folder: Path, environment: Path) -> None:
        self._repository = folder
        self._hung: list[int] = []
        self.write()
        self.triton = LocalTriton(
            folder,
            environment=environment,
            arguments=[
                "--disable-auto-complete-config",
                "--model-control-mode=explicit",
                "--load-model=m",
            ],
            startup_timeout=120,
        )

    def url(self, protocol: str) -> str:
        """The model's URL over ``http`` or ``grpc``."""
        return f"{self.triton.http_url if protocol == 'http' else self.triton.grpc_url}/m"

    def port(self, protocol: str) -> int:
        """The port for ``http`` or ``grpc``."""
        return self.triton.ports.http if protocol == "http" else self.triton.ports.grpc

    def start(self) -> None:
        """Start it, and wait until it is ready; no-op if it runs."""
        self.triton.start()

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        self.triton.kill()

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self.triton.stop()

    def hang(self) -> None:
        """SIGSTOP: connections are accepted by the system, and nobody answers."""
        pid = self.triton.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        self._hung.append(pid)
        # Its threads stop one by one.
        wait_until(lambda: states_of_threads(pid) <= {"T"})

    def resume(self) -> None:
        """SIGCONT, after :meth:`hang`."""
        while self._hung:
            pid = self._hung.pop()
            if pid == self.triton.pid:
                os.kill(pid, signal.SIGCONT)

    def write(self, dims: str = "[ -1 ]", comment: str = "") -> None:
        """Put this model into the repository; it is not loaded yet."""
        version = self._repository / "m" / "1"
        version.mkdir(parents=True, exist_ok=True)
        (version / "model.py").write_text(f"# {comment}\n{_CODE}")
        (self._repository / "m" / "config.pbtxt").write_text(_CONFIG.format(dims=dims))

    def load(self) -> None:
        """Load the model as it is in the repository now; no-op for one that was not changed."""
        assert self._ask("POST", "/v2/repository/models/m/load") == 200

    def unload(self) -> None:
        """Unload the model, and wait until it is gone."""
        assert self._ask("POST", "/v2/repository/models/m/unload") == 200
        wait_until(lambda: not self.is_ready())

    def is_ready(self) -> bool:
        """Whether the model would answer."""
        return self._ask("GET", "/v2/models/m/ready") == 200

    def make_right(self) -> None:
        """Undo whatever a test did."""
        self.resume()
        changed = "[ -1 ]" not in (self._repository / "m" / "config.pbtxt").read_text()
        if changed:
            self.write()
        if self.triton.pid is None:
            self.start()
        if changed or not self.is_ready():
            self.load()

    def end(self) -> None:
        """Stop it for good."""
        self.resume()
        self.triton.kill()
        shutil.rmtree(self._repository)

    def children(self) -> set[int]:
        """Processes of ours that belong to the server."""
        run = self.triton._run
        return {run.process._supervisor.pid} if run else set()

    def descriptors(self) -> set[int]:
        """Descriptors of ours that belong to the server."""
        run = self.triton._run
        return {run.process._input.fileno(), run.process._output.fileno()} if run else set()

    def _ask(self, method: str, path: str) -> int:
        request = urllib.request.Request(
            f"{self.triton.http_url}{path}", json.dumps({}).encode(), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return int(response.status)
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code


def states_of_threads(pid: int) -> set[str]:
    """What the threads of a process are doing, as /proc has it."""
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats}


class Deaf:
    """A port whose queue of connections is full: a SYN to it is not answered."""

    def __init__(self) -> None:
        self._sockets = [socket.create_server(("127.0.0.1", 0), backlog=0)]
        self.port: int = self._sockets[0].getsockname()[1]
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._sockets.append(filler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()


class Background:
    """Does something in a thread; ``with`` waits for its end, and raises what it raised."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def done(self) -> bool:
        """Whether it has come to its end."""
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._thread.join(60)
        assert self.done
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            self._action()
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            self._error = exc
