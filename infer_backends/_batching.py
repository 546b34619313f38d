"""A Backend that splits what is over its member's ``max_batch_size``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from infer_backends._abilities import Abilities, with_abilities_of
from infer_backends._backend import (
    Array,
    Backend,
    InferRequest,
    InferResponse,
    SupportsAsync,
    SupportsAsyncStreaming,
    SupportsStreaming,
)
from infer_backends._classes import no_classes
from infer_backends._errors import InvalidInput, ProtocolError
from infer_backends._tensors import ModelMetadata
from infer_backends._ways import BLOCKING, Way, run

if TYPE_CHECKING:
    from typing_extensions import Self

#: Parts of one batch that are in flight at the same time.
CONCURRENCY = 4


class Splitting:
    """Sends a batch in parts of at most ``max_batch_size`` rows, and puts the answers together.

    A batch of no rows is answered from metadata: servers refuse it. It has the optional abilities
    of its member. A stream, and a step of a sequence, is never split.

    Args:
        member: Who answers the parts.
        url: Its URL, secrets masked, for answers that it was not asked for.
    """

    def __new__(cls, member: Backend, url: str) -> Self:  # noqa: ARG004 - as for __init__
        """One that has the optional abilities of its member, and no others."""
        return super().__new__(with_abilities_of(member, cls, _OWN))

    def __init__(self, member: Backend, url: str) -> None:
        self._member = member
        self._url = url

    @property
    def metadata(self) -> ModelMetadata:
        """The member's own."""
        return self._member.metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer a batch of any number of rows."""
        if self._fits(request):
            return self._member.infer(request)
        return self._settled(request) or self._in_parts(_Parts(request, self._limit))

    def close(self) -> None:
        """Close the member."""
        self._member.close()

    @property
    def _limit(self) -> int:
        return self.metadata.max_batch_size

    def _fits(self, request: InferRequest) -> bool:
        """Whether the member can be asked at once."""
        return not request.inputs or 0 < _count_rows(request) <= self._limit

    def _require_fit(self, request: InferRequest, what: str) -> None:
        if not self._fits(request):
            raise InvalidInput(
                f"{what} has one request: it takes 1 to {self._limit} rows, and got "
                f"{_count_rows(request)}",
                unprocessed=True,
            )

    def _settled(self, request: InferRequest) -> InferResponse | None:
        """The answer to a batch of no rows; None for one that is to be split."""
        options = request.options
        if options is not None and options.sequence is not None:
            self._require_fit(request, "a step of a sequence")
        if _count_rows(request):
            return None
        outputs = _no_rows(self.metadata, request.outputs)
        if options is not None and options.top_k is not None:
            outputs = no_classes(outputs, options.top_k)
        return InferResponse(outputs, backend_url=self._url)

    def _in_parts(self, parts: _Parts) -> InferResponse:
        # Imported where a batch is split: importing the library has to stay cheap.
        from concurrent.futures import ThreadPoolExecutor, wait

        def work() -> None:
            run(parts.ask_for(BLOCKING, self._member))

        with ThreadPoolExecutor(parts.workers, thread_name_prefix="infer-backends-part") as pool:
            begun = []
            try:
                # Where the system has no thread left, those that there are do all of it.
                with suppress(RuntimeError):
                    for _ in range(parts.workers):
                        begun.append(pool.submit(work))  # noqa: PERF401 - one may be refused
                if not begun:
                    work()
                wait(begun)
            except BaseException as exc:  # an interruption stops them, too
                parts.errors.append(exc)
                raise
        if parts.errors:
            try:
                raise parts.errors[0]
            finally:
                # An error holds its frames, and those would hold the error.
                parts.errors.clear()
                del begun
        return parts.response()


class _Splits:
    _member: Any
    _fits: Any
    _settled: Any
    _require_fit: Any
    _limit: int


class _Async(_Splits):
    async def infer_async(self, request: InferRequest) -> InferResponse:
        """Answer a batch of any number of rows, in the running event loop."""
        if self._fits(request):
            response: InferResponse = await self._member.infer_async(request)
            return response
        answered: InferResponse | None = self._settled(request)
        return answered or await self._in_tasks(_Parts(request, self._limit))

    async def close_async(self) -> None:
        """Close the member."""
        await self._member.close_async()

    async def _in_tasks(self, parts: _Parts) -> InferResponse:
        import asyncio

        from infer_backends._ways_of_loops import IN_LOOP

        tasks = [
            asyncio.ensure_future(parts.ask_for(IN_LOOP, self._member))
            for _ in range(parts.workers)
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # An error holds its frames, and those would hold the error.
            parts.errors.clear()
            del tasks
        return parts.response()


class _Streaming(_Splits):
    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        """The member's responses."""
        self._require_fit(request, "a stream")
        responses: Iterator[InferResponse] = self._member.stream(request)
        return responses


