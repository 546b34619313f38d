"""The hooks of a plugin, as pluggy knows them. Implementations may leave arguments out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from infer_backends._backend import Backend
from infer_backends._options import Option

if TYPE_CHECKING:
    from infer_backends._options import OpenOptions
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
def infer_backends_check(scheme: str) -> None:
    """Raise ``MissingDependency`` if what the scheme needs is not installed.

    Called by ``infer-backends plugins``; looks for packages without importing them.
    """
