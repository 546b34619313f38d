"""The hooks of a plugin: found, and checked as far as can be seen before one is called.

pluggy refuses names and arguments that it does not know. What it accepts and would then leave out,
or call in a way that cannot work, is refused here: a function that nobody marked, an argument with
a default value, which is never given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pluggy

from infer_backends._contract_version import API_ATTRIBUTE, mismatch
from infer_backends._errors import PluginError
from infer_backends._hookspecs import API_VERSION, PROJECT
from infer_backends._interruptions import from_outside

_PREFIX = "infer_backends_"
_MARK = f"{PROJECT}_impl"


class Hooks(NamedTuple):
    """The hooks of one plugin.

    Attributes:
        hook: They, called through a plugin manager of the plugin's own.
        version: The version of the contract that the plugin was written for.
    """

    hook: Any
    version: int


def check_plugin(plugin: object, owner: str, hookspecs: ModuleType, required: str) -> Hooks:
    """Check a plugin object, and return its hooks.

    Args:
        plugin: A module, or another object with hooks.
        owner: Who is named in errors.
        hookspecs: The hooks that it may have.
        required: The one that it must have.

    Raises:
        PluginError: It was written for another version of the contract, or breaks this one.
    """
    try:
        return _check(plugin, owner, hookspecs, required)
    except PluginError:
        raise
    except pluggy.PluginValidationError as exc:
        text = " ".join(str(exc).split())
        raise PluginError(f"{owner} breaks the plugin contract: {text}") from exc
    except BaseException as exc:
        if from_outside(exc):
            raise
        raise PluginError(f"{owner} cannot be used: checking it raised {_name(exc)}") from exc


def _check(plugin: object, owner: str, hookspecs: ModuleType, required: str) -> Hooks:
    version: Any = getattr(plugin, API_ATTRIBUTE, None)
    known = [name for name in vars(hookspecs) if name.startswith(_PREFIX)]
    if isinstance(plugin, type):
        raise PluginError(
            f"{owner} is named by a class, {plugin.__name__}: its entry point has to name the "
            "module, or an instance"
        )
    if version is None and not isinstance(plugin, ModuleType) and not _has_any(plugin, known):
        raise PluginError(
            f"{owner} is named by a {type(plugin).__name__}, which has no hooks: its entry point "
            "has to name the module"
        )
    wrong = mismatch(version, API_VERSION)
    if wrong:
        raise PluginError(f"{owner} {wrong}")
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    manager.check_pending()
    faults = [*_unmarked(plugin, manager, known), *_uncallable(manager, known)]
    if faults:
        raise PluginError(f"{owner} breaks the plugin contract: {'; '.join(faults)}")
    if not getattr(manager.hook, required).get_hookimpls():
        raise PluginError(
            f"{owner} has no {required} hook: define that function, marked with @hookimpl"
        )
    return Hooks(manager.hook, version)


def _has_any(plugin: object, known: list[str]) -> bool:
    return any(hasattr(plugin, name) for name in known)


def _unmarked(plugin: object, manager: pluggy.PluginManager, known: list[str]) -> Iterator[str]:
    """What has the name of a hook, and is none."""
    for name in known:
        found = getattr(plugin, name, None)
        if found is None or getattr(manager.hook, name).get_hookimpls():
            continue
        if isinstance(found, type):
            yield f"{name} is a class, and a hook is a function"
        elif callable(found) and not hasattr(found, _MARK):
            yield (
                f"it has no {name} hook, but a function of that name: write @hookimpl above it, "
                "which is imported from infer_backends.plugin"
            )


def _uncallable(manager: pluggy.PluginManager, known: list[str]) -> Iterator[str]:
    """What cannot be called as a hook is."""
    for name in known:
        caller = getattr(manager.hook, name)
        found = caller.get_hookimpls()
        if len(found) > 1:
            yield f"it has {name} {len(found)} times"
        arguments = caller.spec.argnames if caller.spec is not None else ()
        for implementation in found:
            if implementation.hookwrapper or getattr(implementation, "wrapper", False):
                yield f"its {name} is a wrapper, and there is nothing to wrap: define the hook"
            else:
                yield from _misfits(name, implementation.function, tuple(arguments))


def _misfits(name: str, function: Callable[..., Any], given: tuple[str, ...]) -> Iterator[str]:
    if inspect.iscoroutinefunction(function):
        yield f"its {name} is an async function: hooks are called in threads, so leave async out"
    elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        yield f"its {name} is a generator, and a hook returns what it makes: write return"
    may = f"the arguments of {name} are {', '.join(given)}"
    for parameter in inspect.signature(function).parameters.values():
        has_default = parameter.default is not parameter.empty
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            yield f"its {name} takes {parameter}, which is given nothing: name them; {may}"
        elif parameter.kind is parameter.KEYWORD_ONLY and not has_default:
            yield f"its {name} wants {parameter.name!r} by keyword, which nobody gives; {may}"
        elif has_default and parameter.name in given:
            yield f"its {name} has a default for {parameter.name!r}, so it is not given: remove it"


def _name(exc: BaseException) -> str:
    return type(exc).__name__
