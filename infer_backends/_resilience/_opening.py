"""From the URLs of a model to a Backend that stands for all of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack

from infer_backends._deadline import Deadline
from infer_backends._errors import (
    Attempt,
    DeadlineExceeded,
    InferError,
    MetadataMismatch,
    Unavailable,
)
from infer_backends._member_state import MemberState
from infer_backends._resilience._budget import reserve
from infer_backends._resilience._endpoint import Endpoint
from infer_backends._resilience._fallback import Fallback
from infer_backends._resilience._parity import differences
from infer_backends._resilience._policy import Policy
from infer_backends._resilience._remembered import remembered
from infer_backends._resilience._replicas import Replicas
from infer_backends._resilience._route import failure
from infer_backends._tensors import ModelMetadata

logger = logging.getLogger("infer_backends")

#: How long opening waits for one endpoint when there are others: a server that hangs is left to
#: its prober, so that the model opens at once. In seconds.
_PATIENCE = 3.0


def open_members(
    members: Sequence[Sequence[Endpoint]], deadline: Deadline, policy: Policy
) -> Fallback:
    """Reach every endpoint that can be reached now; the others are probed until they can.

    Args:
        members: In order of preference; each is one endpoint, or several replicas.
        deadline: By when at least one has to be open.
        policy: What they share.

    Raises:
        AllBackendsFailed: None can be reached.
        MetadataMismatch: Two of them are not the same model.
        InferError: What another endpoint would not change: a wrong URL, credentials, no such
            model.
    """
    endpoints = [endpoint for member in members for endpoint in member]
    opening = _Opening(policy)
    try:
        for position, endpoint in enumerate(endpoints):
            opening.reach(endpoint, deadline, len(endpoints) - position - 1)
        agreed = opening.agreed()
    except BaseException:
        with ExitStack() as closing:
            for endpoint in endpoints:
                closing.callback(endpoint.close)
        raise
    opening.start(endpoints, agreed)
    groups = [Replicas(member, policy.random) for member in members]
    return Fallback(groups, agreed, policy)


class _Opening:
    """What has been found while the endpoints were reached, one after the other."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._found: dict[Endpoint, tuple[ModelMetadata, bool]] = {}
        self._attempts: list[Attempt] = []

    def reach(self, endpoint: Endpoint, deadline: Deadline, later: int) -> None:
        """Open it, or have it described, if it can be reached.

        Args:
            endpoint: The endpoint.
            deadline: By when the model has to be open.
            later: How many endpoints come after it.
        """
        started = self._policy.clock()
        try:
            share = self._share(endpoint, deadline, later)
            # The first that can be reached answers the first call: it had better be open by then.
            needed = not any(opened for _, opened in self._found.values())
            self._found[endpoint] = endpoint.contact.first(share, needed=needed)
        except (Unavailable, DeadlineExceeded) as exc:
            duration = self._policy.clock() - started
            self._attempts.append(Attempt(endpoint.url, remembered(exc), started, duration))
            endpoint.failed_to_open(exc)
        except InferError as exc:
            exc.attempts = (*self._attempts, *exc.attempts)
            raise

    def _share(self, endpoint: Endpoint, deadline: Deadline, later: int) -> Deadline:
        """How long to wait for an endpoint: not long, if the model may do without it."""
        remaining = deadline.remaining()
        kept = reserve(remaining, 0.0, later)
        if (later or self._found) and not endpoint.contact.awaited:
            kept = max(kept, remaining - _PATIENCE)
        return deadline.less(kept)

    def agreed(self) -> ModelMetadata:
        """The metadata that those agree on which were reached."""
        if not self._found:
            raise failure(self._attempts, expired=False)
        (first, (reference, _)), *others = self._found.items()
        for endpoint, (metadata, _) in others:
            found = differences(reference, metadata)
            if found:
                text = f"{first.url} and {endpoint.url} are not the same model: {'; '.join(found)}"
                if self._policy.strict:
                    raise MetadataMismatch(
                        f"{text}. Serve the same model, or open with parity=warn"
                    )
                logger.warning("%s", text)
        return reference

    def start(self, endpoints: Sequence[Endpoint], agreed: ModelMetadata) -> None:
        """Let all of them begin, each in the state in which it was found."""
        errors = {attempt.url: attempt.error for attempt in self._attempts}
        for endpoint in endpoints:
            if endpoint in self._found:
                opened = self._found[endpoint][1]
                state = MemberState.READY if opened else MemberState.UNOPENED
                endpoint.start(agreed, state, "")
            else:
                reason = f"it cannot be reached yet: {errors[endpoint.url]}"
                endpoint.start(agreed, MemberState.DOWN, reason)
