"""Two fakes of one model: a server, and the copy of the model on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from infer_backends.plugin import ModelMetadata, TensorSpec
from infer_backends.testing._fake_model import Described, FakeModel

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class FakePair:
    """A fake server, and a fake of the local model that an application falls back to.

    They are called ``NAME-server`` and ``NAME-local``, and are alike: so they have the same answers
    to the same inputs. Which of them answered is in a result's ``backend_url``, and in the calls of
    each.

    Args:
        name: What the names of both begin with.
        inputs: Their inputs, in order.
        outputs: Their outputs, in order.
        **options: What :class:`FakeModel` takes besides, for both of them.

    Attributes:
        server: The server's model.
        local: The local one.
    """

    def __init__(
        self,
        name: str,
        inputs: Iterable[TensorSpec],
        outputs: Iterable[TensorSpec],
        **options: Any,
    ) -> None:
        given, wanted = tuple(inputs), tuple(outputs)
        self.server = FakeModel(f"{name}-server", given, wanted, **options)
        self.local = FakeModel(f"{name}-local", given, wanted, **options)

    @classmethod
    def like(
        cls,
        model: ModelMetadata | Described | str | os.PathLike[str],
        name: str | None = None,
        **options: Any,
    ) -> Self:
        """Two fakes with the inputs and outputs of a real model; takes what FakeModel.like does."""
        metadata = FakeModel.like(model, name).metadata
        alike = {
            "max_batch_size": metadata.max_batch_size,
            "decoupled": metadata.decoupled,
            "parameters": metadata.parameters,
        }
        return cls(metadata.name, metadata.inputs, metadata.outputs, **alike, **options)

    @property
    def url(self) -> str:
        """What opens both, the server first."""
        return f"{self.server.url} {self.local.url}"

    def start(self) -> Self:
        """Start both.

        Raises:
            PluginConflict: Another fake has one of the names.
        """
        with ExitStack() as undoing:
            undoing.callback(self.server.start().stop)
            self.local.start()
            undoing.pop_all()
        return self

    def stop(self) -> None:
        """Stop both. May be called more than once."""
        self.server.stop()
        self.local.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
