"""Models pickle by how they were opened, and are opened again when they are first used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from infer_backends._errors import ModelClosed, UnsupportedOperation

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

    def _discard(self) -> None:
        """Never open it."""
        self.__dict__["_discarded"] = True

    if not TYPE_CHECKING:  # every name would be known

        def __getattr__(self, name: str) -> Any:
            """What is only there once it was opened."""
            opening = self.__dict__.get("_opening")
            if opening is None or name.startswith("__"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            with opening:
                if self._unopened:
                    self._open_again()
            # As of any other object, from now on.
            self.__dict__.pop("_opening", None)
            return getattr(self, name)

    def _open_again(self) -> None:
        if "_discarded" in self.__dict__:
            raise ModelClosed("the model is closed: open it again")
        function, args = self.__dict__["_reopen"]
        self.__dict__.update(function(*args).__dict__)


def _unpickle(kind: type[Reopening], reopen: Reopen) -> Any:
    model: Any = kind.__new__(kind)
    model._reopen = reopen  # noqa: SLF001 - it is a Reopening
    model._opening = threading.Lock()  # noqa: SLF001
    return model
