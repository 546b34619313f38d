"""Sequences of requests to a stateful model."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from infer_backends._backend import Backend, InferRequest, InferResponse, ParameterValue
from infer_backends._errors import (
    DeadlineExceeded,
    InferError,
    InvalidInput,
    UnsupportedOperation,
)
from infer_backends._request_options import RequestOptions, SequenceStep
from infer_backends._result import InferResult

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self

    from infer_backends._semantics import Semantics


def pinned(backend: Backend) -> Any:
    """What answers all requests of one sequence: one endpoint of a fallback, once it is found."""
    pin = getattr(backend, "pinned", None)
    return backend if pin is None else pin()


class _Sequence:
    """Where a sequence is. Its id is drawn at random: no two processes have the same.

    Args:
        model: The model, whose calls these are.
    """

    def __init__(self, model: Semantics) -> None:
        model.require_sequences()
        self._model = model
        self._backend = pinned(model.backend)
        self._id = secrets.randbelow(2**63 - 1) + 1
        self._started = False
        self._ended = False

    @property
    def id(self) -> int:
        """The sequence's id, from 1 to 2**63 - 1, as the server knows it."""
        return self._id

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            "the deadline passed before it was this step's turn: the step before is still under "
            "way; give a larger timeout",
            unprocessed=True,
        )

    @contextmanager
    def _stepping(self, request: InferRequest, *, last: bool) -> Iterator[None]:
        """Give the request its place in the sequence, and note how its step goes."""
        if not isinstance(last, bool):
            raise InvalidInput(f"last= is True or False, not {type(last).__name__}")
        request.deadline.require("the step began")
        if self._ended:
            raise InvalidInput("this sequence has ended: begin another one by model.sequence()")
        step = SequenceStep(self._id, start=not self._started, end=last)
        request.options = RequestOptions(sequence=step)
        try:
            yield
        except BaseException as exc:
            # One that did no work may be made again.
            refused = isinstance(exc, UnsupportedOperation)
            if not refused and not (isinstance(exc, InferError) and exc.unprocessed):
                self._started = True
            raise
        self._started = True
        self._ended = last


class _Turn:
    """A lock that a forked child has anew: who held it is not there to give it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()

    def here(self) -> threading.Lock:
        """The lock of this process."""
        if self._process != os.getpid():
            self._lock, self._process = threading.Lock(), os.getpid()
        return self._lock


class ModelSequence(_Sequence):
    """The steps of one sequence. Made by :meth:`infer_backends.Model.sequence`.

    Its steps are made one after the other, by whichever threads.
    """

    def __init__(
        self, model: Semantics, run: Callable[[InferRequest, Backend], InferResponse]
    ) -> None:
        super().__init__(model)
        self._run = run
        self._turn = _Turn()

    def __call__(self, /, *args: Any, last: bool = False, **kwargs: Any) -> Any:
        """Make one step; what it returns is what a call of the model would.

        Args:
            *args: As for a call of the model.
            last: Whether it is the last one; an input of that name has to be passed in a mapping.
            **kwargs: As for a call of the model.

        Raises:
            InvalidInput: The arguments do not fit the model, or the sequence has ended.
            InferError: Why there is no answer. The step was not sent again.
        """
        request = self._model.request_of(args, kwargs)
        return self._model.outputs.unpack(self._step(request, last=last))

    def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        last: bool = False,
        outputs: Iterable[str] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        parameters: Mapping[str, ParameterValue] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> InferResult:
        """Make one step, with options; as :meth:`infer_backends.Model.infer`."""
        request = self._model.request(
            inputs,
            outputs=outputs,
            timeout=timeout,
            request_id=request_id,
            parameters=parameters,
            headers=headers,
        )
        return self._model.result(self._step(request, last=last), request)

    def _step(self, request: InferRequest, *, last: bool) -> InferResponse:
        turn = self._turn.here()
        if not turn.acquire(timeout=max(0.0, request.deadline.remaining())):
            raise self._late()
        try:
            with self._stepping(request, last=last):
                return self._run(request, self._backend)
        finally:
            turn.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended = True


class AsyncModelSequence(_Sequence):
    """The steps of one sequence. Made by :meth:`infer_backends.AsyncModel.sequence`.

    Its steps are made one after the other, by whichever tasks of one event loop.
    """

    def __init__(
        self, model: Semantics, run: Callable[[InferRequest, Backend], Awaitable[InferResponse]]
    ) -> None:
        super().__init__(model)
        self._run = run
        self._turn: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, /, *args: Any, last: bool = False, **kwargs: Any) -> Any:
        """Make one step; as :class:`ModelSequence` does."""
        request = self._model.request_of(args, kwargs)
        return self._model.outputs.unpack(await self._step(request, last=last))

    async def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        last: bool = False,
        outputs: Iterable[str] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        parameters: Mapping[str, ParameterValue] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> InferResult:
        """Make one step, with options; as :meth:`infer_backends.AsyncModel.infer`."""
        request = self._model.request(
            inputs,
            outputs=outputs,
            timeout=timeout,
            request_id=request_id,
            parameters=parameters,
            headers=headers,
        )
        return self._model.result(await self._step(request, last=last), request)

    async def _step(self, request: InferRequest, *, last: bool) -> InferResponse:
        turn = await self._take(request)
        try:
            with self._stepping(request, last=last):
                return await self._run(request, self._backend)
        finally:
            turn.release()

    async def _take(self, request: InferRequest) -> asyncio.Lock:
        import asyncio

        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise UnsupportedOperation(
                "this sequence was begun in another event loop: make its steps there",
                unprocessed=True,
            )
        if self._turn is None:
            self._turn, self._loop = asyncio.Lock(), loop
        try:
            await asyncio.wait_for(self._turn.acquire(), max(0.0, request.deadline.remaining()))
        except asyncio.TimeoutError:
            raise self._late() from None
        return self._turn

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended = True
