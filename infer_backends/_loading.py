"""One plugin: imported, checked against the contract, and called with its faults contained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

from infer_backends import _hookspecs
from infer_backends._backend import Backend
from infer_backends._errors import (
    InferError,
    MissingDependency,
    PluginError,
    UnsupportedOperation,
)
from infer_backends._hookspecs import API_VERSION, PROJECT
from infer_backends._options import CORE_OPTIONS, OpenOptions, Option
from infer_backends._server_backend import ServerBackend
from infer_backends._tensors import ModelMetadata
from infer_backends._url import ModelURL

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from types import ModuleType

API_ATTRIBUTE = "INFER_BACKENDS_API"


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin that keeps the contract as far as can be seen before it is called.

    Attributes:
        owner: Whose fault it is if something goes wrong: the distribution, for messages.
        hook: The plugin's hooks, called through a plugin manager of its own, so that no other
            plugin sees its URLs.
    """

    owner: str
    hook: Any

    def options(self, scheme: str) -> tuple[Option, ...]:
        """The options that the plugin declares for a scheme."""
        declared = self._call("options", self.hook.infer_backends_options, scheme=scheme)
        options = tuple(declared) if isinstance(declared, Sequence) else ()
        if declared is not None and (
            not isinstance(declared, Sequence)
            or not all(isinstance(option, Option) for option in options)
        ):
            raise PluginError(f"{self.owner}: infer_backends_options returns a list of Option")
        taken = {option.name for option in CORE_OPTIONS} | {"version", "headers"}
        for option in options:
            if option.name in taken:
                raise PluginError(f"{self.owner} declares the option {option.name!r}: it is taken")
            taken.add(option.name)
        return options

    def open(self, url: ModelURL, options: OpenOptions) -> Backend:
        """Open a model."""
        backend = self._call("open", self.hook.infer_backends_open, url=url, options=options)
        if not self._call("open", _is_backend, backend=backend):
            raise PluginError(
                f"{self.owner}: infer_backends_open returned {type(backend).__name__}, which is no "
                "Backend: it needs metadata (a ModelMetadata), infer and close"
            )
        checked: Backend = backend
        return checked

    def metadata(self, url: ModelURL, options: OpenOptions) -> ModelMetadata | None:
        """What a model says of itself, without opening it; None if that cannot be told."""
        hook = self.hook.infer_backends_metadata
        metadata = self._call("metadata", hook, url=url, options=options)
        if metadata is not None and not isinstance(metadata, ModelMetadata):
            raise PluginError(
                f"{self.owner}: infer_backends_metadata returned {type(metadata).__name__}; "
                "expected a ModelMetadata, or None"
            )
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
        if not isinstance(backend, ServerBackend):
            raise PluginError(
                f"{self.owner}: infer_backends_server returned {type(backend).__name__}, which is "
                "no ServerBackend: it needs live, ready, metadata and close"
            )
        checked: ServerBackend = backend
        return checked

    def check(self, scheme: str) -> None:
        """Raise what keeps the scheme from being used on this machine, if anything does."""
        self._call("check", self.hook.infer_backends_check, scheme=scheme)

    def _call(self, name: str, hook: Callable[..., Any], **arguments: Any) -> Any:
        try:
            return hook(**arguments)
        except InferError:
            raise
        except Exception as exc:
            # Only the type: a careless message could hold the URL's password.
            raise PluginError(
                f"{self.owner}: infer_backends_{name} raised {type(exc).__name__}; a plugin raises "
                "only the library's errors"
            ) from exc


def _is_backend(backend: object) -> bool:
    return isinstance(backend, Backend) and isinstance(backend.metadata, ModelMetadata)


def load_entry_point(entry_point: EntryPoint) -> LoadedPlugin:
    """Import the module that an entry point names, and check it.

    Raises:
        PluginError: It cannot be imported or breaks the contract; the message names its
            distribution.
    """
    return load_plugin(import_entry_point(entry_point), describe(entry_point))


def import_entry_point(entry_point: EntryPoint) -> object:
    """What an entry point names, imported.

    Raises:
        PluginError: It cannot be imported; the message names its distribution.
    """
    owner = describe(entry_point)
    try:
        plugin: object = entry_point.load()
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] == entry_point.module.partition(".")[0]:
            raise PluginError(f"{owner} is broken: {exc}; install it again") from exc
        raise MissingDependency(
            f"{owner} needs the module {exc.name!r}, which is not installed"
        ) from exc
    except (Exception, SystemExit) as exc:
        raise PluginError(
            f"{owner} failed to import: {type(exc).__name__}: {_one_line(exc)}; install "
            "another version of it, "
            "or report this to its author"
        ) from exc
    return plugin


def load_plugin(plugin: object, owner: str) -> LoadedPlugin:
    """Check a plugin object against the contract.

    Raises:
        PluginError: It was written for another version of the contract, or breaks this one.
    """
    return LoadedPlugin(owner, check_plugin(plugin, owner, _hookspecs, "infer_backends_open"))


def check_plugin(plugin: object, owner: str, hookspecs: ModuleType, required: str) -> Any:
    """Check a plugin object, and return its hooks.

    Args:
        plugin: A module, or another object with hooks.
        owner: Who is named in errors.
        hookspecs: The hooks that it may have.
        required: The one that it must have.

    Raises:
        PluginError: It was written for another version of the contract, or breaks this one.
    """
    version = getattr(plugin, API_ATTRIBUTE, None)
    if not isinstance(version, int) or isinstance(version, bool):
        raise PluginError(
            f"{owner} does not say which contract it was written for: it needs a line "
            f"{API_ATTRIBUTE} = {API_VERSION}"
        )
    if not API_VERSION - 1 <= version <= API_VERSION or version < 1:
        older = version < API_VERSION
        raise PluginError(
            f"{owner} was written for version {version} of the plugin contract, and this is "
            f"version {API_VERSION}: update {'the plugin' if older else 'infer-backends'}"
        )
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin)
        manager.check_pending()
    except pluggy.PluginValidationError as exc:
        raise PluginError(f"{owner} breaks the plugin contract: {_one_line(exc)}") from exc
    if not getattr(manager.hook, required).get_hookimpls():
        raise PluginError(
            f"{owner} has no {required} hook: define that function, marked with @hookimpl"
        )
    return manager.hook


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())


def describe(entry_point: EntryPoint) -> str:
    """The plugin behind an entry point, for messages."""
    dist = entry_point.dist
    who = f"{dist.name} {dist.version}" if dist is not None else entry_point.value
    return f"the plugin {entry_point.name!r} of {who}"
