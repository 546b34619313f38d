"""The proxy of these tests does what it says: without a fault nothing, with one just that."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.faults.proxy import HOST, Fault, FaultProxy, fault_proxy
from tests.faults.servers import Background, Deaf, wait_until


class Upstream:
    """Sends back, in capitals, what it receives."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._echo, args=(sock,))
            self.threads.append(thread)
            thread.start()

    def _echo(self, sock: socket.socket) -> None:
        with sock:
            try:
                while piece := sock.recv(65536):
                    sock.sendall(piece.upper())
            except ConnectionError:
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    upstream = Upstream()
    with fault_proxy(upstream.port) as made:
        yield made
    upstream.close()


def connect(proxy: FaultProxy, timeout: float = 10.0) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=timeout)


def receive(sock: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length and (piece := sock.recv(65536)):
        received += piece
    return received


def test_without_a_fault_every_byte_passes(proxy: FaultProxy) -> None:
    sent = bytes(range(ord("a"), ord("z") + 1)) * 100_000
    with connect(proxy) as sock, Background(lambda: sock.sendall(sent)):
        assert receive(sock, len(sent)) == sent.upper()
    wait_until(lambda: proxy.open == 0)
    assert proxy.accepted == 1


def test_it_knows_what_clients_hold_open_though_the_server_takes_no_note(
    proxy: FaultProxy,
) -> None:
    proxy.set(Fault("request", pause=10))
    with connect(proxy) as sock:
        sock.sendall(b"abc")
        wait_until(lambda: proxy.open == 1)
    wait_until(lambda: proxy.open == 0)


def test_an_end_of_one_direction_is_passed_on(proxy: FaultProxy) -> None:
    with connect(proxy) as sock:
        sock.sendall(b"abc")
        sock.shutdown(socket.SHUT_WR)
        assert receive(sock, 100) == b"ABC"


def test_a_connection_can_end_after_so_many_bytes(proxy: FaultProxy) -> None:
    with connect(proxy) as sock:
        sock.sendall(b"first")
        assert receive(sock, 5) == b"FIRST"
        proxy.set(Fault("response", "close", after=3, instead=b"!"))
        sock.sendall(b"second")
        assert receive(sock, 100) == b"SEC!"
    proxy.restore()
    with connect(proxy) as sock:
        sock.sendall(b"third")
        assert receive(sock, 5) == b"THIRD"


def test_a_connection_can_be_reset_after_so_many_bytes(proxy: FaultProxy) -> None:
    proxy.set(Fault("response", "reset", after=2))
    with connect(proxy) as sock:
        sock.sendall(b"abc")
        with pytest.raises(ConnectionResetError):
            receive(sock, 100)


def test_what_is_swallowed_never_arrives_and_its_connection_ends_when_all_is_well_again(
    proxy: FaultProxy,
) -> None:
    proxy.set(Fault("request", "hang", after=1))
    with connect(proxy) as sock:
        sock.sendall(b"abc")
        assert receive(sock, 1) == b"A"
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        sock.settimeout(10)
        proxy.restore()
        with pytest.raises(ConnectionResetError):
            sock.recv(100)


def test_bytes_can_come_one_by_one_and_be_others(proxy: FaultProxy) -> None:
    proxy.set(Fault("response", pause=0.001, edit=lambda piece: piece.replace(b"B", b"xx")))
    with connect(proxy) as sock:
        sock.sendall(b"abc")
        assert [sock.recv(100) for _ in range(4)] == [b"A", b"x", b"x", b"C"]


def test_open_connections_can_be_dropped(proxy: FaultProxy) -> None:
    with connect(proxy) as sock, connect(proxy) as other:
        wait_until(lambda: proxy.open == 2)
        proxy.drop()
        for one in (sock, other):
            with pytest.raises(ConnectionResetError):
                one.recv(100)
    assert proxy.open == 0


def test_the_port_can_be_closed_and_opened_again(proxy: FaultProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.restore()
    with connect(proxy) as sock:
        sock.sendall(b"abc")
        assert receive(sock, 3) == b"ABC"


def test_a_host_can_vanish_and_come_back(proxy: FaultProxy) -> None:
    with connect(proxy) as sock:
        sock.sendall(b"abc")
        assert receive(sock, 3) == b"ABC"
        proxy.vanish()
        sock.sendall(b"abc")
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        with pytest.raises(TimeoutError):
            connect(proxy, timeout=0.3)
    proxy.restore()
    with connect(proxy) as sock:
        sock.sendall(b"abc")
        assert receive(sock, 3) == b"ABC"


def test_a_deaf_port_answers_no_syn() -> None:
    with Deaf() as deaf:
        with pytest.raises(TimeoutError):
            socket.create_connection((HOST, deaf.port), timeout=0.3)
