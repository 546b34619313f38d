"""Large tensors of one open model go by shared memory, where its server is on this machine.

Whether it is, is not only asked of its address but tried: a server in a container, of another
user, or behind a tunnel cannot open a region of ours, and says so. Then, as with everything else
that goes wrong with regions alone, the call goes the ordinary way and still succeeds; only
``shared_memory=system`` makes that an error.
"""

from __future__ import annotations

import contextlib
import sys
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infer_backends.plugin import (
    Array,
    DataType,
    Deadline,
    DeadlineExceeded,
    InferError,
    InferRequest,
    InferResponse,
    ModelClosed,
    ModelMetadata,
    ProtocolError,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends_triton import _regions as regions
from infer_backends_triton._call_options import as_ranked, ranks
from infer_backends_triton._codec import decode, encode
from infer_backends_triton._locality import is_local
from infer_backends_triton._output_sizes import OutputSizes
from infer_backends_triton._region_pool import (
    NoMemoryError,
    NoRoomError,
    RegionPool,
    RegionServer,
)
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._shared_asking import Asking, InThread
from infer_backends_triton._shared_layout import Answer, AnsweredTensor, Layout, lay_out
from infer_backends_triton._status import RegionError, RegionLost, RegionTooSmall
from infer_backends_triton._unsent import BEFORE_SENDING
from infer_backends_triton._waiting import run

#: Tensors of fewer bytes go inline.
THRESHOLD = 128 * 1024

# After the server refused a region, or memory ran out, so long nothing is tried.
_PAUSE_SECONDS = 60.0
_NOT_BY_REGION = (RegionError, NoRoomError)


class SharedServer(RegionServer, Protocol):
    """A server, and one model on it, that can be asked by regions."""

    def infer(self, request: InferRequest, region: str, layout: Layout) -> Answer:
        """Ask the model; the inputs of the layout are in the region already.

        Raises:
            RegionError: The region was refused.
            InferError: What went wrong.
        """
        ...


class SharedMemory:
    """Decides for each call of one model how its tensors travel. Safe for threads, and after fork.

    Args:
        server: How to ask the model.
        metadata: What the model says of itself.
        url: Whom errors name.
        is_local: Whether the server is on this machine; asked before the first region is made.
        max_answer: Outputs that are larger together go inline, in bytes; they are refused there.
        insist: Whether it is an error when shared memory cannot be used.
        clock: Seconds on a monotonic clock.
    """

    def __init__(
        self,
        server: SharedServer,
        metadata: ModelMetadata,
        url: str,
        *,
        is_local: Callable[[Deadline], bool],
        max_answer: int = sys.maxsize,
        insist: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inputs = {
            spec.name: spec.dtype for spec in metadata.inputs if spec.dtype is not DataType.BYTES
        }
        self._outputs = {spec.name: spec for spec in metadata.outputs}
        self._ranked = {spec.name: spec for spec in as_ranked(metadata).outputs}
        self._url = url
        self._is_local = is_local
        self._max_answer = max_answer
        self._insist = insist
        self._clock = clock
        self._threshold = THRESHOLD
        self._sizes = OutputSizes(metadata, self._threshold)
        self._pool = RegionPool(server)
        self._in_thread = InThread(server.infer)
        self._local: bool | None = None
        self._paused_until = float("-inf")
        self._paused_from = 0
        self._reason = ""

    def infer(
        self, request: InferRequest, inline: Callable[[InferRequest], InferResponse]
    ) -> InferResponse:
        """Answer a request: by a region what is large, and by ``inline`` all the rest."""
        wanted = self._wanted(request)
        response = None if wanted is None else run(self._try(request, wanted, self._in_thread))
        if response is None:
            response = inline(request)
        if not ranks(request):
            self._sizes.learn(request.inputs, response.outputs)
        return response

    async def infer_async(
        self,
        request: InferRequest,
        inline: Callable[[InferRequest], Awaitable[InferResponse]],
        asking: Callable[[], Asking],
    ) -> InferResponse:
        """Do the same in the running event loop; ``asking`` gives how to ask there."""
        wanted = self._wanted(request)
        response = None if wanted is None else await self._try(request, wanted, asking())
        if response is None:
            response = await inline(request)
        if not ranks(request):
            self._sizes.learn(request.inputs, response.outputs)
        return response

    def close(self) -> None:
        """Release the regions, here and at the server."""
        self._pool.close()

    def _wanted(self, request: InferRequest) -> Layout | None:
        """What of a call is large enough; None for nothing."""
        inputs = {}
        for name, array in request.inputs.items():
            if array.nbytes >= self._threshold and name in self._inputs:
                inputs[name] = array.nbytes
        outputs = {} if ranks(request) else self._sizes.expect(request.inputs)
        if not (inputs or outputs):
            # Small calls, in as few steps as can be.
            return None
        if request.outputs is not None:
            outputs = {name: size for name, size in outputs.items() if name in request.outputs}
        if sum(outputs.values()) > self._max_answer:
            outputs = {}
        # A step of a sequence must not be taken twice, as it is when an output does not fit.
        if not (inputs or outputs) or request.parameters.get("sequence_id"):
            return None
        return lay_out(inputs, outputs)

    async def _try(
        self, request: InferRequest, layout: Layout, asking: Asking
    ) -> InferResponse | None:
        """The answer by shared memory; None where that is not the way to go."""
        if self._local is None:
            await asking.aside(partial(self._look, request.deadline), request.deadline)
        if not self._usable(layout.size):
            return None
        try:
            return await self._exchange(request, layout, asking)
        except RegionTooSmall:
            # How large the outputs are is learnt from the answer that has them inline.
            layout = lay_out({name: slot.size for name, slot in layout.inputs.items()}, {})
        except RegionLost:
            pass  # Another region is registered anew.
        except _NOT_BY_REGION as exc:
            self._without(layout, exc)
            return None
        if not layout.size:
            return None
        try:
            return await self._exchange(request, layout, asking)
        except _NOT_BY_REGION as exc:
            self._without(layout, exc)
            return None

    def _without(self, layout: Layout, exc: Exception) -> None:
        """What follows from the failure of shared memory for the calls to come."""
        if isinstance(exc, NoMemoryError):
            self._pause("there is not enough shared memory", layout.size, exc)
        elif isinstance(exc, NoRoomError):
            self._refuse("so many large calls at once are more than one model may take", exc)
        else:
            self._pause("the server does not take it", cause=exc)

    async def _exchange(
        self, request: InferRequest, layout: Layout, asking: Asking
    ) -> InferResponse:
        pool, deadline = self._pool, request.deadline
        take: Callable[[], regions.Region] = partial(self._take, layout.size, deadline)
        ready = pool.take_ready(layout.size)
        region = (
            await asking.aside(take, deadline, partial(pool.keep, tidy=False))
            if ready is None
            else ready
        )
        answered = False
        try:
            with BEFORE_SENDING:
                for name, slot in layout.inputs.items():
                    raw = np.frombuffer(encode(request.inputs[name], self._inputs[name]), np.uint8)
                    region.content[slot.offset : slot.offset + slot.size] = raw
            answer = await asking.ask(request, region.name, layout)
            answered = True
            response = InferResponse(
                outputs=self._read(answer.tensors, request, region.content, layout),
                model_version=answer.model_version,
                parameters=answer.parameters,
                backend_url=self._url,
            )
        except RegionLost:
            pool.lose(region)
            raise
        finally:
            if answered:
                pool.keep(region, tidy=False)
            else:
                pool.retire(region)
        if pool.untidy:
            # The answer is here; what is late now is tidied up after another call.
            with contextlib.suppress(DeadlineExceeded):
                await asking.aside(pool.tidy, deadline)
        return response

    def _take(self, size: int, deadline: Deadline) -> regions.Region:
        try:
            return self._pool.take(size, deadline)
        except (DeadlineExceeded, ModelClosed, RegionError, Unavailable):
            raise
        except InferError as exc:
            # Servers without this extension have many ways to say so.
            raise RegionError(str(exc)) from exc

    def _read(
        self,
        tensors: Sequence[AnsweredTensor],
        request: InferRequest,
        content: NDArray[np.uint8],
        layout: Layout,
    ) -> dict[str, Array]:
        outputs: dict[str, Array] = {}
        specs = self._ranked if ranks(request) else self._outputs
        for tensor in tensors:
            name = tensor.name
            spec = specs.get(name)
            if spec is None or name in outputs or tensor.datatype != spec.dtype.value:
                raise ProtocolError(
                    f"{self._url} answered with an output {name[:100]!r} as "
                    f"{tensor.datatype[:40]!r} that the model does not have, or twice"
                )
            raw = tensor.raw
            if raw is None:
                raw = self._in_region(tensor, spec.dtype, content, layout)
            outputs[name] = decode(raw, spec.dtype, tensor.shape, name)
        order = request.outputs if request.outputs is not None else tuple(self._outputs)
        missing = [name for name in order if name not in outputs]
        if missing:
            raise ProtocolError(f"{self._url} answered without the output {missing[0]!r}")
        return {name: outputs[name] for name in order}

    def _in_region(
        self, tensor: AnsweredTensor, dtype: DataType, content: NDArray[np.uint8], layout: Layout
    ) -> memoryview:
        slot = layout.outputs.get(tensor.name)
        size = dtype.numpy_dtype.itemsize
        for dim in tensor.shape:
            size *= dim
        if slot is None or not 0 <= size <= slot.size:
            raise ProtocolError(
                f"{self._url} answered with the output {tensor.name!r} of the shape "
                f"{list(tensor.shape)} in shared memory, where it has no such room"
            )
        return content[slot.offset : slot.offset + size].data

    def _look(self, deadline: Deadline) -> None:
        """Find out whether the server is on this machine."""
        try:
            self._local = self._is_local(deadline)
        except InferError:
            if self._insist:
                raise

    def _usable(self, size: int) -> bool:
        if self._local is None:
            return False
        if not self._local:
            return self._refuse("the server is on another machine")
        if size >= self._paused_from and self._clock() < self._paused_until:
            return self._refuse(self._reason)
        return True

    def _pause(self, reason: str, least: int = 0, cause: BaseException | None = None) -> None:
        """Try nothing that needs ``least`` bytes or more for a while."""
        self._reason = f"{reason}: {cause}" if isinstance(cause, InferError) else reason
        self._paused_from = least
        self._paused_until = self._clock() + _PAUSE_SECONDS
        self._refuse(self._reason, cause)

    def _refuse(self, reason: str, cause: BaseException | None = None) -> bool:
        """Have the call go inline, or fail."""
        if self._insist:
            raise UnsupportedOperation(
                f"{self._url}: shared_memory=system cannot be had, since {reason}; "
                "shared_memory=auto does without it then"
            ) from cause
        return False


def share(
    owner: object,
    server: SharedServer,
    metadata: ModelMetadata,
    settings: ConnectionSettings,
    url: str,
    deadline: Deadline,
    *,
    offered: bool = True,
) -> SharedMemory | None:
    """The shared memory of one open model, as its option asks; None for a model without.

    Args:
        owner: When it is collected, and when the process ends, everything is released.
        server: How to ask the model. Must not refer to ``owner``.
        metadata: What the model says of itself.
        settings: Where the server is, and what the option says.
        url: Whom errors and answers name.
        deadline: By when the model has to be open.
        offered: Whether the server may have this extension of the protocol.

    Raises:
        UnsupportedOperation: The option insists, and it is known already that it cannot be.
    """
    insist = settings.shared_memory == "system"
    if settings.shared_memory == "off":
        return None
    if metadata.decoupled or not offered or not regions.supported():
        if insist:
            raise UnsupportedOperation(
                f"{url}: shared_memory=system needs a server that has shared memory, a model that "
                f"is not decoupled, and a client on Linux with {regions.FOLDER}"
            )
        return None
    if insist and not is_local(settings, deadline):
        raise UnsupportedOperation(
            f"{url}: shared_memory=system needs a server on this machine, and this one is not"
        )
    memory = SharedMemory(
        server,
        metadata,
        url,
        is_local=partial(is_local, settings),
        max_answer=settings.max_response_bytes,
        insist=insist,
    )
    weakref.finalize(owner, memory.close)
    return memory
