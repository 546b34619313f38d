"""Backends that break one rule each: about how they are opened, shared, interrupted and closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from infer_backends.plugin import (
    Backend,
    DeadlineExceeded,
    InferenceFailed,
    InferRequest,
    InferResponse,
    InvalidInput,
    ModelMetadata,
    ModelURL,
    OpenOptions,
    Option,
    PermissionDenied,
    Unavailable,
)
from infer_backends.testing import adding, counting
from tests.contract.mutants.sane import AWAY, OPTIONS, Opener, Outputs, SaneBackend, Steps, pause


class ReadsTheURL(Opener):
    def __call__(self, url: ModelURL, options: OpenOptions) -> Backend:
        backend = super().__call__(url, options)
        assert isinstance(backend, SaneBackend)
        backend.gain = np.float32(dict(url.options).get("gain", "1"))
        return backend


class ShowsItself(SaneBackend):
    def __repr__(self) -> str:
        return f"<a model, with {dict(self.options)}>"


class ShowsTheToken(Opener):
    def __call__(self, url: ModelURL, options: OpenOptions) -> Backend:
        if options["token"]:
            try:
                raise ValueError(f"the server does not know {options['token']}")
            except ValueError as exc:
                raise PermissionDenied("the token was refused") from exc
        return super().__call__(url, options)


class Prints(SaneBackend):
    def close(self) -> None:
        super().close()
        os.write(2, b"closed\n")


class Warns(SaneBackend):
    def begin(self, request: InferRequest) -> None:
        super().begin(request)
        warnings.warn("this is slow", stacklevel=1)


class LogsWarnings(SaneBackend):
    def begin(self, request: InferRequest) -> None:
        super().begin(request)
        logging.getLogger("mutant").warning("this is slow")


class HasTime(SaneBackend):
    def begin(self, request: InferRequest) -> None:
        if AWAY.is_set():
            super().begin(request)


class CannotStop(SaneBackend):
    def check(self, request: InferRequest) -> None:
        pass


class StopsOtherwise(SaneBackend):
    def check(self, request: InferRequest) -> None:
        try:
            super().check(request)
        except DeadlineExceeded as exc:
            raise InferenceFailed("the run was stopped") from exc


class StaysStopped(SaneBackend):
    stopped = False

    def check(self, request: InferRequest) -> None:
        self.stopped = self.stopped or request.deadline.expired
        if self.stopped:
            raise DeadlineExceeded("the run was stopped")


class SharesTheCall(SaneBackend):
    def steps(self, request: InferRequest) -> Steps:
        self.current = request
        pause()
        yield
        return self.compute(self.current)


class OneProcess(SaneBackend):
    def __init__(self, name: str, url: ModelURL, options: OpenOptions) -> None:
        super().__init__(name, url, options)
        self.process = os.getpid()

    def begin(self, request: InferRequest) -> None:
        super().begin(request)
        if os.getpid() != self.process:
            raise InferenceFailed("the session is that of another process")


class OneAtATime(SaneBackend):
    names: ClassVar[set[str]] = set()

    def __init__(self, name: str, url: ModelURL, options: OpenOptions) -> None:
        if name in self.names:
            raise Unavailable(f"{name!r} is open")
        self.names.add(name)
        super().__init__(name, url, options)

    def close(self) -> None:
        super().close()
        self.names.discard(self.name)


class NeedsItsParent(SaneBackend):
    def __init__(self, name: str, url: ModelURL, options: OpenOptions) -> None:
        if sys.argv[0] == "-c":
            raise Unavailable("the cache of the first process is not there")
        super().__init__(name, url, options)


class ClosesOnce(SaneBackend):
    def close(self) -> None:
        if self.closed.is_set():
            raise InferenceFailed("it is closed")
        super().close()


class ForgetsItself(SaneBackend):
    weights: Any = np.zeros(1)

    def guarded(self, request: InferRequest) -> Steps:
        return self.steps(request)

    def check(self, request: InferRequest) -> None:
        self.weights + 1

    def close(self) -> None:
        self.weights = None
        super().close()


class LeaksFiles(SaneBackend):
    def __init__(self, name: str, url: ModelURL, options: OpenOptions) -> None:
        super().__init__(name, url, options)
        self.file = os.open(os.devnull, os.O_RDONLY)
        LEAKED.append(self.file)


class LeaksThreads(SaneBackend):
    def __init__(self, name: str, url: ModelURL, options: OpenOptions) -> None:
        super().__init__(name, url, options)
        threading.Thread(target=OVER.wait, daemon=True).start()


#: What the two leave, to be cleared away after the test of the test.
LEAKED: list[int] = []
OVER = threading.Event()


class AwaitedReadOnly(SaneBackend):
    async def infer_async(self, request: InferRequest) -> InferResponse:
        response = await super().infer_async(request)
        for array in response.outputs.values():
            array.flags.writeable = False
        return response


class AwaitedOtherOutputs(SaneBackend):
    async def infer_async(self, request: InferRequest) -> InferResponse:
        return replace(await super().infer_async(request), backend_url="")


class AwaitedHasTime(SaneBackend):
    async def infer_async(self, request: InferRequest) -> InferResponse:
        return self.respond(request, self.compute(request))


class TasksShareTheCall(SaneBackend):
    async def infer_async(self, request: InferRequest) -> InferResponse:
        self.current = request
        await asyncio.sleep(0)
        return self.respond(request, self.compute(self.current))


class LeavesTasks(SaneBackend):
    async def infer_async(self, request: InferRequest) -> InferResponse:
        self.watch = asyncio.ensure_future(asyncio.sleep(3600))
        return await super().infer_async(request)


class OneLoop(SaneBackend):
    loop: Any = None

    async def infer_async(self, request: InferRequest) -> InferResponse:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise InferenceFailed("the connection is of another loop")
        return await super().infer_async(request)


class BlocksTheLoop(SaneBackend):
    async def infer_async(self, request: InferRequest) -> InferResponse:
        return self.infer(request)


class ClosesOnceInLoops(SaneBackend):
    async def close_async(self) -> None:
        if self.closed.is_set():
            raise InferenceFailed("it is closed")
        self.close()


class AwayIsAFailure(SaneBackend):
    def begin(self, request: InferRequest) -> None:
        if AWAY.is_set():
            raise InferenceFailed("the server is not there")
        super().begin(request)


class NeverReconnects(SaneBackend):
    broken = False

    def begin(self, request: InferRequest) -> None:
        self.broken = self.broken or AWAY.is_set()
        if self.broken:
            raise InvalidInput("the connection is broken")
        super().begin(request)


class Backwards(SaneBackend):
    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        parts = [self.respond(request, part) for part in counting(request.inputs)]
        yield from parts[::-1]


class OneBufferForAll(SaneBackend):
    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        buffer = np.zeros(1, np.int32)
        for response in super().stream(request):
            buffer[...] = response.outputs["count"]
            response.outputs["count"] = buffer
            yield response


class StaysBusy(SaneBackend):
    busy = False

    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        if self.busy:
            raise Unavailable("another stream is read")
        self.busy = True
        yield from super().stream(request)
        self.busy = False


class FallsOverItsEnd(SaneBackend):
    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        try:
            yield from super().stream(request)
        finally:
            if self.closed.is_set():
                raise ValueError("there is nothing to cancel any more")


class OneResponse(SaneBackend):
    def declare(self) -> ModelMetadata:
        return replace(super().declare(), decoupled=False)


class AwaitedBackwards(SaneBackend):
    async def stream_async(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        for response in list(self.stream(request))[::-1]:
            yield response


class Forgets(SaneBackend):
    def step(self, request: InferRequest) -> Outputs:
        return adding(request.inputs, {})


class OneState(SaneBackend):
    def step(self, request: InferRequest) -> Outputs:
        return adding(request.inputs, self.states.setdefault(0, {}))


class NoShortSequences(SaneBackend):
    def step(self, request: InferRequest) -> Outputs:
        sequence: Any = request.options and request.options.sequence
        if sequence.start and sequence.end:
            raise InvalidInput("a sequence has two steps or more")
        return super().step(request)


class AwaitedForgets(SaneBackend):
    async def infer_async(self, request: InferRequest) -> InferResponse:
        with contextlib.suppress(KeyError):
            return self.respond(request, {"total": request.inputs["term"]})
        return await super().infer_async(request)


class Sleeps(SaneBackend):
    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        self.begin(request)
        end = time.monotonic() + 1
        for part in counting(request.inputs):
            if time.monotonic() > end:
                return
            yield self.respond(request, part)


#: The rules, and the backends that break them; or what is declared of the sane one, and is not so.
MUTANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "options-declared": ({"options": (*OPTIONS, Option("no_such_option", int))},),
    "options-same": ({"opener": ReadsTheURL},),
    "secrets": ({"backend": ShowsItself}, {"opener": ShowsTheToken}),
    "quiet": ({"backend": Prints}, {"backend": Warns}, {"backend": LogsWarnings}),
    "deadline-passed": ({"backend": HasTime},),
    "deadline-interrupts": (
        {"backend": CannotStop},
        {"backend": StopsOtherwise},
        {"interrupts": False},
    ),
    "deadline-after": ({"backend": StaysStopped},),
    "threads": ({"backend": SharesTheCall},),
    "fork": ({"backend": OneProcess}, {"survives_fork": False}),
    "pickling": ({"backend": OneAtATime},),
    "spawn": ({"backend": NeedsItsParent},),
    "close-again": ({"backend": ClosesOnce},),
    "close-ends": ({"backend": ForgetsItself},),
    "close-releases": ({"backend": LeaksFiles}, {"backend": LeaksThreads}),
    "loops-answers": ({"backend": AwaitedReadOnly}, {"backend": AwaitedOtherOutputs}),
    "loops-deadline": ({"backend": AwaitedHasTime},),
    "loops-tasks": ({"backend": TasksShareTheCall}, {"backend": LeavesTasks}),
    "loops-several": ({"backend": OneLoop},),
    "loops-free": ({"backend": BlocksTheLoop},),
    "loops-closed": ({"backend": ClosesOnceInLoops},),
    "outage": ({"backend": AwayIsAFailure}, {"backend": NeverReconnects}),
    "outage-covered": ({"backend": AwayIsAFailure},),
    "stream-order": ({"backend": Backwards},),
    "stream-outputs": ({"backend": OneBufferForAll},),
    "stream-early": ({"backend": StaysBusy},),
    "stream-deadline": ({"backend": Sleeps},),
    "stream-closed": ({"backend": FallsOverItsEnd},),
    "stream-refused": ({"backend": OneResponse},),
    "stream-loops": ({"backend": AwaitedBackwards},),
    "sequence-together": ({"backend": Forgets},),
    "sequence-apart": ({"backend": OneState},),
    "sequence-ended": ({"backend": NoShortSequences},),
    "sequence-loops": ({"backend": AwaitedForgets},),
}
