"""What the tests of shared memory have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator

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
