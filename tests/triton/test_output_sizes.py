"""What is known of the sizes of outputs before a call."""

from __future__ import annotations

from typing import Any

import numpy as np

from infer_backends.plugin import DataType, ModelMetadata, TensorSpec
from infer_backends_triton import _output_sizes
from infer_backends_triton._output_sizes import OutputSizes


def sizes(*outputs: TensorSpec, batch: int = 0, least: int = 8) -> OutputSizes:
    return OutputSizes(ModelMetadata("m", (), "", (), outputs, batch), least)


def x(*shape: int) -> dict[str, Any]:
    return {"x": np.zeros(shape, np.float32)}


def test_a_static_shape_says_it() -> None:
    known = sizes(TensorSpec("y", DataType.FP64, (2, 3)), TensorSpec("z", DataType.UINT8, (7,)))
    assert known.expect(x(1)) == {"y": 48}


def test_with_batching_the_rows_of_the_input_say_it() -> None:
    known = sizes(TensorSpec("y", DataType.FP16, (-1, 3)), batch=8)
    assert known.expect(x(4, 9)) == {"y": 24}
    assert known.expect(x(1, 9)) == {}


def test_without_batching_rows_say_nothing() -> None:
    assert sizes(TensorSpec("y", DataType.FP16, (-1, 3))).expect(x(4, 3)) == {}


def test_an_earlier_answer_to_the_same_shapes_says_it() -> None:
    known = sizes(TensorSpec("y", DataType.FP32, (-1,)))
    known.learn(x(5), {"y": np.zeros(10, np.float32)})
    assert known.expect(x(5)) == {"y": 40}
    assert known.expect(x(6)) == {}


def test_what_grows_gets_room_to_grow() -> None:
    known = sizes(TensorSpec("y", DataType.FP32, (-1,)))
    for count, room in ((10, 40), (5, 40), (11, 88), (20, 88), (23, 184)):
        known.learn(x(5), {"y": np.zeros(count, np.float32)})
        assert known.expect(x(5)) == {"y": room}


def test_small_outputs_and_bytes_are_not_remembered() -> None:
    known = sizes(TensorSpec("y", DataType.FP32, (-1,)), TensorSpec("s", DataType.BYTES, (-1,)))
    known.learn(x(5), {"y": np.zeros(1, np.float32), "s": np.array([b"a" * 99] * 9, object)})
    assert known.expect(x(5)) == {}


def test_shapes_that_never_repeat_do_not_fill_the_memory() -> None:
    known = sizes(TensorSpec("y", DataType.FP32, (-1,)))
    for count in range(3 * _output_sizes._MAX_SHAPES):
        known.learn(x(count), {"y": np.zeros(10, np.float32)})
        assert known.expect(x(count)) == {"y": 40}
        assert len(known._learnt) <= _output_sizes._MAX_SHAPES
