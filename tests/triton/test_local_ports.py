"""A local Triton listens where it is told to, or says why it cannot."""

from __future__ import annotations

import errno
import http.client
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infer_backends.plugin import InvalidInput, Unavailable
from infer_backends_triton._local import LocalTriton
from infer_backends_triton._serve.ports import HOST, ReservedPort, _refusal
from tests.servers import repository


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository.write_repository(tmp_path_factory.mktemp("small"), {"identity_fp32"})


@pytest.fixture
def port() -> int:
    """The number of a port that is free."""
    return free_port()


def free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


@pytest.fixture(params=["ordinary", "shareable"])
def listener(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port on which another program listens, be it ready to share it or not."""
    with socket.socket() as other:
        if request.param == "shareable":
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((HOST, 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_server_listens_on_the_ports_it_was_given_and_again_at_once_after_a_stop(
    models: Path, triton_environment: Path
) -> None:
    http_port, grpc_port = free_port(), free_port()
    for _ in range(2):
        server = LocalTriton(
            models, environment=triton_environment, http_port=http_port, grpc_port=grpc_port
        )
        with server, socket.create_connection((HOST, grpc_port), timeout=10):
            assert (server.ports.http, server.ports.grpc) == (http_port, grpc_port)
            ready = f"http://127.0.0.1:{http_port}/v2/health/ready"
            with urllib.request.urlopen(ready) as response:
                assert response.status == 200
        del server


def is_answered(client: http.client.HTTPConnection) -> bool:
    try:
        client.request("GET", "/v2/health/live")
        client.getresponse().read()
    except (http.client.HTTPException, OSError):
        return False
    return True


def test_an_open_connection_is_answered_until_the_server_is_ended(
    models: Path, triton_environment: Path
) -> None:
    with LocalTriton(models, environment=triton_environment) as server:
        assert server.stop_timeout == 5.0
        client = http.client.HTTPConnection(HOST, server.ports.http, timeout=30)
        assert is_answered(client)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        answered = 0
        while is_answered(client):
            answered += 1
        stopping.join()
        client.close()
        assert answered
        assert server.pid is None


@pytest.mark.parametrize("which", ["http_port", "grpc_port"])
def test_a_port_on_which_something_listens_is_refused_before_a_server_starts(
    models: Path, listener: int, which: str
) -> None:
    with pytest.raises(Unavailable, match=f"the port {listener} of 127.0.0.1 is in use: end what"):
        LocalTriton(models, **{which: listener})  # type: ignore[arg-type]


def test_a_port_that_another_has_reserved_is_refused_until_it_lets_go(
    models: Path, port: int
) -> None:
    first = LocalTriton(models, http_port=port)
    with pytest.raises(Unavailable, match="in use"):
        LocalTriton(models, http_port=port)
    del first
    assert LocalTriton(models, http_port=port).ports.http == port


def test_a_free_port_of_one_is_in_use_for_another() -> None:
    reserved = ReservedPort()
    with pytest.raises(Unavailable, match="in use"):
        ReservedPort(reserved.number)
    reserved.release()
    ReservedPort(reserved.number).release()


@pytest.mark.parametrize("wrong", [0, -1, 65536, True, "8000", 8000.0])
def test_what_is_no_port_is_refused(models: Path, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="is no port: expected an integer from 1 to 65535"):
        LocalTriton(models, grpc_port=wrong)


def test_one_port_for_both_protocols_is_refused(models: Path, port: int) -> None:
    with pytest.raises(InvalidInput, match=f"the port {port} is given twice"):
        LocalTriton(models, http_port=port, grpc_port=port)


def test_the_system_s_refusals_are_told_apart() -> None:
    denied = _refusal(80, PermissionError(errno.EACCES, "Permission denied"))
    assert isinstance(denied, InvalidInput)
    assert "the port 80 of 127.0.0.1 cannot be used: Permission denied" in str(denied)
    none = _refusal(None, OSError(errno.EADDRINUSE, "Address already in use"))
    assert isinstance(none, Unavailable)
    assert "no free port of 127.0.0.1 could be reserved" in str(none)
