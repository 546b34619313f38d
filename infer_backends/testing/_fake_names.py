"""Which fakes there are in this process, by name."""

from __future__ import annotations

import threading
from typing import Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from infer_backends.plugin import PluginConflict


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Fake = TypeVar("Fake", bound=_Named)


class Names(Generic[Fake]):
    """The fakes that were started, and not stopped. One that nobody holds any more is gone."""

    def __init__(self) -> None:
        self._fakes: WeakValueDictionary[str, Fake] = WeakValueDictionary()
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Forget who held the lock: that thread does not exist in a forked child."""
        self._lock = threading.Lock()

    def add(self, fake: Fake) -> None:
        """Let a fake have its name.

        Raises:
            PluginConflict: Another one has it.
        """
        with self._lock:
            if self._fakes.setdefault(fake.name, fake) is not fake:
                raise PluginConflict(
                    f"there is a fake model {fake.name!r} already: stop it first (its `with` block "
                    "has not ended), or give this one another name"
                )

    def remove(self, fake: Fake) -> None:
        """Take the name back, if it is this fake's."""
        with self._lock:
            if self._fakes.get(fake.name) is fake:
                del self._fakes[fake.name]

    def find(self, name: str) -> Fake | None:
        """The fake of a name, or None."""
        return self._fakes.get(name)

    def all(self) -> list[Fake]:
        """All of them, by name."""
        with self._lock:
            return sorted(self._fakes.values(), key=lambda fake: fake.name)
