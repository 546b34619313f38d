"""Models pickle by how they were opened, and are opened again when they are first used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from infer_backends._errors import ModelClosed, UnsupportedOperation

#: The attributes that are set when a model is opened. What asks strangers whether they have some
#: other one must not open it.
_WHEN_OPEN = frozenset({"_backend", "_calls", "_semantics", "_submissions"})

Reopen = tuple[Callable[..., Any], tuple[Any, ...]]


class Reopening:
    """What a model inherits to be sent to other processes.

    Its own ``__init__`` has to set ``_reopen``: the function and the arguments that make it again.
    """

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        reopen: Reopen | None = self.__dict__["_reopen"]
        if reopen is None:
            raise UnsupportedOperation(
                "a model made from a Backend cannot be pickled: open it by its URL with open_model"
            )
        return _unpickle, (type(self), reopen)

    @property
    def _unopened(self) -> bool:
        """Whether it was unpickled, and not used yet."""
        return "_backend" not in self.__dict__

    def _discard(self) -> bool:
        """Never open it, unless it is open by now; whether there is nothing to close."""
        if self._unopened:
            self.__dict__["_discarded"] = True
        return self._unopened

    if not TYPE_CHECKING:  # every name would be known

        def __getattr__(self, name: str) -> Any:
            """What is only there once it was opened."""
            opening = self.__dict__.get("_opening")
            if opening is None or name not in _WHEN_OPEN:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            with opening:
                if self._unopened:
                    self._open_again()
            return self.__dict__[name]

    def _open_again(self) -> None:
        function, args = self.__dict__["_reopen"]
        if "_discarded" not in self.__dict__:
            self.__dict__.update(function(*args).__dict__)
        # Closing says so before it looks whether there is something to close, and opening looks
        # after there is: so one of the two sees the other.
        if "_discarded" in self.__dict__:
            if not self._unopened:
                self.close()  # type: ignore[attr-defined]  # what is reopened can be closed
            raise ModelClosed("the model is closed: open it again")


def _unpickle(kind: type[Reopening], reopen: Reopen) -> Any:
    model: Any = kind.__new__(kind)
    model._reopen = reopen  # noqa: SLF001 - it is a Reopening
    model._opening = threading.Lock()  # noqa: SLF001
    return model
