"""Probes that come when a test wants them, instead of when they are due."""

from __future__ import annotations

from infer_backends._async_model import AsyncModel
from infer_backends._backend import SupportsMembers
from infer_backends._errors import InvalidInput
from infer_backends._model import Model
from infer_backends._resilience._watched import Watched


def probe_now(model: Model | AsyncModel) -> None:
    """Have the members of an open model probed that are not asked for now, as they soon would be.

    A member that went down is probed in the background, first after a second. A test that does not
    want to wait for that says so; when this returns, each such member has been probed once. One
    that is ready gets calls again: one at a time, until three were answered. One that is not is
    left alone as before, and so is one whose calls failed after an earlier probe.

    Args:
        model: What ``open_model`` or ``open_async_model`` returned; of one with a single URL
            nothing is probed.

    Raises:
        InvalidInput: It is no such model.
    """
    if not isinstance(model, (Model, AsyncModel)):
        raise InvalidInput(f"expected what open_model returned; got {type(model).__name__}")
    backend = model._semantics.backend  # noqa: SLF001 - of the same distribution
    if isinstance(backend, SupportsMembers):
        for member in backend.members():
            if isinstance(member, Watched):
                member.probe_now()
