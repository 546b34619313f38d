"""What differs between the two protocols for ``TritonRemoteModel``; each is imported when used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any
from typing import Protocol as TypingProtocol

from infer_backends.plugin import (
    Backend,
    MissingDependency,
    ModelNotFound,
    ModelURL,
    OpenOptions,
)
from infer_backends_triton._discovery import is_ready
from infer_backends_triton._settings import ConnectionSettings


class Protocol(TypingProtocol):
    """One way to reach a Triton server."""

    def open(self, url: ModelURL, options: OpenOptions) -> Backend:
        """The backend for a model."""
        ...

    def first_model(self, url: ModelURL, options: OpenOptions) -> str:
        """The name of the first model that is ready."""
        ...

    def tritonclient(self) -> Any:
        """Tritonclient's module for this protocol."""
        ...

    def make_client(self, settings: ConnectionSettings, url: str, timeout: float) -> Any:
        """Tritonclient's client for this protocol."""
        ...


class _HTTP:
    """HTTP, for ``http`` and ``https``."""

    def open(self, url: ModelURL, options: OpenOptions) -> Backend:
        from infer_backends_triton.http_plugin import infer_backends_open

        backend: Backend = infer_backends_open(url, options)
        return backend

    def first_model(self, url: ModelURL, options: OpenOptions) -> str:
        from infer_backends_triton._http import list_models

        return _first_ready(list_models(url, options), url)

    def tritonclient(self) -> Any:
        try:
            import tritonclient.http as module
        # tritonclient raises RuntimeError where a package is missing.
        except (ImportError, RuntimeError) as exc:
            raise _missing("http") from exc
        return module

    def make_client(self, settings: ConnectionSettings, url: str, timeout: float) -> Any:
        module = self.tritonclient()
        return module.InferenceServerClient(
            url=url,
            ssl=settings.secure,
            ssl_context_factory=_gevent_context(settings) if settings.secure else None,
            connection_timeout=settings.connect_timeout,
            network_timeout=timeout,
        )


class _GRPC:
    """gRPC, for ``grpc`` and ``grpcs``."""

    def open(self, url: ModelURL, options: OpenOptions) -> Backend:
        from infer_backends_triton.grpc_plugin import infer_backends_open

        backend: Backend = infer_backends_open(url, options)
        return backend

    def first_model(self, url: ModelURL, options: OpenOptions) -> str:
        from infer_backends_triton.grpc_plugin import import_backend

        backend = import_backend(url.scheme)
        return _first_ready(backend.list_models(url, options), url)

    def tritonclient(self) -> Any:
        from infer_backends_triton.grpc_plugin import import_backend

        # First of all, so that grpc comes in without noise.
        import_backend("grpc")
        import tritonclient.grpc as module

        return module

    def make_client(self, settings: ConnectionSettings, url: str, timeout: float) -> Any:  # noqa: ARG002 - each call of this client takes its own
        module = self.tritonclient()
        from infer_backends_triton._grpc_endpoint import channel_options
        from infer_backends_triton._grpc_tls import channel_credentials

        return module.InferenceServerClient(
            url=url,
            creds=channel_credentials(settings),
            channel_args=channel_options(settings),
        )


PROTOCOLS: Mapping[str, Protocol] = {
    "http": _HTTP(),
    "https": _HTTP(),
    "grpc": _GRPC(),
    "grpcs": _GRPC(),
}


def _first_ready(index: Iterable[Mapping[str, Any]], url: ModelURL) -> str:
    for entry in index:
        name = entry.get("name")
        if is_ready(entry) and isinstance(name, str) and name:
            return name
    raise ModelNotFound(f"no model is ready at {url.location}")


def _gevent_context(settings: ConnectionSettings) -> Any:
    """What makes the TLS context of a gevent client: gevent's sockets want one of its own."""
    gevent_ssl = import_module("gevent.ssl")

    def make(**_: Any) -> Any:
        context = gevent_ssl.create_default_context(cafile=settings.ca)
        if settings.cert is not None:
            context.load_cert_chain(settings.cert, settings.key, password="")
        return context

    return make


def _missing(extra: str) -> MissingDependency:
    return MissingDependency(
        f"tritonclient's part for {extra} is not installed: pip install "
        f"'infer-backends-triton[{extra}]'"
    )
