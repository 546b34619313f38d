"""What a fallback asks of a member while its server is unloaded, hung, dead or back again."""

from __future__ import annotations

import json
import os
import signal
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    InferRequest,
    ModelMetadata,
    ModelNotFound,
    ModelURL,
    SupportsDescription,
    SupportsReadiness,
    Unavailable,
)
from infer_backends_triton import LocalTriton
from infer_backends_triton._grpc_backend import GrpcBackend
from infer_backends_triton._http_dial import dial
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._waiting import run
from tests.conftest import Protocol
from tests.servers import repository
from tests.triton import http_faults
from tests.triton.endpoints import (
    TritonBackend,
    black_hole,
    full_backlog,
    opened_at,
    silent_server,
)
from tests.triton.http_faults import default_options


@pytest.fixture(scope="module")
def server(
    triton_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalTriton]:
    """A Triton of this module's own, whose models are loaded and unloaded when it is told to."""
    models = tmp_path_factory.mktemp("standby") / "models"
    repository.write_repository(models, only={"identity_1d", "labels", "delayed"})
    arguments = ["--disable-auto-complete-config", "--model-control-mode=explicit"]
    arguments += [f"--load-model={model.name}" for model in models.iterdir()]
    with LocalTriton(
        models, environment=triton_environment, arguments=arguments, startup_timeout=120
    ) as running:
        yield running


@pytest.fixture
def url(server: LocalTriton, protocol: Protocol) -> str:
    """The URL of the server over each protocol, without a model; the server runs."""
    server.start()
    return server.http_url if protocol == "http" else server.grpc_url


def control(server: LocalTriton, model: str, action: str, config: object = None) -> None:
    """Have the server load a model, with another configuration if one is given, or unload it."""
    parameters = {"config": json.dumps(config)} if config else {}
    urllib.request.urlopen(
        f"{server.http_url}/v2/repository/models/{model}/{action}",
        json.dumps({"parameters": parameters}).encode(),
        timeout=60,
    ).close()


@contextmanager
def hung(server: LocalTriton) -> Iterator[None]:
    """The server does nothing, and its system goes on taking connections for it."""
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + 30
    # Its threads stop one by one.
    while thread_states(pid) != {"T"}:
        assert time.monotonic() < end
        time.sleep(0.005)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def thread_states(pid: int) -> set[str]:
    """What the system says of each thread of a process: ``T`` is stopped (proc_pid_stat(5))."""
    stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def request(deadline: Deadline) -> InferRequest:
    return InferRequest({"INPUT": np.array([1, 2], np.float32)}, None, deadline)


def works(backend: TritonBackend) -> bool:
    outputs = backend.infer(request(Deadline.after(30))).outputs
    return bool(outputs["OUTPUT"].tolist() == [1, 2])


def kept_connections(backend: TritonBackend) -> int:
    """How many connections a backend has, which no call is using."""
    if isinstance(backend, GrpcBackend):
        links = backend._connection._links.all
        assert not any(link.calls for link in links)
        return len(links)
    pool = backend._server._pool
    assert not pool._busy
    return len(pool._idle)


@pytest.mark.parametrize("model", ["identity_1d", "labels"])
def test_a_model_is_described_as_it_was_when_it_was_opened(url: str, model: str) -> None:
    with opened_at(f"{url}/{model}") as backend:
        assert isinstance(backend, SupportsDescription)
        assert isinstance(backend, SupportsReadiness)
        assert backend.describe(Deadline.after(30)) == backend.metadata
        assert kept_connections(backend) == 1


def test_a_model_is_followed_through_unloading_and_reloading(server: LocalTriton, url: str) -> None:
    before: ModelMetadata
    with opened_at(f"{url}/labels") as backend:
        before = backend.metadata
        control(server, "labels", "unload")
        try:
            assert backend.ready(Deadline.after(30)) is False
            with pytest.raises(ModelNotFound) as caught:
                backend.describe(Deadline.after(30))
            assert not caught.value.unprocessed
            control(server, "labels", "load", labels_of_size(5))
            assert backend.ready(Deadline.after(30)) is True
            now = backend.describe(Deadline.after(30))
            assert [spec.shape for spec in (*now.inputs, *now.outputs)] == [(-1, 5), (-1, 5)]
            assert (now.max_batch_size, before.max_batch_size) == (2, 8)
            assert backend.metadata == before
        finally:
            # Loading it once more would keep the other configuration.
            control(server, "labels", "unload")
            control(server, "labels", "load")
        assert backend.describe(Deadline.after(30)) == before


def labels_of_size(size: int) -> dict[str, Any]:
    tensor = {"data_type": "TYPE_FP32", "dims": [size]}
    return {
        "backend": "python",
        "max_batch_size": 2,
        "input": [{"name": "INPUT", **tensor}],
        "output": [{"name": "OUTPUT", **tensor}],
    }


