"""A server and the models on it: ``Server``, the one implementation of what its calls mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from infer_backends._call_options import number_of_seconds, positive_seconds
from infer_backends._deadline import Deadline
from infer_backends._errors import (
    DeadlineExceeded,
    InferError,
    InvalidInput,
    ModelClosed,
    PluginError,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends._inflight import InFlight
from infer_backends._remote_model import CLOSE_TIMEOUT, DEFAULT_TIMEOUT
from infer_backends._server_answers import ModelState, ModelStatistics, ServerMetadata
from infer_backends._server_arguments import (
    check_files,
    check_model_name,
    check_version,
    render_config,
)
from infer_backends._server_backend import ServerBackend, SupportsRepository, SupportsStatistics

if TYPE_CHECKING:
    from typing_extensions import Self

Answer = TypeVar("Answer")

#: Seconds between looks at whether a model is unloaded: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5


class Server:
    """A server that holds models, to be looked at and controlled.

    Made by :func:`infer_backends.open_server`, which sends nothing: the first call connects. May
    be shared by threads, works after ``fork``, and pickles by its URL and options.

    Every method takes a ``timeout``: the total time of the call, in seconds; None for the
    server's own. What one server has and another has not is :class:`UnsupportedOperation`, which
    names the protocol extension that is missing.

    Args:
        backend: What asks the server. This object closes it.
        url: Where the server is, secrets masked.
        timeout: The time that a call may take, in seconds; None for 60.
        reopen: A function and its arguments that make this server again, for pickling.
    """

    def __init__(
        self,
        backend: ServerBackend,
        url: str,
        *,
        timeout: float | None = None,
        reopen: tuple[Callable[..., Server], tuple[Any, ...]] | None = None,
    ) -> None:
        self._backend = backend
        self._url = url
        self._timeout = DEFAULT_TIMEOUT if timeout is None else positive_seconds(timeout)
        self._timeout_given = timeout is not None
        self._reopen = reopen
        self._calls = InFlight("server")

    @property
    def url(self) -> str:
        """Where it is, secrets masked."""
        return self._url

    def live(self, *, timeout: float | None = None) -> bool:
        """Whether it runs; False, too, when nobody answers in time.

        Raises:
            InferError: It cannot be known: it refuses the credentials, say, or is no such server.
        """
        return self._ask(timeout, lambda deadline: _answers(self._backend.live, deadline))

    def ready(self, *, timeout: float | None = None) -> bool:
        """Whether the server says that it, and what it has loaded, would answer; see :meth:`live`.

        One model that failed to load makes a Triton say no, though it answers for the others. So
        does, from then on, that it unloaded a model which it had from a client's files alone.
        """
        return self._ask(timeout, lambda deadline: _answers(self._backend.ready, deadline))

    def metadata(self, *, timeout: float | None = None) -> ServerMetadata:
        """Its name, its version and its protocol extensions.

        Raises:
            InferError: Why there is no answer; see :mod:`infer_backends`.
        """
        found = self._ask(timeout, self._backend.metadata)
        if not isinstance(found, ServerMetadata):
            raise self._wrong("metadata", found, "a ServerMetadata")
        return found

    def models(self, *, timeout: float | None = None) -> list[ModelState]:
        """Every version of every model in its repository, loaded or not, and its state.

        A Triton does not list a model that it has from a client's files alone.

        Raises:
            UnsupportedOperation: The server does not list its models.
            InferError: Why there is no answer; see :mod:`infer_backends`.
        """
        backend = self._repository()
        return self._ask(timeout, lambda deadline: self._index(backend, deadline))

    def load(
        self,
        name: str,
        *,
        config: Mapping[str, Any] | str | None = None,
        files: Mapping[str, bytes | bytearray | memoryview] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Load a model, or load it again, and return when it is ready.

        While a model is loaded again, the server answers with the old one. Should the deadline
        pass, the server goes on loading.

        Args:
            name: The model's name.
            config: Its configuration, in place of the one that the server has: a mapping, or the
                text of a JSON object. A Triton keeps it until the model is unloaded. None for the
                server's.
            files: The model's files, in place of those that the server has: contents by their
                paths in the model's folder, as ``1/model.onnx``. Triton wants ``config``, too.
            timeout: The total time of the call, in seconds; None for the server's own.

        Raises:
            InvalidInput: An argument, the configuration say, is wrong.
            ModelNotFound: The server has no such model.
            InferenceFailed: The model could not be loaded.
            UnsupportedOperation: The server does not load models when it is told to. A Triton
                does if it was started with ``--model-control-mode=explicit``.
            DeadlineExceeded: It was not ready in time.
            InferError: Whatever else went wrong; see :mod:`infer_backends`.
        """
        model, rendered, contents = (
            check_model_name(name),
            render_config(config),
            check_files(files),
        )
        backend = self._repository()
        self._ask(
            timeout,
            lambda deadline: backend.load(
                model, config=rendered, files=contents, deadline=deadline
            ),
        )

    def unload(
        self, name: str, *, unload_dependents: bool = False, timeout: float | None = None
    ) -> None:
        """Unload a model, all versions of it, and return when that is done.

        Servers answer at once and let requests in flight end first; so this asks for the
        model's state until it is unloaded. Should the deadline pass, the server goes on. A model
        that is not loaded is left as it is; one that :meth:`models` does not list is not waited
        for.

        Args:
            name: The model's name.
            unload_dependents: Whether models that were loaded for this one only, as those of an
                ensemble, are unloaded, too. They are not waited for.
            timeout: The total time of the call, in seconds; None for the server's own.

        Raises:
            ModelNotFound: The server has no such model.
            UnsupportedOperation: The server does not unload models when it is told to.
            DeadlineExceeded: It was not unloaded in time.
            InferError: Whatever else went wrong; see :mod:`infer_backends`.
        """
        model = check_model_name(name)
        backend = self._repository()

        def unload(deadline: Deadline) -> None:
            backend.unload(model, unload_dependents=unload_dependents, deadline=deadline)
            self._wait_until_unloaded(backend, model, deadline)

        self._ask(timeout, unload)

    def statistics(
        self,
        name: str | None = None,
        *,
        version: str | int | None = None,
        timeout: float | None = None,
    ) -> list[ModelStatistics]:
        """What its models have done since they were loaded, an entry for each version.

        Args:
            name: The model's name; None for all that are loaded.
            version: One version of it; None for all.
            timeout: The total time of the call, in seconds; None for the server's own.

        Raises:
            ModelNotFound: The server has no such model, or it is not loaded.
            UnsupportedOperation: The server counts nothing.
            InferError: Whatever else went wrong; see :mod:`infer_backends`.
        """
        model = None if name is None else check_model_name(name)
        number = check_version(version)
        if model is None and number is not None:
            raise InvalidInput("version= needs the name of a model")
        backend = self._backend
        if not isinstance(backend, SupportsStatistics):
            raise UnsupportedOperation(f"{self._url} counts nothing: its plugin has no statistics")
        counting: SupportsStatistics = backend
        found = self._ask(timeout, lambda deadline: counting.statistics(model, number, deadline))
        return self._list(found, "statistics", ModelStatistics)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Disconnect. May be called more than once; the server itself goes on.

        Waits for calls in flight, then cancels what is left of them; those, and later ones,
        raise :class:`ModelClosed`.

        Args:
            timeout: How long to wait for calls in flight, in seconds; 0 cancels them at once.

        Raises:
            InvalidInput: ``timeout`` is no number; nothing was closed.
        """
        self._calls.close(number_of_seconds(timeout))
        try:
            self._backend.close()
        except InferError:
            raise
        except Exception as exc:
            raise self._foreign(exc) from exc

    def _ask(self, timeout: float | None, call: Callable[[Deadline], Answer]) -> Answer:
        """The answer to one call, within one deadline."""
        seconds = self._timeout if timeout is None else positive_seconds(timeout)
        deadline = Deadline.after(seconds, explicit=timeout is not None or self._timeout_given)
        token = self._calls.enter()
        try:
            return call(deadline)
        except InferError as exc:
            if self._calls.closed and not isinstance(exc, ModelClosed):
                raise ModelClosed("the server was closed while this call was in flight") from exc
            raise
        except Exception as exc:
            raise self._foreign(exc) from exc
        finally:
            self._calls.leave(token)

    def _repository(self) -> SupportsRepository:
        backend = self._backend
        if not isinstance(backend, SupportsRepository):
            raise UnsupportedOperation(
                f"{self._url} neither lists nor loads models: its plugin has no model repository"
            )
        return backend

    def _index(self, backend: SupportsRepository, deadline: Deadline) -> list[ModelState]:
        return self._list(backend.models(deadline), "models", ModelState)

    def _wait_until_unloaded(
        self, backend: SupportsRepository, name: str, deadline: Deadline
    ) -> None:
        pause, state = _FIRST_PAUSE, "in a state that it did not say"
        while True:
            try:
                index = self._index(backend, deadline)
            except DeadlineExceeded as exc:
                raise self._not_unloaded(name, state) from exc
            states = [found.state for found in index if found.name == name and found.loaded]
            if not states:
                return
            state = states[0]
            remaining = deadline.remaining()
            if remaining <= 2 * _FIRST_PAUSE:
                raise self._not_unloaded(name, state)
            # The last look needs some time, too.
            time.sleep(min(pause, remaining - _FIRST_PAUSE))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _not_unloaded(self, name: str, state: str) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self._url} has not unloaded {name!r} in time: it is {state} (a server lets requests "
            "in flight end first); give a larger timeout, or look again later with models()"
        )

    def _list(self, found: object, method: str, kind: type[Answer]) -> list[Answer]:
        if isinstance(found, (list, tuple)):
            entries = [entry for entry in found if isinstance(entry, kind)]
            if len(entries) == len(found):
                return entries
        raise self._wrong(method, found, f"a list of {kind.__name__}")

    def _wrong(self, method: str, found: object, expected: str) -> PluginError:
        return PluginError(
            f"{method}() of {self._described()} returned {type(found).__name__}; expected "
            f"{expected}"
        )

    def _described(self) -> str:
        return f"the server backend {type(self._backend).__module__}.{type(self._backend).__name__}"

    def _foreign(self, exc: Exception) -> PluginError:
        # Only the type: a careless message could hold the URL's password.
        return PluginError(
            f"{self._described()} raised {type(exc).__name__}; a backend raises only the "
            "library's errors"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Server], tuple[Any, ...]]:
        if self._reopen is None:
            raise UnsupportedOperation(
                "a server made from a ServerBackend cannot be pickled: open it by its URL with "
                "open_server"
            )
        return self._reopen

    def __repr__(self) -> str:
        state = " (closed)" if self._calls.closed else ""
        return f"<Server {self._url}{state}>"


def _answers(question: Callable[[Deadline], bool], deadline: Deadline) -> bool:
    """Whether somebody answers that it is so."""
    try:
        return bool(question(deadline))
    except (Unavailable, DeadlineExceeded):
        return False
