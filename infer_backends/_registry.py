"""Which plugin serves a scheme. Entry-point *names* are read; a module is imported on first use.

pluggy's own entry-point loader imports everything, skips the second of two equal names silently,
and refuses one module under two names; so names are resolved here, and pluggy gets one module at
a time (see ``_loading``).
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from infer_backends._entry_points import (
    DISABLE,
    Claim,
    disabled_names,
    installed,
    is_disabled,
    normal,
)
from infer_backends._errors import (
    InferError,
    InvalidURL,
    PluginConflict,
    PluginError,
    UnknownScheme,
)
from infer_backends._hookspecs import API_VERSION, hookimpl
from infer_backends._loading import LoadedPlugin, load_claim, load_plugin
from infer_backends._options import OpenOptions, Option
from infer_backends._registration import Registration

if TYPE_CHECKING:
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
        conflict: Whether another distribution, or the same one, claims the same scheme, too.
        folder: Where the distribution is installed; empty if that is no folder.
    """

    scheme: str
    distribution: str
    version: str
    module: str
    disabled: bool = False
    conflict: bool = False
    folder: str = ""


def _installed() -> Iterable[Claim]:
    return installed(GROUP)


class Registry:
    """The plugins of this process.

    There is no lock: what is found, and what is loaded, is put in its place in one step, and of
    two threads that do so at once both take what the first of them put there. A plugin whose
    import hangs so holds up nobody who wants another.

    Args:
        installed: Reads the entry points; called on first use, and before a scheme is refused.
        environ: Where ``INFER_BACKENDS_DISABLE`` is looked up, at every use.
    """

    def __init__(
        self,
        installed: Callable[[], Iterable[Claim]] = _installed,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._installed = installed
        self._environ = environ
        self._found: dict[str, list[Claim]] | None = None
        self._loaded: dict[Claim, LoadedPlugin] = {}
        self._chosen: dict[tuple[str, frozenset[str]], LoadedPlugin] = {}
        self._registered: dict[str, LoadedPlugin] = {}

    def plugins(self) -> list[PluginInfo]:
        """Every scheme of every installed plugin, sorted; imports none of them."""
        disabled = disabled_names(self._environ)
        rows = [PluginInfo(scheme, "", "", "register_backend()") for scheme in self._registered]
        for scheme, claims in self._claims().items():
            enabled = [claim for claim in claims if not is_disabled(claim, disabled)]
            rows += [
                PluginInfo(
                    scheme,
                    claim.distribution,
                    claim.version,
                    claim.value,
                    disabled=claim not in enabled,
                    conflict=claim in enabled and len(enabled) > 1,
                    folder=claim.folder,
                )
                for claim in claims
            ]
        return sorted(rows, key=lambda row: (row.scheme, row.distribution, row.module))

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
        chosen = self._chosen.get((scheme, disabled))
        if chosen is None:
            before = self._found
            try:
                chosen = self._choose(scheme, disabled)
            except PluginError as exc:
                # What is installed may have changed since: a notebook installs what it lacks.
                if before is None or self._read_again() == before:
                    self._explain(exc, scheme)
                    self._found = None
                    raise
                chosen = self._choose_again(scheme, disabled)
            self._chosen[scheme, disabled] = chosen
        return chosen

    def owner(self, scheme: str) -> str:
        """Whose the installed plugin is that was found for a scheme; empty if none was."""
        if scheme in self._registered:
            return ""
        found = self._chosen.get((scheme, disabled_names(self._environ)))
        return "" if found is None else found.owner

    def _choose(self, scheme: str, disabled: frozenset[str]) -> LoadedPlugin:
        claims = self._claims().get(scheme, [])
        enabled = [claim for claim in claims if not is_disabled(claim, disabled)]
        if not enabled:
            raise UnknownScheme(self._unknown(scheme, claims))
        if len(enabled) > 1:
            raise PluginConflict(_conflict(scheme, enabled))
        return self._load(enabled[0])

    def _choose_again(self, scheme: str, disabled: frozenset[str]) -> LoadedPlugin:
        try:
            return self._choose(scheme, disabled)
        except PluginError as exc:
            text = f"{exc}. What is installed was changed while this process runs: start it again"
            exc.args = (text,)
            self._found = None
            raise

    def _explain(self, exc: PluginError, scheme: str) -> None:
        """Add to an error what is wrong with how the plugin is installed, if that may be why."""
        from infer_backends._installation import damages

        names = {claim.distribution for claim in self._claims().get(scheme, ())}
        if isinstance(exc, PluginConflict) or (names and isinstance(exc, UnknownScheme)):
            return
        for damage in damages():
            if not names or normal(damage.distribution) in names:
                release = f"{damage.distribution} {damage.version}".rstrip()
                exc.args = (f"{exc}. Besides, {release} is damaged: {damage.problem}",)

    def check(self, row: PluginInfo) -> InferError | None:
        """What keeps a row of :meth:`plugins` from being used here, or None. Imports its module."""
        try:
            plugin = self.find(row.scheme)
            plugin.options(row.scheme)
            plugin.check(row.scheme)
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

    def _claims(self) -> dict[str, list[Claim]]:
        found = self._found
        return self._read() if found is None else found

    def _read_again(self) -> dict[str, list[Claim]]:
        # Python looks at the time of a folder, which is too coarse for some changes.
        importlib.invalidate_caches()
        return self._read()

    def _read(self) -> dict[str, list[Claim]]:
        try:
            found = list(self._installed())
        except OSError as exc:
            raise PluginError(f"the installed plugins cannot be read: {exc.strerror}") from exc
        except Exception as exc:
            # A finder of somebody's, which Python asks for what is installed.
            raise PluginError(
                f"the installed plugins cannot be read: {type(exc).__name__}, raised by what "
                "Python asks for installed distributions"
            ) from exc
        claims: dict[str, list[Claim]] = {}
        for claim in sorted(found, key=lambda claim: (claim.distribution, claim.name, claim.value)):
            same_scheme = claims.setdefault(claim.scheme, [])
            if (claim.distribution, claim.value) not in {
                (other.distribution, other.value) for other in same_scheme
            }:
                same_scheme.append(claim)
        self._found = claims
        return claims

    def _load(self, claim: Claim) -> LoadedPlugin:
        key = replace(claim, name="")
        loaded = self._loaded.get(key)
        if loaded is None:
            if not _SCHEME.match(claim.scheme):
                raise PluginError(
                    f"{claim.release} has an entry point {claim.name!r}, which is no scheme: "
                    "expected two or more of lower-case letters, digits, '.' and '-', a letter "
                    "first; report this to its author"
                )
            loaded = self._loaded.setdefault(key, load_claim(claim))
        return loaded

    def _unknown(self, scheme: str, claims: Sequence[Claim]) -> str:
        if claims:
            owners = ", ".join(claim.release for claim in claims)
            return f"the scheme {scheme!r} of {owners} is disabled by {DISABLE}"
        schemes = sorted(filter(_SCHEME.match, {*self._claims(), *self._registered}))
        installed = ", ".join(schemes) if schemes else "none"
        text = f"no installed plugin serves the scheme {scheme!r}; installed are: {installed}"
        if scheme in _KNOWN:
            return f"{text}. To install it: pip install '{_KNOWN[scheme]}'"
        import difflib

        near = difflib.get_close_matches(scheme, {*schemes, *_KNOWN}, n=1)
        if near:
            return f"{text}. Did you mean {near[0]!r}?"
        return f"{text}. A URL starts with its scheme, as in http://host:8000/model"


def _conflict(scheme: str, claims: Sequence[Claim]) -> str:
    if len({claim.distribution for claim in claims}) == 1:
        written = " and ".join(f"{claim.name} = {claim.value}" for claim in claims)
        return (
            f"the scheme {scheme!r} is claimed twice by {claims[0].release}, as {written}: "
            "install another version of it, or report this to its author"
        )
    owners = " and ".join(claim.release for claim in claims)
    ways = "; or ".join(
        f"set {DISABLE}={','.join(f'{o.distribution}:{scheme}' for o in claims if o is not claim)} "
        f"to use {claim.title}"
        for claim in claims
    )
    return f"the scheme {scheme!r} is claimed by {owners}: uninstall one; or {ways}"


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


def serving(url: str) -> str:
    """A URL as errors about who serves it name it: with the plugin, if one was found for it."""
    owner = REGISTRY.owner(url.partition(":")[0])
    return f"{url} ({owner})" if owner else url


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