def test_a_hung_server_is_not_ready_by_the_deadline_and_no_connection_is_kept(
    server: LocalTriton, url: str
) -> None:
    with opened_at(f"{url}/identity_1d") as backend:
        assert works(backend)
        with hung(server):
            for _ in range(3):
                assert backend.ready(Deadline.after(0.2)) is False
                assert kept_connections(backend) == 0
            assert backend.ready(Deadline.after(0)) is False
            with pytest.raises(DeadlineExceeded):
                backend.describe(Deadline.after(0.2))
        assert backend.ready(Deadline.after(30)) is True
        assert works(backend)
        assert kept_connections(backend) == 1


def test_a_server_that_is_back_is_found_by_the_next_probe(server: LocalTriton, url: str) -> None:
    with opened_at(f"{url}/identity_1d") as backend:
        server.kill()
        for _ in range(5):
            assert backend.ready(Deadline.after(5)) is False
        with pytest.raises(Unavailable) as caught:
            backend.infer(request(Deadline.after(5)))
        assert caught.value.unprocessed
        with pytest.raises(Unavailable):
            backend.describe(Deadline.after(5))
        server.start()
        # One probe each, at once: no back-off stands in the way.
        assert backend.ready(Deadline.after(5)) is True
        assert works(backend)


class Bell:
    """An alarm that remembers whether the deadline had passed when it was rung."""

    def __init__(
        self, timeout: float = 1.5, due: float = 0.1, then: Callable[[], object] = bool
    ) -> None:
        self.rung: list[bool] = []
        self.deadline = Deadline.after(timeout).with_alarm(due, self._ring)
        self._then = then

    def _ring(self) -> None:
        self.rung.append(self.deadline.expired)
        self._then()

    @property
    def rang_in_time(self) -> bool:
        return self.rung == [False]


def test_an_alarm_rings_while_a_call_waits_for_a_hung_server(server: LocalTriton, url: str) -> None:
    with opened_at(f"{url}/identity_1d") as backend:
        assert works(backend)
        bell = Bell()
        with hung(server):
            with pytest.raises(DeadlineExceeded) as caught:
                backend.infer(request(bell.deadline))
        assert bell.rang_in_time
        assert not caught.value.unprocessed
        assert kept_connections(backend) == 0
        assert works(backend)


def test_a_slow_answer_is_taken_after_the_alarm_rang(url: str) -> None:
    with opened_at(f"{url}/delayed") as backend:
        bell = Bell(timeout=30)
        slow = request(bell.deadline)
        slow.inputs["SECONDS"] = np.array([0.5], np.float32)
        assert backend.infer(slow).outputs["OUTPUT"].tolist() == [1, 2]
        assert bell.rang_in_time


def test_a_quick_answer_rings_no_alarm(url: str) -> None:
    with opened_at(f"{url}/identity_1d") as backend:
        bell = Bell(timeout=30, due=20)
        assert backend.infer(request(bell.deadline)).outputs["OUTPUT"].tolist() == [1, 2]
        assert bell.rung == []
        assert bell.deadline.alarmed


@pytest.mark.parametrize(
    ("scheme", "hole"),
    [
        ("http", silent_server),
        ("http", black_hole),
        ("https", silent_server),
        ("https", black_hole),
        ("grpc", silent_server),
        ("grpc", black_hole),
    ],
)
def test_an_alarm_rings_while_a_call_waits_to_connect(
    scheme: str, hole: Callable[[], AbstractContextManager[int]]
) -> None:
    bell = Bell(timeout=2)
    with hole() as port, pytest.raises(InferError):
        with opened_at(
            f"{scheme}://127.0.0.1:{port}/m", deadline=bell.deadline, connect_timeout=0.5
        ):
            raise AssertionError("nobody answers there")
    assert bell.rang_in_time


def test_a_connection_that_is_made_after_the_alarm_rang_is_used() -> None:
    with full_backlog() as listener, ExitStack() as accepted:
        listener.settimeout(5)
        # Room for one more; the system tries again in a second.
        bell = Bell(timeout=30, then=lambda: accepted.enter_context(listener.accept()[0]))
        url = ModelURL.parse(f"http://127.0.0.1:{listener.getsockname()[1]}/m")
        options = default_options(connect_timeout=25.0)
        run(dial(ConnectionSettings.read(url, options), None, bell.deadline)).close()
    assert bell.rang_in_time


@pytest.mark.parametrize("size", [2, 300_000])
def test_a_call_over_tls_goes_on_after_the_alarm_rang(tmp_path: Path, size: int) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    rung = threading.Event()

    def answer_late(sock: Any, received: http_faults.Request) -> None:
        assert rung.wait(20)
        http_faults.echo(sock, received)

    with http_faults.faulty_server(answer_late, tls=context) as faulty:
        with http_faults.opened(faulty.url, ca=str(tmp_path / "ca.pem")) as backend:
            call = http_faults.a_request(np.arange(size))
            call.deadline = call.deadline.with_alarm(0.05, rung.set)
            outputs = backend.infer(call).outputs
    np.testing.assert_array_equal(outputs["y"], np.arange(size, dtype=np.float32))
