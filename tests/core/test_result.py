"""What a call returns beside its outputs."""

from __future__ import annotations

import numpy as np
import pytest

from infer_backends import InferResult


def test_a_result_is_a_mapping_that_shows_shapes_and_no_contents() -> None:
    result = InferResult({"y": np.full((2,), 31337, np.int32)}, backend_url="fake://h/m")
    assert dict(result).keys() == {"y"}
    assert len(result) == 1
    assert result["y"][0] == 31337
    assert repr(result) == "<InferResult y: int32[2] from fake://h/m>"
    assert result.parameters == {}
    assert result.attempts == ()


def test_an_output_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="no output 'z'; there are y"):
        InferResult({"y": np.zeros(1)})["z"]
