"""One plugin: checked against the contract, and called with its faults contained."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infer_backends import _hookspecs
from infer_backends._backend import Backend
from infer_backends._backend_check import backend_fault, metadata_fault
from infer_backends._entry_points import Claim
from infer_backends._errors import InferError, PluginError, UnsupportedOperation
from infer_backends._hooks import check_plugin
from infer_backends._importing import import_claim
from infer_backends._interruptions import from_outside
from infer_backends._masking import MASK
from infer_backends._options import CORE_OPTIONS, OpenOptions, Option
from infer_backends._server_backend import ServerBackend
from infer_backends._tensors import ModelMetadata
from infer_backends._url import ModelURL

_OPTION = re.compile(r"[a-z][a-z0-9_]*\Z")
_TYPES = (str, int, float, bool)
#: Shorter ones would be found everywhere.
_SHORTEST_SECRET = 4


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin that keeps the contract as far as can be seen before it is called.

    Attributes:
        owner: Whose fault it is if something goes wrong: the distribution, for messages.
        hook: The plugin's hooks, called through a plugin manager of its own, so that no other
            plugin sees its URLs.
        version: The version of the contract that it was written for.
        seconds: How long importing it took.
    """

    owner: str
    hook: Any
    version: int
    seconds: float = 0.0

    def options(self, scheme: str) -> tuple[Option, ...]:
        """The options that the plugin declares for a scheme."""
        declared = self._call("options", self.hook.infer_backends_options, scheme=scheme)
        options = tuple(declared) if isinstance(declared, Sequence) else ()
        if declared is not None and (
            not isinstance(declared, Sequence)
            or not all(isinstance(option, Option) for option in options)
        ):
            raise PluginError(
                f"{self.owner}: infer_backends_options returned {_kind(declared)}; a plugin "
                "returns a list of Option"
            )
        taken = {option.name for option in CORE_OPTIONS} | {"version", "headers"}
        for option in options:
            fault = "is taken" if option.name in taken else next(_option_faults(option), "")
            if fault:
                raise PluginError(f"{self.owner} declares the option {option.name!r}: it {fault}")
            taken.add(option.name)
        return options

    def open(self, url: ModelURL, options: OpenOptions) -> Backend:
        """Open a model."""
        backend = self._call("open", self.hook.infer_backends_open, url=url, options=options)
        try:
            fault = backend_fault(backend)
        except BaseException as exc:
            if from_outside(exc):
                raise
            fault = f"{_kind(backend)}, which raised {_kind(exc)} when it was looked at"
            raise self._returned("open", fault) from exc
        if fault:
            raise self._returned("open", fault)
        checked: Backend = backend
        return checked

    def metadata(self, url: ModelURL, options: OpenOptions) -> ModelMetadata | None:
        """What a model says of itself, without opening it; None if that cannot be told."""
        hook = self.hook.infer_backends_metadata
        metadata = self._call("metadata", hook, url=url, options=options)
        if metadata is not None and not isinstance(metadata, ModelMetadata):
            raise self._returned(
                "metadata", f"{_kind(metadata)}; expected a ModelMetadata, or None"
            )
        fault = "" if metadata is None else metadata_fault(metadata)
        if fault:
            raise self._returned("metadata", f"a ModelMetadata in which {fault}")
        return metadata

    def require_servers(self, scheme: str) -> None:
        """Raise ``UnsupportedOperation`` if the plugin knows no servers."""
        if not self.hook.infer_backends_server.get_hookimpls():
            raise UnsupportedOperation(
                f"{scheme!r} has no server to control: {self.owner} runs models without one, or "
                "cannot look after theirs"
            )

    def open_server(self, url: ModelURL, options: OpenOptions) -> ServerBackend:
        """Open a server."""
        backend = self._call("server", self.hook.infer_backends_server, url=url, options=options)
        if isinstance(backend, type):
            fault = f"the class {backend.__name__}: call it, to return an instance"
            raise self._returned("server", fault)
        if not isinstance(backend, ServerBackend):
            raise self._returned(
                "server",
                f"{_kind(backend)}, which is no ServerBackend: it needs live, ready, metadata and "
                "close",
            )
        checked: ServerBackend = backend
        return checked

    def check(self, scheme: str) -> None:
        """Raise what keeps the scheme from being used on this machine, if anything does."""
        self._call("check", self.hook.infer_backends_check, scheme=scheme)

    def _returned(self, name: str, what: str) -> PluginError:
        return PluginError(f"{self.owner}: infer_backends_{name} returned {what}")

    def _call(self, name: str, hook: Callable[..., Any], **arguments: Any) -> Any:
        try:
            return hook(**arguments)
        except InferError as exc:
            _hide_secrets(exc, arguments)
            raise
        except BaseException as exc:
            if from_outside(exc):
                raise
            # Only the type: a careless message could hold the URL's password.
            raise PluginError(
                f"{self.owner}: infer_backends_{name} raised {_kind(exc)}; a plugin raises "
                "only the library's errors"
            ) from exc


def _kind(value: object) -> str:
    return type(value).__name__


def _option_faults(option: Option) -> Iterator[str]:
    name: object = option.name
    if not isinstance(name, str) or not _OPTION.match(name):
        yield "is no name: expected lower-case letters, digits and '_'"
    if option.type not in _TYPES:
        yield f"is of the type {option.type!r}; expected str, int, float or bool"
    choices: object = option.choices
    if choices is not None and not isinstance(choices, tuple):
        yield f"has choices that are {_kind(choices)}; expected a tuple of str, or None"


def _hide_secrets(exc: InferError, arguments: Mapping[str, Any]) -> None:
    """Take the secrets of a call out of the text of a plugin's error."""
    url, options = arguments.get("url"), arguments.get("options")
    secrets = []
    if isinstance(url, ModelURL):
        secrets.append(url.password)
        secrets += [value for name, value in url.options if name in url.secret_options]
        if isinstance(options, OpenOptions):
            secrets += [part for value in options.headers.values() for part in value.split()]
            secrets += [options.get(name) for name in url.secret_options]
    long = sorted({text for text in secrets if isinstance(text, str)}, key=len, reverse=True)
    for secret in long:
        if len(secret) >= _SHORTEST_SECRET and secret.lower() not in {"basic", "bearer"}:
            exc.args = tuple(
                text.replace(secret, MASK) if isinstance(text, str) else text for text in exc.args
            )


def load_claim(claim: Claim) -> LoadedPlugin:
    """Import the module that an entry point names, and check it.

    Raises:
        PluginError: It cannot be imported or breaks the contract; the message names its
            distribution.
    """
    imported = import_claim(claim)
    return load_plugin(imported.plugin, claim.owner, imported.seconds)


def load_plugin(plugin: object, owner: str, seconds: float = 0.0) -> LoadedPlugin:
    """Check a plugin object against the contract.

    Raises:
        PluginError: It was written for another version of the contract, or breaks this one.
    """
    found = check_plugin(plugin, owner, _hookspecs, "infer_backends_open")
    return LoadedPlugin(owner, found.hook, found.version, seconds)
