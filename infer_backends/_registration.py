"""What was registered in this process, and how to take it back."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Registration:
    """A plugin registered in this process; leaving its ``with`` block removes it.

    Args:
        remove: Removes it; may be called more than once.
    """

    def __init__(self, remove: Callable[[], None]) -> None:
        self._remove = remove

    def unregister(self) -> None:
        """Remove the plugin. May be called more than once; open models stay open."""
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unregister()
