"""The plugin of ``grpc:`` and ``grpcs:``. grpc itself is imported when the first URL is opened."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from infer_backends.plugin import (
    Backend,
    InvalidURL,
    MissingDependency,
    ModelURL,
    OpenOptions,
    Option,
    ServerBackend,
    hookimpl,
)
from infer_backends_triton._settings import TRITON_OPTIONS

INFER_BACKENDS_API = 1

_NEEDED = ("grpc", "google.protobuf", "tritonclient.grpc")
_INSTALL = "pip install 'infer-backends-triton[grpc]'"


@hookimpl
def infer_backends_open(url: ModelURL, options: OpenOptions) -> Backend:
    """Open the model that ``url`` names on a server that speaks gRPC."""
    _refuse_base_path(url)
    backend: Backend = import_backend(url.scheme).GrpcBackend.open(url, options)
    return backend


@hookimpl
def infer_backends_server(url: ModelURL, options: OpenOptions) -> ServerBackend:
    """Open a server that speaks gRPC, to control it."""
    _refuse_base_path(url)
    import_backend(url.scheme)  # the error says what to install
    from infer_backends_triton._server_grpc import open_server

    return open_server(url, options)


def _refuse_base_path(url: ModelURL) -> None:
    if url.base_path:
        raise InvalidURL(
            f"{url.location!r} has a base path, and gRPC has no way to ask for one: remove it, or "
            "use http://"
        )


@hookimpl
def infer_backends_options() -> Sequence[Option]:
    """The options of both protocols; gRPC has none of its own."""
    return TRITON_OPTIONS


@hookimpl
def infer_backends_check(scheme: str) -> None:
    """Raise ``MissingDependency`` if grpc, or tritonclient's part for it, is not installed."""
    missing = [name for name in _NEEDED if not _installed(name)]
    if missing:
        raise MissingDependency(f"{scheme}:// needs {', '.join(missing)}: {_INSTALL}")


def import_backend(scheme: str) -> Any:
    """The module that does the work, and needs grpc.

    Raises:
        MissingDependency: A package is missing, or too old.
    """
    try:
        from infer_backends_triton import _grpc_backend
    # tritonclient raises RuntimeError when grpc is missing, or older than what it was made for.
    except (ImportError, RuntimeError) as exc:
        raise MissingDependency(
            f"{scheme}:// needs packages that are missing or too old: {_INSTALL}"
        ) from exc
    return _grpc_backend


def _installed(name: str) -> bool:
    """Whether a module is there. Its parents are imported to find it, so they must be cheap."""
    try:
        return find_spec(name) is not None
    except ImportError:
        return False
