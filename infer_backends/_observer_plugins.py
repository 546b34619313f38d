"""Which observers are installed. A broken one is reported and left out; it stops nobody."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infer_backends import _observer_hookspecs
from infer_backends._entry_points import disabled_names, distribution, installed, is_disabled
from infer_backends._errors import PluginError
from infer_backends._events import Event
from infer_backends._loading import check_plugin, describe, import_entry_point

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "infer_backends.observers"


@dataclass(frozen=True, slots=True)
class Observer:
    """Somebody who is told what happens.

    Attributes:
        name: Who it is, for messages.
        tell: Tells it of one event; raises whatever it likes.
    """

    name: str
    tell: Callable[[Event], object]


@dataclass(frozen=True, slots=True)
class ObserverInfo:
    """One installed observer. Nothing was imported to find it.

    Attributes:
        name: Its entry point's name.
        distribution: The distribution's name.
        version: The distribution's version.
        disabled: Whether ``INFER_BACKENDS_DISABLE`` names it.
        entry_point: What it was found by.
    """

    name: str
    distribution: str
    version: str
    disabled: bool
    entry_point: EntryPoint


def _installed() -> Iterable[EntryPoint]:
    return installed(GROUP)


class ObserverPlugins:
    """The installed observers of this process.

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
        self._entry_points: list[EntryPoint] | None = None
        self._loaded: dict[tuple[str, str], Observer | PluginError] = {}
        self._reported: set[tuple[str, str]] = set()
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Forget who held the lock: that thread does not exist in a forked child."""
        self._lock = threading.RLock()

    def plugins(self) -> list[ObserverInfo]:
        """Every installed observer, sorted; imports none of them."""
        disabled = disabled_names(self._environ)
        rows = [
            ObserverInfo(
                found.name,
                distribution(found),
                found.dist.version if found.dist is not None else "",
                is_disabled(found, disabled),
                found,
            )
            for found in self._found()
        ]
        return sorted(rows, key=lambda row: (row.name, row.distribution))

    def load(self) -> list[Observer]:
        """Every observer that works and is not disabled, loaded once.

        One WARNING for each that is broken, once in a process. Raises nothing.
        """
        observers: dict[tuple[str, str], Observer] = {}
        try:
            rows = self.plugins()
        except OSError as exc:
            _warn("the installed observers cannot be read: %s", exc.strerror)
            return []
        for row in rows:
            if row.disabled:
                continue
            key = _key(row.entry_point)
            loaded = self._load(row.entry_point)
            if isinstance(loaded, Observer):
                observers[key] = loaded
            elif key not in self._reported:
                self._reported.add(key)
                _warn("an observer is ignored: %s", loaded)
        return list(observers.values())

    def check(self, row: ObserverInfo) -> PluginError | None:
        """What keeps a row of :meth:`plugins` from observing, or None. Imports its module."""
        loaded = self._load(row.entry_point)
        return loaded if isinstance(loaded, PluginError) else None

    def _found(self) -> list[EntryPoint]:
        with self._lock:
            if self._entry_points is None:
                # A distribution may be found twice on the path.
                found = {(point.name, *_key(point)): point for point in self._installed()}
                self._entry_points = list(found.values())
            return self._entry_points

    def _load(self, entry_point: EntryPoint) -> Observer | PluginError:
        key = _key(entry_point)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = _import(entry_point)
            return self._loaded[key]


def _import(entry_point: EntryPoint) -> Observer | PluginError:
    owner = describe(entry_point)
    try:
        plugin = import_entry_point(entry_point)
        hook = check_plugin(plugin, owner, _observer_hookspecs, "infer_backends_event")
    except PluginError as exc:
        return exc
    except Exception as exc:  # noqa: BLE001 - what a plugin does must not keep a model from opening
        return PluginError(f"{owner} cannot be used: checking it raised {type(exc).__name__}")
    return Observer(owner, lambda event: hook.infer_backends_event(event=event))


def _warn(text: str, *arguments: object) -> None:
    # Imported where it is used: importing the library has to stay cheap.
    import logging

    logging.getLogger("infer_backends").warning(text, *arguments)


def _key(entry_point: EntryPoint) -> tuple[str, str]:
    return distribution(entry_point), entry_point.value


INSTALLED = ObserverPlugins()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=INSTALLED.reset_in_child)
