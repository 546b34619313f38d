"""What a call returns beside its outputs."""

from __future__ import annotations

import copy
import pickle
from types import MappingProxyType

import numpy as np
import pytest

from infer_backends import Attempt, InferResult, Unavailable


def test_a_result_is_a_mapping_that_shows_shapes_and_no_contents() -> None:
    result = InferResult({"y": np.full((2,), 31337, np.int32)}, backend_url="fake://h/m")
    assert dict(result).keys() == {"y"}
    assert len(result) == 1
    assert result["y"][0] == 31337
    assert repr(result) == "<InferResult y: int32[2] from fake://h/m>"
    assert result.parameters == {}
    assert result.attempts == ()


def test_a_result_pickles_with_all_that_a_backend_may_have_given_it() -> None:
    attempt = Attempt("fake://a/m", Unavailable("no"), 1.0, 0.5)
    result = InferResult(
        {"y": np.ones(2)},
        backend_url="fake://h/m",
        attempts=(attempt,),
        parameters=MappingProxyType({"p": 1}),
    )
    again = pickle.loads(pickle.dumps(result))
    assert again["y"].tolist() == [1, 1]
    assert again.parameters == {"p": 1}
    assert again.backend_url == "fake://h/m"
    assert isinstance(again.attempts[0].error, Unavailable)
    assert copy.deepcopy(result)["y"] is not result["y"]


def test_an_output_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="no output 'z'; there are y"):
        InferResult({"y": np.zeros(1)})["z"]
