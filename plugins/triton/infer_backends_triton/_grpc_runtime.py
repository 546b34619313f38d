"""grpc and Triton's protobuf messages, imported without noise.

Importing this module loads grpc: only what runs after ``infer_backends_open`` may do so.

grpc reads ``GRPC_VERBOSITY`` once (at import; older releases, for the first channel), and by
default writes every refused certificate to stderr, where this library raises an error that says
the same. So it starts as if the variable were ``NONE``, unless the application has set it, or has
imported grpc before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_VERBOSITY = "GRPC_VERBOSITY"


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Have grpc, which is imported in this block, keep its log to itself."""
    if "grpc" in sys.modules or _VERBOSITY in os.environ:
        yield
        return
    os.environ[_VERBOSITY] = "NONE"
    try:
        yield
        sys.modules["grpc"].insecure_channel("ipv4:127.0.0.1:1").close()
    finally:
        os.environ.pop(_VERBOSITY, None)


with _quiet_import():
    import grpc
    from tritonclient.grpc import service_pb2

__all__ = ["grpc", "handle_at_fork", "ignore_at_fork", "service_pb2"]


def ignore_at_fork(channel: object) -> None:
    """Have grpc's own fork handlers, where they are on, leave this channel alone."""
    _call_if_there("fork_unregister_channel", channel)


def handle_at_fork(channel: object) -> None:
    """Undo :func:`ignore_at_fork`."""
    _call_if_there("fork_register_channel", channel)


def _call_if_there(function: str, channel: object) -> None:
    # No public function does this; a grpc that has none of this name has no such handlers.
    cygrpc = sys.modules.get("grpc._cython.cygrpc")
    found = getattr(cygrpc, function, None)
    if found is not None:
        found(channel)
