"""A Backend that splits what is over its member's ``max_batch_size``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from infer_backends._backend import Array, Backend, InferRequest, InferResponse
from infer_backends._errors import InvalidInput, ProtocolError
from infer_backends._tensors import ModelMetadata

if TYPE_CHECKING:
    from concurrent.futures import Future

#: Parts of one batch that are in flight at the same time.
CONCURRENCY = 4


class Splitting:
    """Sends a batch in parts of at most ``max_batch_size`` rows, and puts the answers together.

    A batch of no rows is answered from metadata: servers refuse it.

    Args:
        member: Who answers the parts.
        url: Its URL, secrets masked, for answers that it was not asked for.
    """

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
        from concurrent.futures import ThreadPoolExecutor

        starts = range(0, rows, limit)
        with ThreadPoolExecutor(
            min(len(starts), CONCURRENCY), thread_name_prefix="infer-backends-part"
        ) as pool:
            futures = [
                pool.submit(self._member.infer, _rows(request, start, start + limit))
                for start in starts
            ]
            responses = _results(futures)
        sizes = [min(limit, rows - start) for start in starts]
        first = responses[0]
        return InferResponse(
            outputs={
                name: _join([response.outputs.get(name) for response in responses], sizes, name)
                for name in first.outputs
            },
            model_version=first.model_version,
            parameters=first.parameters,
            backend_url=first.backend_url,
            attempts=first.attempts,
        )


def _rows(request: InferRequest, start: int, stop: int) -> InferRequest:
    return InferRequest(
        inputs={name: array[start:stop] for name, array in request.inputs.items()},
        outputs=request.outputs,
        deadline=request.deadline,
        request_id=request.request_id,
        parameters=request.parameters,
        headers=request.headers,
    )


def _results(futures: list[Future[InferResponse]]) -> list[InferResponse]:
    """The results in order; at the first failure, no further part is sent."""
    from concurrent.futures import FIRST_EXCEPTION, wait

    done, pending = wait(futures, return_when=FIRST_EXCEPTION)
    for future in pending:
        future.cancel()
    for future in futures:
        if future in done:
            future.result()
    return [future.result() for future in futures]


def _join(parts: list[Array | None], sizes: list[int], name: str) -> Array:
    for part, size in zip(parts, sizes, strict=True):
        if part is None or part.shape[:1] != (size,):
            got = "none" if part is None else str(part.shape)
            raise ProtocolError(
                f"output {name!r}: a part of {size} rows was answered by an array of shape {got}; "
                "the model does not keep one output row for each input row"
            )
    try:
        return np.concatenate([part for part in parts if part is not None])
    except ValueError as exc:
        shapes = sorted({str(part.shape[1:]) for part in parts if part is not None})
        raise ProtocolError(
            f"output {name!r}: the parts of a split batch differ in shape: {', '.join(shapes)}; "
            "send batches of at most max_batch_size rows"
        ) from exc


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
