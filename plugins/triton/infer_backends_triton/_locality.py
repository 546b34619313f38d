"""Whether a server is on this machine, as far as its address says."""

from __future__ import annotations

import socket

from infer_backends.plugin import Deadline
from infer_backends_triton._http_dial import resolve
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._waiting import BLOCKING, run


def is_local(settings: ConnectionSettings, deadline: Deadline) -> bool:
    """Whether all the addresses of the server are addresses of this machine.

    A forwarded port looks as if the server were here.

    Raises:
        InferError: The name does not resolve within the time there is.
    """
    return all(
        _is_ours(family, (address[0], 0, *address[2:]))
        for family, address in run(resolve(settings, deadline, BLOCKING))
    )


def _is_ours(family: int, address: tuple[object, ...]) -> bool:
    """Only an address of this machine can be bound to. Nothing is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind(address)
    except OSError:
        return False
    return True
