"""What the tests of fakes share: one form of model, and a clock that does not move by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from infer_backends import DataType, TensorSpec
from infer_backends.plugin import Array
from infer_backends.testing import FakeModel, FakePair, ManualClock

X = TensorSpec("x", DataType.FP32, (-1, 3))
Y = TensorSpec("y", DataType.FP32, (-1, 3))
ONES: Array = np.ones((2, 3), np.float32)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def fake(clock: ManualClock) -> Iterator[FakeModel]:
    """A model that doubles, started."""
    with FakeModel(
        "double", [X], [Y], compute=lambda arrays: arrays["x"] * 2, clock=clock
    ) as model:
        yield model


@pytest.fixture
def pair(clock: ManualClock) -> Iterator[FakePair]:
    """A server and a local model that double, started."""
    with FakePair(
        "double", [X], [Y], compute=lambda arrays: arrays["x"] * 2, clock=clock
    ) as models:
        yield models
