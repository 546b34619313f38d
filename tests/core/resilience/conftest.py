from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.resilience.members import OPEN, threads, until


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """What a test opened is closed, and leaves no thread."""
    yield
    while OPEN:
        OPEN.pop().close()
    until(lambda: not threads(), 5)
