"""From a URL to a Server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from infer_backends._chosen import choose
from infer_backends._errors import InvalidURL
from infer_backends._options import CORE_OPTIONS
from infer_backends._server import Server
from infer_backends._url import ModelURL, split_urls

_SEVERAL = "open_server takes the URL of one server: open each of several by itself"
#: The options of the core that mean nothing to a server.
_OF_MODELS = {option.name for option in CORE_OPTIONS} - {"auth", "connect_timeout", "timeout"}


def open_server(
    url: str | os.PathLike[str] | ModelURL,
    *,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> Server:
    """Open the server at a URL, to look at its models, and to load and unload them.

    Nothing is sent: the first call connects. So a server that is not there yet can be waited for
    with :meth:`Server.live`.

    Args:
        url: Where the server is, as ``http://host:8000`` or ``grpc://host:8001``, without a model.
            Options that are about models alone, such as ``coerce``, may stand in it and mean
            nothing.
        headers: Headers (gRPC: metadata) for every request.
        **options: What could also stand in the URL as ``?name=value``: ``timeout`` (seconds for
            one call, 60 by default), ``connect_timeout`` (seconds), ``auth``, and the options of
            the protocol, such as ``ca``.

    Returns:
        The server.

    Raises:
        InvalidURL: The URL or an option is wrong, or the URL names a model.
        UnsupportedOperation: Models of this scheme are on no server, or none that can be
            controlled.
        PluginError: No plugin serves the scheme, or it is broken, or lacks a dependency.

    Example:
        >>> with open_server("grpc://gpu-box:8001") as server:  # doctest: +SKIP
        ...     server.load("digits")
    """
    parsed = _parse(url)
    given = {name: value for name, value in options.items() if value is not None}
    for name in sorted(given.keys() & _OF_MODELS):
        raise InvalidURL(f"the option {name!r} is about a model, and has no meaning for a server")
    chosen = choose(parsed, given, headers)
    chosen.plugin.require_servers(parsed.scheme)
    _require_no_model(parsed)
    if chosen.options.core["host"]:
        raise InvalidURL("host= names more servers, and this is about one: open each by itself")
    return Server(
        chosen.plugin.open_server(chosen.url, chosen.options),
        chosen.url.location,
        timeout=chosen.options.core["timeout"],
        reopen=(_reopen, (parsed, headers, given)),
    )


def split_model(url: ModelURL) -> tuple[ModelURL, str | None, str | None]:
    """The server's URL, and the model and the version that the URL names besides, if any."""
    return replace(url, model=None, version=None), url.model, url.version


def _parse(url: object) -> ModelURL:
    if isinstance(url, str) and len(split_urls(url)) > 1:
        raise InvalidURL(_SEVERAL)
    if isinstance(url, (str, os.PathLike, ModelURL)):
        return ModelURL.parse(url)
    if isinstance(url, (list, tuple, set, frozenset)):
        raise InvalidURL(_SEVERAL)
    raise InvalidURL(f"a server is named by a URL, not by {type(url).__name__}")


def _require_no_model(url: ModelURL) -> None:
    server, model, version = split_model(url)
    if model is not None:
        raise InvalidURL(
            f"{url.location!r} names a model, and a server is wanted: write "
            f"{server.location}, and pass {model!r} to load(), unload() or statistics()"
        )
    if version is not None:
        raise InvalidURL("the option 'version' is about a model, and has no meaning for a server")


def _reopen(url: ModelURL, headers: Mapping[str, str] | None, options: dict[str, Any]) -> Server:
    return open_server(url, headers=headers, **options)
