"""A URL, the plugin that serves it, and its options, all checked; nothing is opened yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from infer_backends._loading import LoadedPlugin
from infer_backends._options import OpenOptions
from infer_backends._registry import REGISTRY
from infer_backends._url import ModelURL


class Chosen(NamedTuple):
    """What a URL comes to.

    Attributes:
        plugin: The plugin that serves its scheme.
        url: The URL, which knows now what is secret in it.
        options: Its options, and those of the call.
    """

    plugin: LoadedPlugin
    url: ModelURL
    options: OpenOptions


def choose(url: ModelURL, given: Mapping[str, Any], headers: Mapping[str, str] | None) -> Chosen:
    """Find the plugin for a URL, and read the options.

    Args:
        url: The URL.
        given: The options of the call.
        headers: The headers of the call.

    Raises:
        PluginError: No plugin serves the scheme, or it is broken.
        InvalidURL: An option is wrong, or a header.
    """
    plugin = REGISTRY.find(url.scheme)
    declared = plugin.options(url.scheme)
    options = OpenOptions.read(url, declared, given, headers=headers)
    secret = frozenset(option.name for option in declared if option.secret)
    return Chosen(plugin, url.with_secret_options(secret), options)
