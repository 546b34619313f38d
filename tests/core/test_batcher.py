"""Samples are put into batches in their order, those of one shape that follow each other."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from infer_backends import DataType, InvalidInput, TensorSpec
from infer_backends._batcher import Batch, Batcher
from infer_backends._coercion import Coerce
from infer_backends._semantics import Semantics
from infer_backends.plugin import ModelMetadata
from tests.core.fakes import FakeBackend, metadata

FP32, INT32, BYTES = DataType.FP32, DataType.INT32, DataType.BYTES
BATCHING = metadata(max_batch_size=4)


def batched(
    samples: Any, model: ModelMetadata = BATCHING, size: int = 4, *, coerce: Coerce = "lossless"
) -> list[Batch]:
    batcher = Batcher(Semantics(FakeBackend(metadata=model), coerce=coerce), size)
    found = [batch for sample in samples for batch in batcher.add(sample)]
    return [*found, *batcher.rest()]


def places(batches: list[Batch]) -> list[tuple[int, int]]:
    return [(batch.first, batch.count) for batch in batches]


def row(value: float = 0.0, length: int = 3) -> np.ndarray[Any, Any]:
    return np.full(length, value, np.float32)


def test_a_batch_is_full_or_the_last() -> None:
    batches = batched([row(i) for i in range(10)])
    assert places(batches) == [(0, 4), (4, 4), (8, 2)]
    joined = np.concatenate([batch.inputs["x"] for batch in batches])
    np.testing.assert_array_equal(joined, np.arange(10, dtype=np.float32)[:, None] * [1, 1, 1])
    assert all(batch.rows and batch.inputs["x"].flags.c_contiguous for batch in batches)


def test_there_is_no_batch_without_samples() -> None:
    assert batched([]) == []


def test_samples_of_another_shape_begin_another_batch_and_the_order_stays() -> None:
    model = metadata([TensorSpec("x", FP32, (-1, -1))], max_batch_size=4)
    lengths = [3, 3, 5, 3, 3, 3, 3, 3]
    assert places(batched([row(0, length) for length in lengths], model)) == [
        (0, 2),
        (2, 1),
        (3, 4),
        (7, 1),
    ]


def test_samples_with_other_optional_inputs_begin_another_batch() -> None:
    specs = [TensorSpec("x", FP32, (-1, 3)), TensorSpec("bias", FP32, (-1, 1), optional=True)]
    model = metadata(specs, max_batch_size=4)
    with_bias = {"bias": row(1, 1), "x": row()}
    batches = batched([with_bias, (row(), row(1, 1)), {"x": row()}, (row(),), with_bias], model)
    assert places(batches) == [(0, 2), (2, 2), (4, 1)]
    assert [list(batch.inputs) for batch in batches] == [["x", "bias"], ["x"], ["x", "bias"]]


def test_a_sample_may_use_the_memory_of_the_one_before() -> None:
    shared = row()

    def samples() -> Any:
        for value in range(5):
            shared[:] = value
            yield shared

    joined = np.concatenate([batch.inputs["x"][:, 0] for batch in batched(samples())])
    assert joined.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("sample", [np.zeros((1, 3), np.float32), memoryview(bytes(3))])
def test_a_sample_that_is_a_whole_request_is_copied_too(sample: Any) -> None:
    kept = np.array(sample)
    if isinstance(sample, memoryview):
        model, given = metadata([TensorSpec("x", DataType.UINT8, (3,))]), bytearray(sample)
        (batch,) = batched([memoryview(given)], model)
        given[0] = 7
    else:
        (batch,) = batched([sample], metadata())
        sample[:] = 7
    assert not batch.rows
    np.testing.assert_array_equal(batch.inputs["x"], kept)


def test_memory_for_a_large_batch_is_taken_as_it_fills() -> None:
    large = np.zeros(1 << 18, np.float32)
    model = metadata([TensorSpec("x", FP32, (-1, -1))], max_batch_size=1 << 30)
    (batch,) = batched([large] * 5, model, 1 << 30)
    assert places([batch]) == [(0, 5)]
    base = batch.inputs["x"].base
    assert base is not None
    assert base.shape[0] == 8


@pytest.mark.parametrize(
    ("sample", "rows"),
    [
        (np.zeros(3, np.float32), True),
        ([0, 1, 2], True),
        ((0.5, 1, 2), True),
        (np.zeros(3, np.int8), True),
        ({"x": [0, 1, 2]}, True),
        (np.zeros((1, 3), np.float32), False),
        (np.zeros((7, 3), np.float32), False),
        ([[0, 1, 2]], False),
    ],
)
def test_the_rank_tells_whether_the_batch_axis_is_missing(sample: Any, rows: bool) -> None:
    (batch,) = batched([sample], metadata())
    assert (batch.error, batch.rows) == (None, rows)
    assert batch.inputs["x"].ndim == 2


def test_a_sample_with_a_batch_axis_has_a_request_of_its_own() -> None:
    batches = batched([row(), row(), row()[None], row(), row()], metadata())
    assert [(b.first, b.count, b.rows) for b in batches] == [
        (0, 2, True),
        (2, 1, False),
        (3, 2, True),
    ]


@pytest.mark.parametrize("shape", [(3, -1), (3,), ()])
def test_a_first_axis_of_a_fixed_length_is_no_batch_axis(shape: tuple[int, ...]) -> None:
    sample = np.zeros([size if size > 0 else 2 for size in shape], np.float32)
    (batch,) = batched([sample], metadata([TensorSpec("x", FP32, shape)]), 1)
    assert not batch.rows
    assert batch.inputs["x"].shape == sample.shape


def test_an_axis_of_length_one_may_be_missing() -> None:
    (batch,) = batched([row()], metadata([TensorSpec("x", FP32, (1, 3))]), 1)
    assert batch.rows
    assert batch.inputs["x"].shape == (1, 3)


def test_all_inputs_lack_the_axis_or_none_does() -> None:
    model = metadata([TensorSpec("a", FP32, (-1, 3)), TensorSpec("b", FP32, (-1,))])
    good, mixed = batched([(row(), np.float32(1)), (row(), row())], model)
    assert good.rows
    assert good.inputs["b"].tolist() == [1]
    assert "input 'a': expected shape (-1, 3), got (3,)" in str(mixed.error)


def test_strings_keep_the_nuls_at_their_ends() -> None:
    model = metadata([TensorSpec("x", BYTES, (-1, 2))], max_batch_size=4)
    (batch,) = batched([[b"a\0", "b"], [b"\0", b""]], model)
    assert batch.inputs["x"].tolist() == [[b"a\0", b"b"], [b"\0", b""]]
    (single,) = batched([[b"a\0", "b"]], metadata([TensorSpec("x", BYTES, (-1, 2))]), 1)
    assert (single.rows, single.inputs["x"].tolist()) == (True, [[b"a\0", b"b"]])


def test_samples_are_coerced_as_the_model_was_opened() -> None:
    (batch,) = batched([[1, 2, 3]])
    assert batch.inputs["x"].dtype == np.float32
    (refused,) = batched([[1, 2, 3]], coerce="never")
    assert isinstance(refused.error, InvalidInput)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (row(0, 4), r"input 'x': expected shape \(3,\), got \(4,\)"),
        (row()[None], r"one axis too many\? pass x\[0\]"),
        ([[1, 2], [3]], "different lengths"),
        (np.zeros(3, bool), "input 'x': expected FP32, got bool"),
        ({"y": row()}, "unknown input 'y'"),
        ({"x": row(), "y": row()}, "unknown input 'y'"),
        ({}, "missing input 'x'"),
        (None, "expected an array, got None"),
        (np.ma.masked_array(row(), mask=[True, False, False]), "mask"),
        ("text", "got"),
    ],
)
def test_a_bad_sample_is_alone_with_its_error(sample: Any, message: str) -> None:
    before, bad, after = batched([row(), row(), sample, row()])
    assert places([before, bad, after]) == [(0, 2), (2, 1), (3, 1)]
    assert isinstance(bad.error, InvalidInput)
    assert re.search(message, str(bad.error)), bad.error


def test_a_tuple_has_the_inputs_in_their_order() -> None:
    model = metadata([TensorSpec("a", FP32, (-1, 3)), TensorSpec("b", INT32, (-1, 1))])
    (batch,) = batched([(row(1), [2]), {"b": [3], "a": row(4)}], model)
    assert batch.inputs["a"][:, 0].tolist() == [1, 4]
    assert batch.inputs["b"].tolist() == [[2], [3]]
    (refused,) = batched([(row(), [1], [2])], model)
    assert "expected a sample of 2 inputs (a: FP32[-1, 3], b: INT32[-1, 1])" in str(refused.error)


def test_a_model_without_inputs_is_called_for_each_sample() -> None:
    batches = batched([(), {}], metadata([]), 1)
    assert [(batch.error, batch.inputs, batch.rows) for batch in batches] == [
        (None, {}, False),
        (None, {}, False),
    ]


def test_halves_are_the_samples_in_order() -> None:
    (batch,) = batched([row(i) for i in range(3)])
    first, second = batch.halves()
    assert places([first, second]) == [(0, 1), (1, 2)]
    assert second.inputs["x"][:, 0].tolist() == [1, 2]
