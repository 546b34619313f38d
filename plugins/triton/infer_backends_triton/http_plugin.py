"""The plugin for ``http``, ``https``, ``triton+http`` and ``triton+https``."""

from __future__ import annotations

from collections.abc import Sequence

from infer_backends.plugin import (
    Backend,
    ModelURL,
    OpenOptions,
    Option,
    ServerBackend,
    hookimpl,
)
from infer_backends_triton._settings import TRITON_OPTIONS

INFER_BACKENDS_API = 1


@hookimpl
def infer_backends_open(url: ModelURL, options: OpenOptions) -> Backend:
    """Open a model over HTTP."""
    from infer_backends_triton._http import HTTPBackend

    return HTTPBackend.open(url, options)


@hookimpl
def infer_backends_server(url: ModelURL, options: OpenOptions) -> ServerBackend:
    """Open a server over HTTP, to control it."""
    from infer_backends_triton._server_http import open_server

    return open_server(url, options)


@hookimpl
def infer_backends_options() -> Sequence[Option]:
    """The options that both Triton protocols take."""
    return TRITON_OPTIONS
