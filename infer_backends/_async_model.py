"""A model, as code in event loops calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from infer_backends import _fitting
from infer_backends._agreement import Tolerance
from infer_backends._backend import (
    Backend,
    InferRequest,
    InferResponse,
    ParameterValue,
    SupportsAsync,
)
from infer_backends._call_options import number_of_seconds
from infer_backends._coercion import Coerce
from infer_backends._errors import InferError, UnsupportedOperation
from infer_backends._in_pool import InPool
from infer_backends._model import CONCURRENCY
from infer_backends._owned import OwnedStream
from infer_backends._remote_model import CLOSE_TIMEOUT
from infer_backends._request_options import Compression
from infer_backends._result import InferResult
from infer_backends._semantics import Semantics
from infer_backends._sequences import AsyncModelSequence
from infer_backends._status import ModelStatus
from infer_backends._tensors import ModelMetadata
from infer_backends._verification import Verification
from infer_backends._ways_of_loops import IN_LOOP, in_own_thread

if TYPE_CHECKING:
    from typing_extensions import Self


#: How often closing looks whether there are calls in flight, in seconds.
_LOOK_AGAIN = 0.005


class AsyncModel:
    """:class:`Model` for event loops: the same calls, awaited.

    Made by :func:`infer_backends.open_async_model`; made directly, it wraps a backend of your own.
    May be used by several event loops, one after the other or each in a thread of its own.
    Cancelling a call cancels it on the wire, where the protocol can.

    Args:
        backend: What answers the calls; in a pool of threads, if it cannot in an event loop. The
            model closes it.
        timeout: As for :class:`Model`.
        coerce: As for :class:`Model`.
    """

    def __init__(
        self, backend: Backend, *, timeout: float | None = None, coerce: Coerce = "lossless"
    ) -> None:
        able = backend if isinstance(backend, SupportsAsync) else InPool(backend)
        self._semantics = semantics = Semantics(able, timeout=timeout, coerce=coerce)
        self._backend: Any = able
        self._calls = semantics.calls

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself, loaded when it was opened."""
        return self._semantics.metadata

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the model on inputs by position, by name, or in one mapping.

        Args:
            *args: The inputs, in metadata order: arrays, lists, or whatever has ``__array__``.
            **kwargs: The inputs by name. Every keyword is an input's name; options go to
                :meth:`infer`.

        Returns:
            The array of a model with one output; a tuple of arrays, in metadata order, of a
            model with several.

        Raises:
            InvalidInput: The arguments do not fit the model; nothing was sent.
            InferError: Why there is no answer; see :mod:`infer_backends`.
        """
        semantics = self._semantics
        return semantics.outputs.unpack(await self._run(semantics.request_of(args, kwargs)))

    async def infer(  # noqa: PLR0913 - the options of a call
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Iterable[str] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        parameters: Mapping[str, ParameterValue] | None = None,
        headers: Mapping[str, str] | None = None,
        top_k: int | None = None,
        priority: int | None = None,
        queue_timeout: float | None = None,
        compression: Compression | None = None,
    ) -> InferResult:
        """Run the model, with options.

        Args:
            inputs: The inputs by name.
            outputs: The outputs wanted, in the order wanted; None for all.
            timeout: The total time for this call, in seconds; None for the model's own.
            request_id: A name for this request, passed to the server.
            parameters: Request parameters of the protocol.
            headers: Extra headers (gRPC: metadata) for this call.
            top_k: Answer each output by its so many largest elements in each row, as BYTES of
                ``value:index:label``; :meth:`InferResult.classes` reads them.
            priority: 1 is served first; for servers that have priorities.
            queue_timeout: How long the request may wait in the server's queue, in seconds.
            compression: ``gzip`` or ``deflate``, of what is sent, and of the answer if the server
                likes.

        Returns:
            The outputs by name, with who answered.

        Raises:
            InvalidInput: The arguments do not fit the model; nothing was sent.
            UnsupportedOperation: The model is decoupled, or nobody who answers for it has that
                option; nothing was sent.
            InferError: Why there is no answer; see :mod:`infer_backends`.
        """
        request = self._semantics.request(
            inputs,
            outputs=outputs,
            timeout=timeout,
            request_id=request_id,
            parameters=parameters,
            headers=headers,
            top_k=top_k,
            priority=priority,
            queue_timeout=queue_timeout,
            compression=compression,
        )
        return self._semantics.result(await self._run(request), request)

    async def _run(self, request: InferRequest, backend: Backend | None = None) -> InferResponse:
        self._semantics.require_one_response()
        token = self._calls.enter()
        try:
            asked = self._backend if backend is None else backend
            response = await _fitting.ask(IN_LOOP, asked, request)
        except BaseException as exc:  # noqa: BLE001 - what comes instead is raised
            self._semantics.fail(exc)
        finally:
            self._calls.leave(token)
        return response if type(response) is InferResponse else self._semantics.checked(response)

    def stream(
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Iterable[str] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        parameters: Mapping[str, ParameterValue] | None = None,
        headers: Mapping[str, str] | None = None,
        priority: int | None = None,
        queue_timeout: float | None = None,
    ) -> AsyncIterator[InferResult]:
        """Send one request to a decoupled model, and take its responses as they come.

        Nothing is sent before the first response is asked for. Leaving the loop early, or
        ``aclose`` of what is returned, cancels the request at the server.

        Args:
            inputs: The inputs by name.
            outputs: The outputs wanted, in the order wanted; None for all.
            timeout: The total time for all responses, in seconds; None for the model's own.
            request_id: A name for this request, passed to the server.
            parameters: Request parameters of the protocol.
            headers: Extra headers (gRPC: metadata) for this call.
            priority: As for :meth:`infer`.
            queue_timeout: As for :meth:`infer`.

        Returns:
            The responses, each as :meth:`infer` has its one.

        Raises:
            InvalidInput: The arguments do not fit the model; nothing was sent.
            UnsupportedOperation: The model is not decoupled, or who answers for it cannot stream;
                the error says which URL would do.
            InferError: Raised where the next response would have been: why there is none.
        """
        self._calls.require_open()
        self._semantics.require_streams()
        request = self._semantics.request(
            inputs,
            outputs=outputs,
            timeout=timeout,
            request_id=request_id,
            parameters=parameters,
            headers=headers,
            priority=priority,
            queue_timeout=queue_timeout,
        )
        return self._stream(request)

    async def _stream(self, request: InferRequest) -> AsyncIterator[InferResult]:
        semantics = self._semantics
        calls = self._calls
        responses = OwnedStream(_fitting.stream(IN_LOOP, self._backend, request))
        try:
            while True:
                # In flight only while somebody waits: closing need not wait for a reader's loop.
                token = calls.enter()
                try:
                    response = await anext(responses, None)
                    if response is None:
                        return
                    result = semantics.result(semantics.checked(response), request)
                except BaseException as exc:  # noqa: BLE001 - what comes instead is raised
                    semantics.fail(exc)
                finally:
                    calls.leave(token)
                yield result
        finally:
            await responses.aclose()

    def sequence(self) -> AsyncModelSequence:
        """A sequence of requests to a stateful model, one after the other::

            async with model.sequence() as step:
                first = await step(x)
                total = await step(y, last=True)

        All of them go to the same place: nothing is sent twice, and nobody else is asked. Without
        ``last=True`` the server keeps the state until it finds the sequence idle for too long.

        Raises:
            UnsupportedOperation: Nobody who answers for the model keeps sequences.
        """
        self._calls.require_open()
        return AsyncModelSequence(self._semantics, self._run)

    def map(
        self,
        samples: Iterable[Any] | AsyncIterable[Any],
        *,
        batch_size: int | Literal["auto"] = "auto",
        concurrency: int = CONCURRENCY,
        ordered: bool = True,
        on_error: Literal["raise", "return"] = "raise",
        timeout: float | None = None,
        outputs: Iterable[str] | None = None,
        progress: bool = False,
    ) -> AsyncIterator[Any]:
        """Run the model on any number of samples, in batches, some of them at the same time.

        Samples are taken as they are needed, and copied; results are given as they come, so neither
        need fit in memory. No more than ``2 * concurrency`` batches, and what completes one more,
        are taken ahead. A batch that the model refuses is sent again in halves, down to the sample
        that is to blame.

        Args:
            samples: What one call takes, without the batch axis, each: an array for a model with
                one input, a tuple in metadata order, or a mapping by name. For a model without a
                batch axis, what one call takes. They may come from an
                asynchronous iterable, too.
            batch_size: How many samples go in one request. ``auto`` is the model's
                ``max_batch_size``; for one that has none, 32 where the first axis of all tensors
                may be of any length, else 1.
            concurrency: How many requests are in flight at the same time.
            ordered: Whether results come in the order of the samples; else as soon as they are
                there.
            on_error: ``raise`` ends with the first sample that fails; ``return`` has the error in
                the place of its result. Both have ``sample_index``.
            timeout: The time for each request, in seconds; None for the model's own.
            outputs: The outputs wanted, in the order wanted; None for all.
            progress: Whether to show a progress bar; needs the package rich.

        Returns:
            One :class:`InferResult` for each sample, without the batch axis.

        Raises:
            InvalidInput: An argument is wrong.
            ModelClosed: The model was closed, before or meanwhile.
            InferError: Why a sample has no result; the message begins with its index.
        """
        from infer_backends._map_in_loop import map_samples

        return map_samples(
            self._semantics,
            self._run,
            samples,
            batch_size=batch_size,
            concurrency=concurrency,
            ordered=ordered,
            on_error=on_error,
            timeout=timeout,
            outputs=outputs,
            progress=progress,
        )

    def status(self) -> ModelStatus:
        """How every member does: its state, its calls, what it takes; printed, it is a table.

        Raises:
            ModelClosed: The model was closed.
        """
        return self._semantics.status()

    async def verify(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        rtol: float = 1e-3,
        atol: float = 1e-5,
        timeout: float | None = None,
        seed: int = 0,
    ) -> Verification:
        """Send the same inputs to every member, and compare their answers.

        Members are asked one after the other, whatever their state; one that does not answer is
        a part of what is returned, and no error. The outputs of the first that answers are what
        the others are held against: floats may be apart by ``atol + rtol * abs(expected)``, all
        else has to be the same. FP16 and BF16 may need a larger ``rtol``.

        Args:
            inputs: The inputs by name; None makes some up that most models run on.
            rtol: The relative difference that is tolerated.
            atol: The absolute difference that is tolerated.
            timeout: The total time, in seconds; None for the model's own.
            seed: What inputs that are made up are drawn by.

        Returns:
            What each member made of them; true when all agree.

        Raises:
            InvalidInput: The arguments do not fit the model; nothing was sent.
            ModelClosed: The model was closed.
        """
        tolerance = Tolerance.of(rtol, atol)
        ask = self._semantics.ask_every_member
        return await in_own_thread(partial(ask, inputs, timeout, seed, tolerance))

    async def warmup(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        seed: int = 0,
    ) -> Verification:
        """Open every member and run it once, so that no later call waits for that.

        What they answer is not compared. The arguments, and what is raised, are those of
        :meth:`verify`.
        """
        ask = self._semantics.ask_every_member
        return await in_own_thread(partial(ask, inputs, timeout, seed, None))

    async def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Release everything. May be called more than once.

        Waits for calls in flight, then cancels what is left of them; those, and later ones,
        raise :class:`ModelClosed`.

        Args:
            timeout: How long to wait for calls in flight, in seconds; 0 cancels them at once.

        Raises:
            InvalidInput: ``timeout`` is no number; nothing was closed.
        """
        give_up = monotonic() + number_of_seconds(timeout)
        self._calls.shut()
        # Calls of other loops are waited for, too, which cannot set an event of this one.
        while self._calls.busy and monotonic() < give_up:  # noqa: ASYNC110 - as said
            await asyncio.sleep(_LOOK_AGAIN)
        try:
            await self._backend.close_async()
        except InferError:
            raise
        except BaseException as exc:  # noqa: BLE001 - what comes instead is raised
            self._semantics.fail(exc)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __reduce__(self) -> Any:
        raise UnsupportedOperation(
            "an AsyncModel cannot be pickled: pickle a Model, or the URL, and open it there"
        )

    def __repr__(self) -> str:
        return self._semantics.describe("AsyncModel")
