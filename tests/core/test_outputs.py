"""The outputs of a response come as asked for, and as the metadata says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infer_backends import DataType, InvalidInput, ProtocolError, TensorSpec
from infer_backends._outputs import Outputs
from infer_backends.plugin import InferResponse
from tests.core.fakes import metadata

OUTPUTS = Outputs(metadata())
Y = np.zeros((1, 3), np.float32)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ("y", r"pass \['y'\]"),
        (b"y", "list of names"),
        (["z"], "unknown output 'z'; the model's outputs are y"),
        ([], "at least one"),
        (["y", "y"], "each output once"),
        (3, "list of names"),
        ([["y"]], "list of names: a name is a str, not list"),
        ([np.array(["y", "n"])], "list of names: a name is a str, not ndarray"),
        ([np.array(["y"])], "list of names: a name is a str, not ndarray"),
        ([1], "list of names: a name is a str, not int"),
    ],
)
def test_wrong_outputs_are_refused(outputs: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        OUTPUTS.select(outputs)


def test_outputs_come_in_the_order_asked_for_or_that_of_the_metadata() -> None:
    names = ["b", "a", "c"]
    specs = [TensorSpec(name, DataType.FP32, (1,)) for name in names]
    outputs = Outputs(metadata(outputs=specs))
    response = InferResponse({name: np.zeros(1, np.float32) for name in "abc"})
    assert list(outputs.order(response, None)) == names
    assert outputs.unpack(response) == tuple(response.outputs[name] for name in names)
    assert list(outputs.order(response, outputs.select(iter(["c", "b"])))) == ["c", "b"]


def test_the_only_output_is_unpacked_as_an_array() -> None:
    assert OUTPUTS.unpack(InferResponse({"y": Y})) is Y


@pytest.mark.parametrize(
    ("answered", "message"),
    [
        ({"z": Y}, "answer of u has no output 'y'; it has z"),
        ({}, "it has none"),
        (None, "the answer of u has a NoneType for its outputs; expected a dict of arrays"),
        ([Y], "the answer of u has a list for its outputs"),
        ({"y": [[1.0]]}, "output 'y' as list; the model's metadata says an array of float32"),
        ({"y": Y.astype(np.float64)}, "output 'y' as float64"),
        ({"y": Y.astype(">f4")}, "output 'y' as >f4"),
    ],
)
def test_what_the_metadata_does_not_say_breaks_the_protocol(
    answered: dict[str, Any], message: str
) -> None:
    response = InferResponse(answered, backend_url="u")
    with pytest.raises(ProtocolError, match=message):
        OUTPUTS.unpack(response)
    with pytest.raises(ProtocolError, match=message):
        OUTPUTS.order(response, None)