class _AsyncStreaming(_Splits):
    def stream_async(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """The member's responses, in the running event loop."""
        self._require_fit(request, "a stream")
        responses: AsyncIterator[InferResponse] = self._member.stream_async(request)
        return responses


_OWN: Abilities = (
    (SupportsAsync, _Async),
    (SupportsStreaming, _Streaming),
    (SupportsAsyncStreaming, _AsyncStreaming),
)


class _Parts:
    """The parts of one batch: asked for one after the other by each worker, and put together.

    Attributes:
        workers: How many workers there should be.
        errors: What they met, oldest first; none of them goes on after the first.
    """

    def __init__(self, request: InferRequest, limit: int) -> None:
        self._request = request
        self._limit = limit
        self._rows = rows = _count_rows(request)
        self._starts = iter(range(0, rows, limit))
        self._lock = Lock()
        self._whole = _Whole(rows)
        self.workers = min(-(-rows // limit), CONCURRENCY)
        self.errors: list[BaseException] = []

    async def ask_for(self, way: Way, member: Backend) -> None:
        """Ask for one part after the other, for as long as there are any and none has failed."""
        limit = self._limit
        try:
            while not self.errors:
                with self._lock:
                    start = next(self._starts, None)
                if start is None:
                    return
                part = await way.ask(member, _rows(self._request, start, start + limit))
                with self._lock:
                    self._whole.take(part, start, min(limit, self._rows - start))
        except BaseException as exc:
            self.errors.append(exc)
            raise

    def response(self) -> InferResponse:
        """The answer, once all parts are there."""
        return self._whole.response()


class _Whole:
    """The answer to a whole batch, filled with the answers to its parts as they come."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._outputs: dict[str, Array] = {}
        self._first: InferResponse | None = None

    def take(self, part: InferResponse, start: int, rows: int) -> None:
        """Copy the outputs of ``rows`` rows to where they belong.

        Raises:
            ProtocolError: They do not fit those of the parts before.
        """
        if self._first is None:
            self._first = part
            self._outputs = {
                name: np.empty((self._rows, *array.shape[1:]), array.dtype)
                for name, array in part.outputs.items()
            }
        for name, whole in self._outputs.items():
            array = part.outputs.get(name)
            if array is None or array.shape[:1] != (rows,):
                got = "none" if array is None else f"an array of shape {array.shape}"
                raise ProtocolError(
                    f"output {name!r}: a part of {rows} rows was answered by {got}; the model does "
                    "not keep one output row for each input row"
                )
            if array.shape[1:] != whole.shape[1:]:
                raise ProtocolError(
                    f"output {name!r}: the parts of a split batch differ in shape, "
                    f"{array.shape[1:]} and {whole.shape[1:]}; send batches of at most "
                    "max_batch_size rows"
                )
            whole[start : start + rows] = array

    def response(self) -> InferResponse:
        """The answer, once all parts are there."""
        first = self._first
        if first is None:
            raise AssertionError("a batch that is split has parts")
        return InferResponse(
            self._outputs,
            first.model_version,
            first.parameters,
            first.backend_url,
            first.attempts,
        )


def _count_rows(request: InferRequest) -> int:
    return int(next(iter(request.inputs.values())).shape[0])


def _rows(request: InferRequest, start: int, stop: int) -> InferRequest:
    return InferRequest(
        inputs={name: array[start:stop] for name, array in request.inputs.items()},
        outputs=request.outputs,
        deadline=request.deadline,
        request_id=request.request_id,
        parameters=request.parameters,
        headers=request.headers,
        options=request.options,
    )


def _no_rows(metadata: ModelMetadata, outputs: tuple[str, ...] | None) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for spec in metadata.outputs:
        if outputs is not None and spec.name not in outputs:
            continue
        if -1 in spec.shape[1:]:
            raise InvalidInput(
                f"a batch of no rows: the shape {spec.shape} of output {spec.name!r} is not known "
                "before the model has run; pass at least one row"
            )
        arrays[spec.name] = np.empty((0, *spec.shape[1:]), spec.dtype.numpy_dtype)
    return arrays
