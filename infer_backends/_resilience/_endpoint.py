"""One URL of a model: asked while it answers, left alone while it does not."""

from __future__ import annotations

import logging
from copy import copy

from infer_backends import _fitting
from infer_backends._backend import InferRequest, InferResponse
from infer_backends._deadline import Deadline
from infer_backends._errors import (
    DeadlineExceeded,
    InferError,
    InvalidInput,
    MetadataMismatch,
    ModelClosed,
    ModelNotFound,
    PluginError,
    ProtocolError,
    Unavailable,
)
from infer_backends._owned import OwnedStream
from infer_backends._registry import serving
from infer_backends._resilience._breaker import Permit
from infer_backends._resilience._opened import Opened
from infer_backends._resilience._outage import is_outage
from infer_backends._resilience._policy import SLOW
from infer_backends._resilience._watched import PROBE_TIMEOUT, Watched
from infer_backends._tensors import ModelMetadata
from infer_backends._ways import BLOCKING, Responses, Way, run

logger = logging.getLogger("infer_backends")

#: These say nothing of whether it is available.
_SAYS_NOTHING = (MetadataMismatch, ModelClosed)

#: A time-out after less than this, in seconds, is the caller's: there was no time left.
_HURRIED = 0.001


class Endpoint(Watched):
    """One URL of a model, and the calls that it is asked to answer.

    Each call is one coroutine, by whichever way it goes; see ``_ways.py``.
    """

    def admit(self) -> Permit | None:
        """Leave to ask this endpoint, or None."""
        permit = self.breaker.free or self.breaker.admit()
        if permit is None and not self._prober.running:
            # In a forked child, threads of the parent are not there.
            self._watch()
        return permit

    async def answer(self, way: Way, request: InferRequest, permit: Permit) -> InferResponse:
        """Let it answer, and learn from how that goes.

        Raises:
            MetadataMismatch: It has become another model, and is not asked any more.
            InferError: What it said.
        """
        clock = self._clock
        started = clock()
        try:
            if not self._loaded:
                await way.aside(self._load, request.deadline)
                # What an answer takes is what is learnt, and loading is no part of it.
                started = clock()
            response = await self._ask(way, request)
            self._require_response(response)
            likeness = self._likeness
            if likeness is not None and not likeness.of(response, request.options):
                await way.aside(self._doubt, request.deadline)
                # It is the model that it was, and does not keep to what it says of itself.
                self._likeness = None
        except BaseException as exc:
            other = await self._learn(way, exc, permit, started, request)
            if other is None:
                raise
            raise other from exc
        now = clock()
        self.latency.observe(now - started)
        transition = self.breaker.succeeded(permit, now)
        if transition is not None:
            self._announce(transition)
        return response

    async def responses(self, way: Way, request: InferRequest, permit: Permit) -> Responses:
        """Let it answer by any number of responses; the first shows that it is available.

        Raises:
            InferError: What it said.
        """
        latest = self._clock()
        held: Permit | None = permit
        begun = False
        try:
            if not self._loaded:
                await way.aside(self._load, request.deadline)
            async with OwnedStream(self._stream(way, request)) as responses:
                async for response in responses:
                    begun = True
                    if held is not None and held.trial:
                        # Others wait to be let in, and a stream may have no end.
                        self._announce(self.breaker.succeeded(held, self._clock()))
                        held = None
                    yield response
                    latest = self._clock()
        except BaseException as exc:
            late = isinstance(exc, DeadlineExceeded) and request.deadline.expired
            if begun and (late or not isinstance(exc, Exception)):
                # Whoever reads it has no more time, or has had enough: it was there until then.
                if held is not None:
                    self._announce(self.breaker.succeeded(held, self._clock()))
                raise
            other = await self._learn(way, exc, held or permit, latest, request)
            if isinstance(other, PluginError):
                raise other from exc
            raise
        if held is not None:
            self._announce(self.breaker.succeeded(held, self._clock()))

    def run(self, request: InferRequest) -> InferResponse:
        """Let it answer, whatever its state; opens it if need be."""
        if not self._loaded:
            self._load(request.deadline)
        return run(self._ask(BLOCKING, request))

    async def _ask(self, way: Way, request: InferRequest) -> InferResponse:
        token = object()
        opened = self._enter(token)
        try:
            if request.options is None:
                return await way.ask(opened.backend, request)
            return await _fitting.ask(way, opened.backend, request)
        finally:
            opened.inside.discard(token)

    async def _stream(self, way: Way, request: InferRequest) -> Responses:
        token = object()
        opened = self._enter(token)
        try:
            async with OwnedStream(_fitting.stream(way, opened.backend, request)) as responses:
                async for response in responses:
                    yield response
        finally:
            opened.inside.discard(token)

    def _enter(self, token: object) -> Opened:
        opened = self.contact.openings.enter(token)
        if opened is None:
            raise Unavailable(f"{self.url} was not reached yet")
        return opened

    @property
    def request_options(self) -> frozenset[str] | None:
        """Which options it can do; None when that is not known yet."""
        opened = self.contact.openings.current
        return None if opened is None else _fitting.options_with_own(opened.backend)

    async def close_here(self) -> None:
        """Close what it has in the running event loop."""
        opened = self.contact.openings.current
        if opened is not None:
            await _fitting.close_async(opened.backend)

    @property
    def can_stream(self) -> bool:
        """Whether it can stream; True while that is not known."""
        opened = self.contact.openings.current
        return opened is None or _fitting.can_stream(opened.backend)

    def advice(self, ability: str) -> str:
        """Where that can be had which it cannot do."""
        opened = self.contact.openings.current
        return "" if opened is None else _fitting.advice_of(opened.backend, ability)

    def metadata(self, deadline: Deadline) -> ModelMetadata:
        """What it says of its model; opens it if need be."""
        opened = self.contact.openings.current if self._loaded else None
        return (opened or self._load(deadline)).backend.metadata

    def begin_loading(self) -> None:
        """Load it in the background."""
        self.contact.begin_loading()

    def _load(self, deadline: Deadline) -> Opened:
        contact = self.contact
        opened = contact.load(deadline) if contact.lazy else contact.open(deadline)
        found = self.contact.differing(opened.backend.metadata)
        if found and self._policy.strict:
            raise self._exclude(found)
        self._loaded = True
        self._announce(self.breaker.opened())
        return opened

    async def _learn(
        self, way: Way, exc: BaseException, permit: Permit, started: float, request: InferRequest
    ) -> InferError | None:
        """Take notice of how a call failed; the error to raise instead, if another says more."""
        other: InferError | None = None
        deadline = request.deadline
        if isinstance(exc, Exception) and not isinstance(exc, InferError):
            self.breaker.abandoned(permit)
            # Only the type: a careless message could hold the URL's password.
            broken = PluginError(
                f"{serving(self.url)} raised {type(exc).__name__}; a backend raises only the "
                "library's errors"
            )
            self._last_error = copy(broken)
            return broken
        if isinstance(exc, (InvalidInput, ProtocolError)):
            # The request fitted the model that was opened. Is it still that model?
            try:
                await way.aside(self._doubt, deadline)
            except DeadlineExceeded:
                # It did not say.
                pass
            except InferError as found:
                exc = other = found
            except BaseException:  # an interruption
                self.breaker.abandoned(permit)
                raise
        now = self._policy.clock()
        # There was no time left for it; or it will be there in time for another call; or the caller
        # did not want to wait for others.
        early = isinstance(exc, DeadlineExceeded) and (
            (now - started < _HURRIED and deadline.expired)
            or (self.unopened and self.contact.loading)
            or exc.queued_here
            or _left_the_queue(exc, request)
        )
        if isinstance(exc, InferError) and is_outage(exc) and not early:
            self._last_error = copy(exc)
            slow = now - started >= SLOW or (
                isinstance(exc, DeadlineExceeded) and not self._needs_more(now - started)
            )
            reason = f"{type(exc).__name__}: {exc}"
            self._announce(self.breaker.failed(permit, now, reason, slow=slow))
        elif early or not isinstance(exc, InferError) or isinstance(exc, _SAYS_NOTHING):
            self.breaker.abandoned(permit)
        else:
            # It is there; the error is about this call.
            self._announce(self.breaker.succeeded(permit, now))
        return other

    def _needs_more(self, seconds: float) -> bool:
        """Whether so little time is known not to be enough: then a time-out is the caller's."""
        typical = self.latency.typical
        return typical is not None and seconds < typical

    def _require_response(self, response: object) -> None:
        if not isinstance(response, InferResponse):
            raise PluginError(
                f"{serving(self.url)} returned {type(response).__name__}; a backend returns an "
                "InferResponse"
            )

    def _doubt(self, deadline: Deadline) -> None:
        """See whether it is still the model that it was, if that can be told.

        Raises:
            MetadataMismatch: It is not.
            ModelNotFound: It is no more.
            Unavailable: Nobody answers any more.
        """
        if not self._policy.strict:
            return
        within = Deadline.after(min(PROBE_TIMEOUT, deadline.remaining()))
        try:
            found = self.contact.changed(self._policy.clock, within)
        except (ModelNotFound, Unavailable):
            raise
        except InferError as exc:
            logger.debug("%s did not say whether it is still the same model: %s", self.url, exc)
            return
        if found:
            raise self._exclude(found)


def _left_the_queue(exc: DeadlineExceeded, request: InferRequest) -> bool:
    """Whether the server is only busy: the request waited there for as long as it was told to."""
    options = request.options
    limited = options is not None and options.queue_timeout is not None
    return limited and exc.unprocessed and not request.deadline.expired
