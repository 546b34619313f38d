"""What the tests of shared memory, and those of faults, have in common."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infer_backends.plugin import InferRequest, InferResponse
    from infer_backends_triton._http import HTTPBackend

import pytest


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """How the names of this test's regions begin: those of others are none of its business."""
    # Not every environment of the tests has this plugin.
    from infer_backends_triton import _regions

    own = f"infer_backends_test_{os.urandom(4).hex()}_"
    monkeypatch.setattr(_regions, "PREFIX", own)
    yield own
    # What clients that were killed have left.
    for path in _regions.FOLDER.glob(f"{own}*"):
        path.unlink()


@pytest.fixture(params=["blocking", "in a loop"])
def connections_more(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """Calls over HTTP block their thread, or wait in an event loop.

    How many connections the second way needs besides that by which the model was opened.
    """
    if request.param == "blocking":
        yield 0
        return
    from infer_backends_triton._http import HTTPBackend

    with contextlib.closing(asyncio.new_event_loop()) as loop:

        def infer(backend: HTTPBackend, asked: InferRequest) -> InferResponse:
            return loop.run_until_complete(backend.infer_async(asked))

        monkeypatch.setattr(HTTPBackend, "infer", infer)
        yield 1
