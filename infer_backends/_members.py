"""The members of an open model, whatever its backend is."""

from __future__ import annotations

from infer_backends._backend import Backend, InferRequest, InferResponse, Member, SupportsMembers
from infer_backends._deadline import Deadline
from infer_backends._member_state import MemberState
from infer_backends._status import MemberStatus, ModelStatus
from infer_backends._tensors import ModelMetadata


class OnlyMember:
    """A backend that stands for no others, as the one member of its model.

    Args:
        backend: The backend.
        url: Its URL, secrets masked; empty where that is not known.

    Attributes:
        url: Its URL. Where that is not known, it is the model's name until an answer says it.
    """

    def __init__(self, backend: Backend, url: str = "") -> None:
        self.url = url or backend.metadata.name
        self._backend = backend

    def metadata(self, deadline: Deadline) -> ModelMetadata:  # noqa: ARG002 - it is open
        """What it said when it was opened."""
        return self._backend.metadata

    def run(self, request: InferRequest) -> InferResponse:
        """Let it answer."""
        response = self._backend.infer(request)
        self.url = getattr(response, "backend_url", "") or self.url
        return response


def members_of(backend: Backend, url: str = "") -> tuple[Member, ...]:
    """Everyone who may answer for a backend, in order of preference.

    Args:
        backend: The backend of an open model.
        url: Its URL, secrets masked; empty where that is not known.
    """
    if isinstance(backend, SupportsMembers):
        return backend.members()
    return (OnlyMember(backend, url),)


def status_of(backend: Backend, since: float) -> ModelStatus:
    """How the members of a backend do.

    Args:
        backend: The backend of an open model.
        since: How long it has been open, in seconds.
    """
    if isinstance(backend, SupportsMembers):
        return backend.status()
    return ModelStatus((_ready(backend.metadata.name, since),), fallbacks=0, retries=0)


def _ready(url: str, since: float) -> MemberStatus:
    """Of a member whose calls nobody counts."""
    return MemberStatus(
        url,
        MemberState.READY,
        since=since,
        calls=0,
        failures=0,
        in_flight=0,
        latency=None,
        last_error=None,
        probes=0,
        retry_in=None,
    )
