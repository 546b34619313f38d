"""A Backend that splits what is over its member's ``max_batch_size``."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from infer_backends._abilities import with_abilities_of
from infer_backends._backend import Array, Backend, InferRequest, InferResponse
from infer_backends._errors import InvalidInput, ProtocolError
from infer_backends._tensors import ModelMetadata

if TYPE_CHECKING:
    from typing_extensions import Self

#: Parts of one batch that are in flight at the same time.
CONCURRENCY = 4


class Splitting:
    """Sends a batch in parts of at most ``max_batch_size`` rows, and puts the answers together.

    A batch of no rows is answered from metadata: servers refuse it. It can be asked whether it is
    ready, or to describe its model, if its member can.

    Args:
        member: Who answers the parts.
        url: Its URL, secrets masked, for answers that it was not asked for.
    """

    def __new__(cls, member: Backend, url: str) -> Self:  # noqa: ARG004 - as for __init__
        """One that has the optional abilities of its member, and no others."""
        return super().__new__(with_abilities_of(member, cls))

    def __init__(self, member: Backend, url: str) -> None:
        self._member = member
        self._url = url

    @property
    def metadata(self) -> ModelMetadata:
        """The member's own."""
        return self._member.metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer a batch of any number of rows."""
        limit = self.metadata.max_batch_size
        if not request.inputs:
            return self._member.infer(request)
        rows = next(iter(request.inputs.values())).shape[0]
        if rows == 0:
            return InferResponse(_no_rows(self.metadata, request.outputs), backend_url=self._url)
        if rows <= limit:
            return self._member.infer(request)
        return self._in_parts(request, rows, limit)

    def close(self) -> None:
        """Close the member."""
        self._member.close()

    def _in_parts(self, request: InferRequest, rows: int, limit: int) -> InferResponse:
        # Imported where a batch is split: importing the library has to stay cheap.
        from concurrent.futures import ThreadPoolExecutor, wait

        whole = _Whole(rows)
        starts = iter(range(0, rows, limit))
        lock = Lock()
        errors: list[BaseException] = []

        def answer_parts() -> None:
            """One part after the other, for as long as there are any and none has failed."""
            try:
                while not errors:
                    with lock:
                        start = next(starts, None)
                    if start is None:
                        return
                    part = self._member.infer(_rows(request, start, start + limit))
                    with lock:
                        whole.take(part, start, min(limit, rows - start))
            except BaseException as exc:  # noqa: BLE001 - raised again by the caller's thread
                errors.append(exc)

        workers = min(-(-rows // limit), CONCURRENCY)
        with ThreadPoolExecutor(workers, thread_name_prefix="infer-backends-part") as pool:
            try:
                wait([pool.submit(answer_parts) for _ in range(workers)])
            except BaseException as exc:  # an interruption stops them, too
                errors.append(exc)
                raise
        if errors:
            raise errors[0]
        return whole.response()


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
