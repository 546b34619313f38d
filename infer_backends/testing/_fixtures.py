"""What the fixtures of the pytest plugin give a test: fakes that end with it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from infer_backends.testing._fake_model import FakeModel
from infer_backends.testing._fake_pair import FakePair

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class FakeModels:
    """Makes fakes, starts them, and stops all of them in the end. What ``fake_model`` is."""

    def __init__(self) -> None:
        self._started = ExitStack()

    def __call__(self, *args: Any, **kwargs: Any) -> FakeModel:
        """A :class:`FakeModel` of these arguments, started."""
        return self._started.enter_context(FakeModel(*args, **kwargs))

    def like(self, *args: Any, **kwargs: Any) -> FakeModel:
        """A :meth:`FakeModel.like` of these arguments, started."""
        return self._started.enter_context(FakeModel.like(*args, **kwargs))

    def pair(self, *args: Any, **kwargs: Any) -> FakePair:
        """A :class:`FakePair` of these arguments, started."""
        return self._started.enter_context(FakePair(*args, **kwargs))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._started.close()
