"""Whether an answer is one of the model that it should be of."""

from __future__ import annotations

import numpy as np
import pytest

from infer_backends import DataType, TensorSpec
from infer_backends._resilience._likeness import Likeness
from infer_backends.plugin import Array, InferResponse
from tests.core.fakes import metadata

LIKENESS = Likeness(
    metadata(
        outputs=[
            TensorSpec("y", DataType.FP32, (-1, 3)),
            TensorSpec("label", DataType.BYTES, (-1,)),
            TensorSpec("any", DataType.INT64, ()),
        ]
    )
)


@pytest.mark.parametrize(
    ("outputs", "like"),
    [
        ({}, True),
        ({"y": np.ones((7, 3), np.float32)}, True),
        ({"y": np.ones((0, 3), np.float32)}, True),
        ({"y": np.ones((7, 3), np.float64)}, False),
        ({"y": np.ones((7, 4), np.float32)}, False),
        ({"y": np.ones(3, np.float32)}, False),
        ({"y": np.ones((1, 7, 3), np.float32)}, False),
        ({"label": np.array([b"cat"], object)}, True),
        ({"label": np.array([b"cat"])}, False),
        ({"any": np.array(1)}, True),
        ({"any": np.ones((2, 2), np.int64)}, True),
        ({"y": np.ones((1, 3), np.float32), "label": np.ones(1, np.int8)}, False),
        ({"more": np.ones(1, np.int8)}, True),
    ],
)
def test_datatypes_ranks_and_known_dimensions_have_to_be_the_models(
    outputs: dict[str, Array], like: bool
) -> None:
    assert LIKENESS.of(InferResponse(outputs)) is like
