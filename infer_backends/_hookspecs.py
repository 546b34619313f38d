"""The hooks of a plugin, as pluggy knows them. Implementations may leave arguments out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from infer_backends._backend import Backend
from infer_backends._options import Option

if TYPE_CHECKING:
    from infer_backends._options import OpenOptions
    from infer_backends._server_backend import ServerBackend
    from infer_backends._tensors import ModelMetadata
    from infer_backends._url import ModelURL

PROJECT = "infer_backends"

#: The version of the plugin contract. Plugins of this version and the one before are loaded.
API_VERSION = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def infer_backends_open(url: ModelURL, options: OpenOptions) -> Backend:  # type: ignore[empty-body]
    """Open the model that ``url`` names. The one hook that every plugin implements.

    Reads the model's metadata, within ``options.deadline``, and raises nothing but the library's
    own errors. Import the runtime here, not at the top of the plugin module.

    Args:
        url: The parsed URL; its scheme is one of the plugin's entry-point names.
        options: The plugin's own options, checked, with defaults filled in, as a mapping; and
            what the core gives every plugin, as attributes.
    """


@hookspec(firstresult=True)
def infer_backends_options(scheme: str) -> Sequence[Option]:  # type: ignore[empty-body]
    """The options that URLs of this scheme take. Without this hook there are none."""


@hookspec(firstresult=True)
def infer_backends_metadata(url: ModelURL, options: OpenOptions) -> ModelMetadata | None:
    """What the model says of itself, without loading it; None if only opening it can tell.

    For a plugin that takes long to open a model, or much memory, and can read what the model is
    from a file. A fallback then opens such a member when it is needed, and not before. Names,
    datatypes and shapes have to be those that the opened backend's ``metadata`` would have (but an
    output's dimension that only opening the model can tell may be -1): when in doubt, None.
    Without this hook every model is opened at once.

    Raises what ``infer_backends_open`` would for a model that is not there, an option that is
    wrong, and a package that is missing. Takes the same arguments.
    """


@hookspec(firstresult=True)
def infer_backends_server(url: ModelURL, options: OpenOptions) -> ServerBackend:  # type: ignore[empty-body]
    """Open the server that ``url`` names, to look after its models.

    For a plugin whose models are on servers. Sends nothing: a server that is not there is found
    out by the first call. Without this hook, ``open_server`` is ``UnsupportedOperation``.

    Args:
        url: The parsed URL; it names no model.
        options: As for ``infer_backends_open``.
    """


@hookspec(firstresult=True)
def infer_backends_check(scheme: str) -> None:
    """Raise ``MissingDependency`` if what the scheme needs is not installed.

    Called by ``infer-backends plugins``; looks for packages without importing them.
    """
