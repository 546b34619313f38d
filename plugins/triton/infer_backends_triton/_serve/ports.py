"""Loopback ports that stay ours, from before a server is started until after it has gone."""

from __future__ import annotations

import errno
import socket

from infer_backends.plugin import InvalidInput, Unavailable

HOST = "127.0.0.1"
_LAST = 65535


class ReservedPort:
    """A port of 127.0.0.1 that nobody else is given, and that our server can listen on.

    Args:
        wanted: Its number; None for a free one.

    Raises:
        InvalidInput: ``wanted`` is no port, or not one that this user may listen on.
        Unavailable: Something listens on ``wanted``, or has reserved it.

    It is held by a socket that is bound but does not listen. With SO_REUSEADDR and SO_REUSEPORT
    set on both sides, Linux lets a server of the same user bind the port as well, while it gives
    the port to no one who asks for a free one; and a connection that comes while no server listens
    is refused.

    Those options would let two servers of the same user share a port. So a port that is wanted is
    first bound without SO_REUSEPORT, which fails while something listens there; and each of us
    holds a name that only one socket can have, for as long as its own server does not listen yet.
    """

    def __init__(self, wanted: int | None = None) -> None:
        if wanted is not None:
            _require_usable(wanted)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind((HOST, wanted or 0))
            self.number: int = self._socket.getsockname()[1]
            # The leading zero puts it into the abstract namespace: no file, and gone with us.
            self._name.bind(f"\0infer-backends-port-{self.number}")
        except OSError as exc:
            self.release()
            raise _refusal(wanted, exc) from exc

    def release(self) -> None:
        """Give the port back; may be called more than once."""
        self._socket.close()
        self._name.close()


def check_ports(*wanted: int | None) -> None:
    """Raise ``InvalidInput`` unless each is a port, or None, and no two are the same."""
    numbers = [number for number in wanted if number is not None]
    for number in numbers:
        if type(number) is not int or not 1 <= number <= _LAST:
            raise InvalidInput(
                f"{number!r} is no port: expected an integer from 1 to {_LAST}, or None for a free "
                "port"
            )
    if len(set(numbers)) < len(numbers):
        raise InvalidInput(f"the port {numbers[0]} is given twice: HTTP and gRPC need one each")


def _require_usable(number: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections that a server before has closed are no reason to refuse.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, number))
        except OSError as exc:
            raise _refusal(number, exc) from exc


def _refusal(wanted: int | None, exc: OSError) -> InvalidInput | Unavailable:
    if wanted is None:
        return Unavailable(f"no free port of {HOST} could be reserved: {exc.strerror}")
    if exc.errno == errno.EADDRINUSE:
        return Unavailable(
            f"the port {wanted} of {HOST} is in use: end what listens there, or choose another port"
        )
    return InvalidInput(
        f"the port {wanted} of {HOST} cannot be used: {exc.strerror}; choose another port, from "
        "1024 on"
    )
