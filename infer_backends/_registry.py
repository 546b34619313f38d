"""Which plugin serves a scheme. Entry-point *names* are read; a module is imported on first use.

pluggy's own entry-point loader imports everything, skips the second of two equal names silently,
and refuses one module under two names; so names are resolved here, and pluggy gets one module at
a time (see ``_loading``).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infer_backends._entry_points import (
    DISABLE,
    disabled_names,
    distribution,
    installed,
    is_disabled,
)
from infer_backends._errors import (
    InferError,
    InvalidURL,
    PluginConflict,
    PluginError,
    UnknownScheme,
)
from infer_backends._hookspecs import API_VERSION, hookimpl
from infer_backends._loading import LoadedPlugin, load_entry_point, load_plugin
from infer_backends._options import OpenOptions, Option
from infer_backends._registration import Registration

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from infer_backends._backend import Backend
    from infer_backends._url import ModelURL

GROUP = "infer_backends"

_SCHEME = re.compile(r"[a-z][a-z0-9+\-]+\Z")
_HTTP, _GRPC = "infer-backends-triton[http]", "infer-backends-triton[grpc]"
#: What to install for the schemes that the project knows.
_KNOWN = {
    **dict.fromkeys(("http", "https", "triton+http", "triton+https"), _HTTP),
    **dict.fromkeys(("grpc", "grpcs", "triton+grpc", "triton+grpcs"), _GRPC),
    "onnx": "infer-backends-onnxruntime[cpu]",
    "openvino": "infer-backends-openvino",
}


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One scheme as one installed distribution claims it. Nothing was imported to find it.

    Attributes:
        scheme: The scheme, as in a URL.
        distribution: The distribution's name; empty for one registered in this process.
        version: The distribution's version.
        module: What the entry point names.
        disabled: Whether ``INFER_BACKENDS_DISABLE`` names it.
        conflict: Whether another distribution claims the same scheme.
    """

    scheme: str
    distribution: str
    version: str
    module: str
    disabled: bool = False
    conflict: bool = False


def _installed() -> Iterable[EntryPoint]:
    return installed(GROUP)


