"""The one place where the command reaches for Triton's distribution, which may not be installed.

The core imports no plugin, so ``LocalTriton`` is found by name when ``serve`` or ``demo`` runs.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from infer_backends._errors import MissingDependency

if TYPE_CHECKING:
    from typing_extensions import Self

_PACKAGE = "infer_backends_triton"


class LocalServer(Protocol):
    """What is used here of ``infer_backends_triton.LocalTriton``."""

    @property
    def http_url(self) -> str:
        """Where the server answers HTTP."""
        ...

    @property
    def grpc_url(self) -> str:
        """Where the server answers gRPC."""
        ...

    @property
    def pid(self) -> int | None:
        """The server's process, or None when it does not run."""
        ...

    @property
    def stop_timeout(self) -> float:
        """Seconds that the server may take to stop before it is killed."""
        ...

    def log_tail(self, lines: int = ...) -> str:
        """The last lines of the server's log."""
        ...

    def start(self) -> None:
        """Start the server, on the ports that it had before; returns when it is ready."""
        ...

    def stop(self) -> None:
        """Stop the server."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


Path = str | os.PathLike[str]
Models = Mapping[str, Path] | Sequence[Path] | Path


def local_triton(models: Models, **options: str | int | None) -> LocalServer:
    """A Triton on this machine that serves ``models`` once it is started.

    Args:
        models: The models.
        options: Keywords of ``LocalTriton``.

    Raises:
        MissingDependency: The distribution that has it is not installed.
    """
    try:
        package = importlib.import_module(_PACKAGE)
    except ModuleNotFoundError as exc:
        if exc.name != _PACKAGE:
            raise
        raise MissingDependency(
            "a local Triton needs the package infer-backends-triton: "
            "pip install 'infer-backends-triton[http,grpc,server]'"
        ) from exc
    server: LocalServer = package.LocalTriton(models, **options)
    return server
