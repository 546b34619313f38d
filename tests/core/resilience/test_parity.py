"""Whether two backends serve the same model."""

from __future__ import annotations

import re

import pytest

from infer_backends import DataType, TensorSpec
from infer_backends._resilience._parity import differences
from tests.core.fakes import metadata

X = TensorSpec("x", DataType.FP32, (-1, 3))


@pytest.mark.parametrize(
    "other",
    [
        X,
        TensorSpec("x", DataType.FP32, (8, 3)),
        TensorSpec("x", DataType.FP32, (-1, -1)),
        TensorSpec("x", DataType.FP32, (-1, 3), optional=True, labels=("a",)),
    ],
)
def test_the_same_tensors_may_stand_in(other: TensorSpec) -> None:
    assert differences(metadata([X]), metadata([other], max_batch_size=8)) == []


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([TensorSpec("z", DataType.FP32, (-1, 3))], r"inputs are \['x'\] and \['z'\]"),
        ([X, TensorSpec("z", DataType.FP32, (1,))], "inputs are"),
        ([TensorSpec("x", DataType.FP16, (-1, 3))], r"input 'x' is FP32\[-1, 3\] and FP16"),
        ([TensorSpec("x", DataType.FP32, (-1, 4))], "input 'x' is"),
        ([TensorSpec("x", DataType.FP32, (-1, 3, 1))], "input 'x' is"),
    ],
)
def test_other_names_datatypes_ranks_and_dimensions_differ(
    others: list[TensorSpec], message: str
) -> None:
    (found,) = differences(metadata([X]), metadata(others))
    assert re.search(message, found)


def test_order_matters_and_outputs_are_compared_too() -> None:
    a, b = TensorSpec("a", DataType.FP32, (1,)), TensorSpec("b", DataType.FP32, (1,))
    assert differences(metadata(outputs=[a, b]), metadata(outputs=[b, a])) == [
        "outputs are ['a', 'b'] and ['b', 'a']"
    ]