class Registry:
    """The plugins of this process.

    Args:
        installed: Reads the entry points; called once, on first use.
        environ: Where ``INFER_BACKENDS_DISABLE`` is looked up, at every use.
    """

    def __init__(
        self,
        installed: Callable[[], Iterable[EntryPoint]] = _installed,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._installed = installed
        self._environ = environ
        self._entry_points: dict[str, list[EntryPoint]] | None = None
        self._loaded: dict[tuple[str, str], LoadedPlugin] = {}
        self._chosen: dict[tuple[str, frozenset[str]], LoadedPlugin] = {}
        self._registered: dict[str, LoadedPlugin] = {}
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Forget who held the lock: that thread does not exist in a forked child."""
        self._lock = threading.RLock()

    def plugins(self) -> list[PluginInfo]:
        """Every scheme of every installed plugin, sorted; imports none of them."""
        disabled = disabled_names(self._environ)
        rows = [PluginInfo(scheme, "", "", "register_backend()") for scheme in self._registered]
        for scheme, claims in self._claims().items():
            enabled = [claim for claim in claims if not is_disabled(claim, disabled)]
            rows += [
                PluginInfo(
                    scheme,
                    distribution(claim),
                    claim.dist.version if claim.dist is not None else "",
                    claim.value,
                    disabled=claim not in enabled,
                    conflict=claim in enabled and len(enabled) > 1,
                )
                for claim in claims
            ]
        return sorted(rows, key=lambda row: (row.scheme, row.distribution))

    def find(self, scheme: str) -> LoadedPlugin:
        """The plugin that serves a scheme, loaded.

        Raises:
            UnknownScheme: None does.
            PluginConflict: Several do.
            PluginError: The one that does is broken.
        """
        registered = self._registered.get(scheme)
        if registered is not None:
            return registered
        disabled = disabled_names(self._environ)
        # A distribution's name is in a file, which every look at it reads.
        chosen = self._chosen.get((scheme, disabled))
        if chosen is not None:
            return chosen
        try:
            chosen = self._choose(scheme, disabled)
        except OSError as exc:
            raise PluginError(f"the installed plugins cannot be read: {exc.strerror}") from exc
        self._chosen[scheme, disabled] = chosen
        return chosen

    def _choose(self, scheme: str, disabled: frozenset[str]) -> LoadedPlugin:
        claims = self._claims().get(scheme, [])
        enabled = [claim for claim in claims if not is_disabled(claim, disabled)]
        if not enabled:
            raise UnknownScheme(self._unknown(scheme, claims))
        if len(enabled) > 1:
            owners = [distribution(claim) for claim in enabled]
            raise PluginConflict(
                f"the scheme {scheme!r} is claimed by {' and '.join(owners)}: uninstall one, or "
                f"set {DISABLE}={owners[-1]} to use {owners[0]}"
            )
        return self._load(enabled[0])

    def check(self, row: PluginInfo) -> InferError | None:
        """What keeps a row of :meth:`plugins` from being used here, or None. Imports its module."""
        try:
            self.find(row.scheme).check(row.scheme)
        except InferError as exc:
            return exc
        return None

    def register(self, scheme: str, plugin: object, *, owner: str) -> Registration:
        """Add a plugin object for as long as the registration lasts."""
        if not _SCHEME.match(scheme):
            raise InvalidURL(
                f"{scheme!r} is no scheme: expected lower-case letters, digits, '+' and '-'"
            )
        if scheme in self._registered:
            raise PluginConflict(
                f"the scheme {scheme!r} is registered already: unregister it first"
            )
        loaded = load_plugin(plugin, owner)
        self._registered[scheme] = loaded
        return Registration(lambda: self._unregister(scheme, loaded))

    def _unregister(self, scheme: str, plugin: LoadedPlugin) -> None:
        # Another one may have been registered since.
        if self._registered.get(scheme) is plugin:
            del self._registered[scheme]

    def _claims(self) -> dict[str, list[EntryPoint]]:
        with self._lock:
            if self._entry_points is None:
                claims: dict[str, list[EntryPoint]] = {}
                for entry_point in self._installed():
                    same_scheme = claims.setdefault(entry_point.name.replace(".", "+"), [])
                    if distribution(entry_point) not in map(distribution, same_scheme):
                        same_scheme.append(entry_point)
                self._entry_points = claims
            return self._entry_points

    def _load(self, entry_point: EntryPoint) -> LoadedPlugin:
        key = (distribution(entry_point), entry_point.value)
        with self._lock:
            if key not in self._loaded:
                if not _SCHEME.match(entry_point.name.replace(".", "+")):
                    raise PluginError(
                        f"{distribution(entry_point)} has an entry point {entry_point.name!r}, "
                        "which is no scheme: expected lower-case letters, digits, '.' and '-'"
                    )
                self._loaded[key] = load_entry_point(entry_point)
            return self._loaded[key]

    def _unknown(self, scheme: str, claims: Sequence[EntryPoint]) -> str:
        if claims:
            owners = ", ".join(distribution(claim) for claim in claims)
            return f"the scheme {scheme!r} of {owners} is disabled by {DISABLE}"
        schemes = sorted({*self._claims(), *self._registered})
        installed = ", ".join(schemes) if schemes else "none"
        text = f"no installed plugin serves the scheme {scheme!r}; installed are: {installed}"
        if scheme in _KNOWN:
            return f"{text}. To install it: pip install '{_KNOWN[scheme]}'"
        import difflib

        near = difflib.get_close_matches(scheme, {*schemes, *_KNOWN}, n=1)
        if near:
            return f"{text}. Did you mean {near[0]!r}?"
        return f"{text}. A URL starts with its scheme, as in http://host:8000/model"


class _Opener:
    """A plugin made of one function."""

    INFER_BACKENDS_API = API_VERSION

    def __init__(
        self, opener: Callable[[ModelURL, OpenOptions], Backend], options: Iterable[Option]
    ) -> None:
        self._opener = opener
        self._options = tuple(options)

    @hookimpl
    def infer_backends_open(self, url: ModelURL, options: OpenOptions) -> Backend:
        return self._opener(url, options)

    @hookimpl
    def infer_backends_options(self) -> Sequence[Option]:
        return self._options


REGISTRY = Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=REGISTRY.reset_in_child)


def register_backend(
    scheme: str,
    opener: Callable[[ModelURL, OpenOptions], Backend],
    *,
    options: Iterable[Option] = (),
) -> Registration:
    """Serve a scheme in this process, for tests and notebooks; others write a plugin.

    Takes precedence over an installed plugin. A model of such a scheme unpickles only where the
    scheme is registered too.

    Args:
        scheme: The scheme, as in a URL.
        opener: Called with the URL and the options; returns a
            :class:`~infer_backends.plugin.Backend`.
        options: The options that its URLs take.

    Returns:
        The registration: call its ``unregister()``, or use it in a ``with`` statement.

    Raises:
        InvalidURL: ``scheme`` is none.
        PluginConflict: It is registered already.
    """
    owner = f"the backend registered for {scheme!r}"
    if not callable(opener):
        raise PluginError(f"{owner} is not callable: pass a function of a URL and options")
    return REGISTRY.register(scheme, _Opener(opener, options), owner=owner)


def known_schemes() -> Mapping[str, str]:
    """What to install for each scheme of the project's own plugins."""
    return _KNOWN
