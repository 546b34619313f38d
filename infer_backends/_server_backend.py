"""The waist of servers: what a plugin implements that can look after a server and its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from infer_backends._deadline import Deadline
from infer_backends._server_answers import ModelState, ModelStatistics, ServerMetadata

__all__ = ["ServerBackend", "SupportsRepository", "SupportsStatistics"]


@runtime_checkable
class ServerBackend(Protocol):
    """A server that holds models. The whole of what the hook for servers must return.

    Methods are called by several threads at once. All errors are of the library's own tree, with
    the foreign exception chained as the cause. What one server of a kind has and another has not
    is ``UnsupportedOperation``, which names what is missing and the server.
    """

    def live(self, deadline: Deadline) -> bool:
        """Whether the server runs.

        Raises:
            Unavailable: Nobody answered; the caller is told False.
            InferError: It cannot be known: bad credentials, say.
        """
        ...

    def ready(self, deadline: Deadline) -> bool:
        """Whether the server says that it, and what it has loaded, would answer now.

        Raises what ``live`` raises.
        """
        ...

    def metadata(self, deadline: Deadline) -> ServerMetadata:
        """What the server says of itself."""
        ...

    def close(self) -> None:
        """Release everything; calls in flight may fail. May be called more than once."""
        ...


@runtime_checkable
class SupportsRepository(Protocol):
    """A server that says which models it has, and that loads and unloads them."""

    def models(self, deadline: Deadline) -> Sequence[ModelState]:
        """Every version of every model in its repository, loaded or not."""
        ...

    def load(
        self, name: str, *, config: str | None, files: Mapping[str, bytes], deadline: Deadline
    ) -> None:
        """Load a model, or load it again; return when it is ready.

        Args:
            name: The model's name.
            config: Its configuration, a JSON object, instead of the server's own; None for that.
            files: The model's files by their paths in its folder, instead of the server's own.
            deadline: By when it has to be ready.

        Raises:
            ModelNotFound: The server has no such model.
            InferenceFailed: It could not be loaded.
        """
        ...

    def unload(self, name: str, *, unload_dependents: bool, deadline: Deadline) -> None:
        """Begin to unload a model; the core waits until ``models`` says that it is unloaded.

        Leaves a model that is not loaded as it is.

        Args:
            name: The model's name.
            unload_dependents: Whether models that were loaded for this one go, too.
            deadline: By when the server has to have answered.

        Raises:
            ModelNotFound: The server has no such model.
        """
        ...


@runtime_checkable
class SupportsStatistics(Protocol):
    """A server that counts what its models do."""

    def statistics(
        self, name: str | None, version: str | None, deadline: Deadline
    ) -> Sequence[ModelStatistics]:
        """What each version of its models did, or one model's, or one version of that.

        Raises:
            ModelNotFound: The server has no such model, or it is not loaded.
        """
        ...
