"""Loopback ports that stay ours, from before a server is started until after it has gone."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


class ReservedPort:
    """A free port of 127.0.0.1 that nobody else is given, and that our server can listen on.

    It is held by a socket that is bound but does not listen. With SO_REUSEADDR and SO_REUSEPORT
    set on both sides, Linux lets a server of the same user bind the port as well, while it gives
    the port to no one who asks for a free one; and a connection that comes while no server listens
    is refused.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((HOST, 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Give the port back; may be called more than once."""
        self._socket.close()
