"""A server that speaks the Open Inference Protocol: its models, over either protocol.

What is asked, and what refusals mean, is the same for both; each says in a :class:`Wire` how it
asks. A refusal of Triton's may mean several things, so that the repository index decides: it says
"failed to poll from model repository" of a model that it does not have, and of a configuration
that it cannot read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from infer_backends.plugin import (
    Deadline,
    InferenceFailed,
    InvalidInput,
    ModelNotFound,
    ModelState,
    ModelStatistics,
    ProtocolError,
    ServerMetadata,
    UnsupportedOperation,
)
from infer_backends_triton._server_answers import (
    read_server_metadata,
    read_states,
    read_statistics,
)
from infer_backends_triton._status import ControlRefused, NotPolled

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer = TypeVar("Answer")

_REPOSITORY, _STATISTICS = "model_repository", "statistics"
_DEPENDENTS = "model_repository(unload_dependents)"


class Wire(Protocol):
    """How one protocol asks.

    What is asked for and not there is ModelNotFound, over HTTP, or UnsupportedOperation.
    """

    @property
    def url(self) -> str:
        """Who is asked, secrets masked."""
        ...

    def live(self, deadline: Deadline) -> bool:
        """Whether the server is live."""
        ...

    def ready(self, deadline: Deadline) -> bool:
        """Whether the server is ready."""
        ...

    def metadata(self, deadline: Deadline) -> Mapping[str, Any]:
        """The server's metadata."""
        ...

    def index(self, deadline: Deadline) -> list[Mapping[str, Any]]:
        """The repository index."""
        ...

    def has(self, name: str, deadline: Deadline) -> bool:
        """Whether a model is loaded."""
        ...

    def load(
        self, name: str, config: str | None, files: Mapping[str, bytes], deadline: Deadline
    ) -> None:
        """Load a model."""
        ...

    def unload(self, name: str, unload_dependents: bool, deadline: Deadline) -> None:
        """Unload a model."""
        ...

    def statistics(
        self, name: str | None, version: str | None, deadline: Deadline
    ) -> Mapping[str, Any]:
        """The statistics of a model, or of all."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class TritonServer:
    """One server, and the models on it; safe for threads and after a fork.

    Args:
        wire: How it is asked.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def live(self, deadline: Deadline) -> bool:
        """Whether the server says that it is live."""
        with self._expecting("v2/health/live"):
            return self._wire.live(deadline)

    def ready(self, deadline: Deadline) -> bool:
        """Whether the server says that it is ready."""
        with self._expecting("v2/health/ready"):
            return self._wire.ready(deadline)

    def metadata(self, deadline: Deadline) -> ServerMetadata:
        """What the server says of itself."""
        with self._expecting("v2"):
            return self._read(read_server_metadata, self._wire.metadata(deadline))

    def models(self, deadline: Deadline) -> list[ModelState]:
        """What the server's repository index lists."""
        try:
            index = self._wire.index(deadline)
        except (ModelNotFound, UnsupportedOperation) as exc:
            raise self._lacks(_REPOSITORY, "it does not list its models") from exc
        return self._read(read_states, index)

    def load(
        self, name: str, *, config: str | None, files: Mapping[str, bytes], deadline: Deadline
    ) -> None:
        """Load a model; the server answers when it is ready."""
        if files and config is None:
            raise InvalidInput(
                "files= needs config=, too: with files of the caller's, the protocol takes nothing "
                "from the server's repository"
            )
        if config is not None:
            self._require(_REPOSITORY, "it would leave config= and files= unread", deadline)
        try:
            self._wire.load(name, config, files, deadline)
        except NotPolled as exc:
            raise self._not_polled(name, config, files, deadline) from exc
        except ModelNotFound as exc:
            # Over HTTP, an extension that is not there looks like a model that is not there.
            self.models(deadline)
            raise self._not_found(name, "load") from exc
        except UnsupportedOperation as exc:
            raise self._not_controlled(exc, "load") from exc

    def unload(self, name: str, *, unload_dependents: bool, deadline: Deadline) -> None:
        """Have a model unloaded; the server answers before that is done."""
        if unload_dependents:
            self._require(_DEPENDENTS, "it would leave dependents as they are", deadline)
        # Triton says that it has unloaded models of which it has never heard.
        if not self._knows(name, deadline):
            raise self._not_found(name, "unload")
        try:
            self._wire.unload(name, unload_dependents, deadline)
        except ModelNotFound:
            # What MLServer says of a model that it has, when that is not loaded.
            return
        except UnsupportedOperation as exc:
            raise self._not_controlled(exc, "unload") from exc

    def statistics(
        self, name: str | None, version: str | None, deadline: Deadline
    ) -> list[ModelStatistics]:
        """What the server has counted."""
        try:
            answer = self._wire.statistics(name, version, deadline)
        except UnsupportedOperation as exc:
            raise self._lacks(_STATISTICS, "it counts nothing") from exc
        except ModelNotFound as exc:
            # Over HTTP, an extension that is not there looks like a model that is not there.
            if self._is_without(_STATISTICS, deadline):
                raise self._lacks(_STATISTICS, "it counts nothing") from exc
            asked = f"model {name!r}" + (f", version {version!r}" if version is not None else "")
            raise ModelNotFound(
                f"{self._wire.url} has no statistics of the {asked}: it has no such model, or it "
                "is not loaded"
            ) from exc
        return self._read(read_statistics, answer)

    def close(self) -> None:
        """Disconnect; calls in flight raise ``ModelClosed``."""
        self._wire.close()

    def _not_polled(
        self, name: str, config: str | None, files: Mapping[str, bytes], deadline: Deadline
    ) -> ModelNotFound | InvalidInput | InferenceFailed:
        """What it means that a model was not found, or not understood."""
        url = self._wire.url
        known = any(state.name == name for state in self.models(deadline))
        if not known and not files:
            return self._not_found(name, "load")
        if config is not None:
            return InvalidInput(
                f"{url} takes no such config= or files= for {name!r}: expected the fields of "
                "Triton's ModelConfig, and paths such as 1/model.onnx; the server's log says what "
                "is wrong"
            )
        return InferenceFailed(
            f"{url} cannot read the folder of {name!r}, its config.pbtxt say; the server's log "
            "says what is wrong"
        )

    def _knows(self, name: str, deadline: Deadline) -> bool:
        """Whether the server has a model in its repository, or from a client's files alone."""
        if any(state.name == name for state in self.models(deadline)):
            return True
        return self._wire.has(name, deadline)

    def _not_controlled(self, exc: UnsupportedOperation, verb: str) -> UnsupportedOperation:
        """What it means that a server will not load or unload any model."""
        if isinstance(exc, ControlRefused):
            return UnsupportedOperation(
                f"{self._wire.url} does not {verb} models when it is told to: start tritonserver "
                "with --model-control-mode=explicit (infer-backends serve --model-control explicit)"
            )
        return self._lacks(_REPOSITORY, f"it cannot {verb} models")

    def _not_found(self, name: str, verb: str) -> ModelNotFound:
        return ModelNotFound(
            f"{self._wire.url} has no model {name!r} to {verb}: models() lists those it has"
        )

    def _require(self, extension: str, otherwise: str, deadline: Deadline) -> None:
        """Refuse what a server without an extension would do wrong without a word."""
        if self._is_without(extension, deadline):
            raise self._lacks(extension, otherwise)

    def _is_without(self, extension: str, deadline: Deadline) -> bool:
        """Whether the server lists its extensions, and not this one."""
        try:
            return extension not in self.metadata(deadline).extensions
        except UnsupportedOperation:
            # A gateway may hide what the server says of itself.
            return False

    def _lacks(self, extension: str, consequence: str) -> UnsupportedOperation:
        return UnsupportedOperation(
            f"{self._wire.url} does not have the protocol extension {extension!r}, so {consequence}"
        )

    @contextmanager
    def _expecting(self, what: str) -> Iterator[None]:
        """Say what everything that speaks the protocol would have answered."""
        try:
            yield
        except (ModelNotFound, UnsupportedOperation) as exc:
            raise UnsupportedOperation(
                f"{self._wire.url} has no {what}, which every server of the Open Inference "
                "Protocol has: is it another kind of server, or is the base path of a gateway "
                "missing in the URL?"
            ) from exc

    def _read(self, read: Callable[[Any], Answer], answer: object) -> Answer:
        try:
            return read(answer)
        except ProtocolError as exc:
            raise ProtocolError(f"{self._wire.url}: {exc}") from exc
