"""A model in memory, for the tests of an application."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from infer_backends.plugin import (
    DataType,
    DeadlineExceeded,
    InferError,
    InvalidInput,
    InvalidURL,
    ModelMetadata,
    ModelURL,
    TensorSpec,
)
from infer_backends.testing._fake import NAMES, PLATFORM, Compute, Fake
from infer_backends.testing._fake_outcomes import Outcome, check_outcome

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from infer_backends.testing._fake_calls import FakeCall


class Described(Protocol):
    """What has metadata: an open model, whichever backend runs it."""

    @property
    def metadata(self) -> ModelMetadata: ...


class FakeModel:
    """A model in memory, under the URL ``fake:NAME`` while it is started.

    Use it in a ``with`` statement, or by the fixture ``fake_model``. It may be shared by threads.
    It is there in this process, and in those forked from it, each with calls of its own.

    Args:
        name: The name, as in its URL.
        inputs: Its inputs, in order.
        outputs: Its outputs, in order.
        compute: Its function: from a dict of arrays by input name to a mapping of arrays by output
            name, to a tuple of them in order, or to the one array of a model with one output. They
            are copied, and made of the right datatypes. A decoupled model's returns an iterable of
            those, or is a generator; a stateful one's takes a second argument, a dict that is
            empty at the first step of each sequence and kept until the last. An error of
            infer_backends that it raises is the call's, any other is ``InferenceFailed``. None for
            outputs that are made up from the metadata: the same ones for the same inputs and seed.
        seed: What outputs are made up by.
        max_batch_size: Rows that one request may hold; 0 when the model does no batching.
        decoupled: Whether a request has any number of responses: it is asked by ``model.stream``.
        stateful: Whether it keeps sequences: it is asked by ``model.sequence``.
        parameters: What its metadata has as ``parameters``.
        clock: Seconds that only grow, by which it is down or slow: a :class:`ManualClock`, so that
            a test need not wait.

    Raises:
        InvalidInput: The name is no name in a URL, or the tensors are none.

    Example:
        >>> import infer_backends as ib
        >>> x, y = (ib.TensorSpec(name, ib.DataType.FP32, (-1, 3)) for name in "xy")
        >>> with FakeModel("twice", [x], [y], compute=lambda arrays: arrays["x"] * 2) as fake:
        ...     with ib.open_model(fake.url) as model:
        ...         print(model([[1, 2, 3]]))
        [[2. 4. 6.]]
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        name: str,
        inputs: Iterable[TensorSpec],
        outputs: Iterable[TensorSpec],
        *,
        compute: Compute | None = None,
        seed: int = 0,
        max_batch_size: int = 0,
        decoupled: bool = False,
        stateful: bool = False,
        parameters: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        metadata = ModelMetadata(
            name,
            ("1",),
            PLATFORM,
            _specs(inputs, "inputs"),
            _specs(outputs, "outputs"),
            max_batch_size=max_batch_size,
            decoupled=decoupled,
            parameters=dict(parameters or {}),
        )
        self._url = _url(name)
        self._fake = Fake(metadata, compute, seed=seed, stateful=stateful, clock=clock)
        self._started = False

    @classmethod
    def like(
        cls,
        model: ModelMetadata | Described | str | os.PathLike[str],
        name: str | None = None,
        *,
        compute: Compute | None = None,
        seed: int = 0,
        stateful: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """A fake with the inputs and outputs of a real model, so that it cannot drift from it.

        Args:
            model: An open model, its metadata, or a URL or a path, which is opened and closed.
            name: The fake's name; None for the model's own.
            compute: As for a new one.
            seed: As for a new one.
            stateful: As for a new one.
            clock: As for a new one.

        Raises:
            InferError: What is raised when that model is opened.
        """
        metadata = _metadata_of(model)
        return cls(
            metadata.name if name is None else name,
            metadata.inputs,
            metadata.outputs,
            compute=compute,
            seed=seed,
            max_batch_size=metadata.max_batch_size,
            decoupled=metadata.decoupled,
            stateful=stateful,
            parameters=metadata.parameters,
            clock=clock,
        )

    @property
    def url(self) -> str:
        """What opens it."""
        return self._url

    @property
    def metadata(self) -> ModelMetadata:
        """What it says of itself now."""
        return self._fake.metadata

    def start(self) -> Self:
        """Let its URL open it.

        Raises:
            PluginConflict: Another fake of that name is started.
        """
        NAMES.add(self._fake)
        self._fake.gone = False
        self._started = True
        return self

    def stop(self) -> None:
        """Take its URL back; what is still open finds no such model then. May be called again."""
        if self._started:
            self._started = False
            NAMES.remove(self._fake)
            with self._fake.health.news:
                self._fake.gone = True
                self._fake.health.news.notify_all()

    @property
    def calls(self) -> list[FakeCall]:
        """The calls that reached it, oldest first, those that it did not answer among them."""
        with self._fake.health.news:
            return list(self._fake.calls)

    def forget_calls(self) -> None:
        """Begin a new record of calls."""
        with self._fake.health.news:
            self._fake.calls.clear()

    def wait_for_calls(self, count: int = 1, *, timeout: float = 30.0) -> list[FakeCall]:
        """Wait until so many calls have reached it, answered or not; returns all of them.

        Args:
            count: How many.
            timeout: How long to wait for them, in seconds of the real clock.

        Raises:
            DeadlineExceeded: They did not come in time.
        """
        fake = self._fake
        ends = time.monotonic() + timeout
        with fake.health.news:
            while len(fake.calls) < count:
                left = ends - time.monotonic()
                if left <= 0:
                    raise DeadlineExceeded(
                        f"{fake.who} was called {len(fake.calls)} times in {timeout:g} s; expected "
                        f"{count} calls"
                    )
                fake.health.news.wait(left)
            return list(fake.calls)

    @property
    def state(self) -> str:
        """How it is now: ``up``, ``down``, ``slow`` or ``hanging``."""
        return self._fake.health.state

    def down(
        self, seconds: float | None = None, *, error: InferError | type[InferError] | None = None
    ) -> AbstractContextManager[Self]:
        """Be unavailable from now on, to calls, to openings and to probes.

        Args:
            seconds: How long, by its clock; None until :meth:`up`.
            error: What they are told instead of ``Unavailable``; ``ModelNotFound``, for one, as of
                a server that has unloaded the model.

        Returns:
            For a ``with`` statement, at whose end it is up again; it may be left alone.
        """
        self._fake.health.set_down(seconds, error)
        return self._until_up()

    def slow(self, seconds: float) -> AbstractContextManager[Self]:
        """Take so many seconds for every answer, by its clock, or until the call's deadline.

        Returns:
            As :meth:`down` does.
        """
        self._fake.health.set_slow(seconds)
        return self._until_up()

    def hang(self) -> AbstractContextManager[Self]:
        """Answer nothing: calls, openings and probes wait until their deadlines, or :meth:`up`.

        Returns:
            As :meth:`down` does.
        """
        self._fake.health.set_hanging()
        return self._until_up()

    def up(self) -> None:
        """Be there, and fast. Calls that wait are answered now; what is in the script stays."""
        self._fake.health.set_up()

    def script(self, *outcomes: Outcome) -> None:
        """Say what the next calls come to, one after the other; after those, as ever.

        Calls that find it down take nothing out of the script.

        Args:
            *outcomes: For each call: an error of infer_backends, or its class, to raise;
                :class:`Down`, :class:`Slow`, :class:`Hang`; :class:`WrongShape`,
                :class:`WrongDtype`, :class:`MissingOutput`, :class:`ExtraOutput`; the outputs, as a
                mapping; a function, as ``compute``; or :class:`Answer` for an answer as ever.

        Raises:
            InvalidInput: One of them is no such thing.
        """
        for outcome in outcomes:
            check_outcome(outcome, self._fake.metadata)
        with self._fake.health.news:
            self._fake.script.extend(outcomes)

    def script_openings(self, *errors: InferError | type[InferError]) -> None:
        """Say how the next openings fail, one after the other; after those, they succeed.

        Args:
            *errors: For each opening, the error to raise, or its class.

        Raises:
            InvalidInput: One of them is no error of infer_backends.
        """
        for error in errors:
            wrong = error if isinstance(error, type) else type(error)
            if not issubclass(wrong, InferError):
                raise InvalidInput(
                    f"an opening fails by an error of infer_backends, not by {wrong.__name__}"
                )
        with self._fake.health.news:
            self._fake.openings.extend(errors)

    @property
    def scripted(self) -> int:
        """How many outcomes are left in the script."""
        return len(self._fake.script)

    def become(
        self,
        model: ModelMetadata | Described | str | os.PathLike[str] | None = None,
        *,
        inputs: Iterable[TensorSpec] | None = None,
        outputs: Iterable[TensorSpec] | None = None,
        compute: Compute | None = None,
    ) -> None:
        """Be another model from now on, as a server's model is after a reload, under the same URL.

        What is open keeps the metadata that it was opened with, until it asks again.

        Args:
            model: Whose inputs and outputs to have, as for :meth:`like`.
            inputs: Other inputs.
            outputs: Other outputs.
            compute: Its function from now on; None for outputs that are made up.
        """
        old = self._fake.metadata
        new = old if model is None else _metadata_of(model)
        metadata = ModelMetadata(
            old.name,
            old.versions,
            PLATFORM,
            new.inputs if inputs is None else _specs(inputs, "inputs"),
            new.outputs if outputs is None else _specs(outputs, "outputs"),
            max_batch_size=new.max_batch_size,
            decoupled=new.decoupled,
            parameters=new.parameters,
        )
        with self._fake.health.news:
            self._fake.metadata = metadata
            self._fake.compute = compute

    @contextmanager
    def _until_up(self) -> Iterator[Self]:
        try:
            yield self
        finally:
            self.up()

    def __enter__(self) -> Self:
        return self if self._started else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = self.state if self._started else "not started"
        return f"<FakeModel {self._url!r}: {state}, {len(self._fake.calls)} calls>"


def _url(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"a fake model has a name, a str that is not empty; got {name!r}")
    url = ModelURL(scheme="fake", path=name).render(mask=False)
    try:
        if ModelURL.parse(url).path == name:
            return url
    except InvalidURL as exc:
        raise InvalidInput(f"{name!r} is no name in a URL: {exc}") from exc
    raise InvalidInput(f"{name!r} is no name in a URL: use letters, digits, '-' and '.'")


def _specs(specs: Iterable[TensorSpec], what: str) -> tuple[TensorSpec, ...]:
    found = (specs,) if isinstance(specs, TensorSpec) else tuple(specs)
    for spec in found:
        if not _is_spec(spec):
            raise InvalidInput(
                f"{what}= are TensorSpec(name, DataType, shape); got {type(spec).__name__}"
            )
    if not found and what == "outputs":
        raise InvalidInput("a model has one output or more: outputs=[TensorSpec(...)]")
    if len({spec.name for spec in found}) < len(found):
        raise InvalidInput(f"{what}= has two tensors of one name: each has its own")
    return found


def _is_spec(spec: object) -> bool:
    return isinstance(spec, TensorSpec) and isinstance(spec.dtype, DataType)


def _metadata_of(model: object) -> ModelMetadata:
    if isinstance(model, ModelMetadata):
        return model
    metadata = getattr(model, "metadata", None)
    if isinstance(metadata, ModelMetadata):
        return metadata
    if isinstance(model, (str, os.PathLike)):
        # The one place that is an application of the library, and no plugin.
        import infer_backends

        with infer_backends.open_model(model) as opened:
            return opened.metadata
    raise InvalidInput(
        f"a fake is like an open model, its metadata, its URL or its path; got "
        f"{type(model).__name__}"
    )
