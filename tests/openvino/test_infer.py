"""What the backend does with arrays: whose they are, what they hold, who may call at a time."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openvino as ov
import pytest

import infer_backends as ib
from infer_backends.plugin import DataType, InvalidInput, UnsupportedOperation
from infer_backends.testing import REFERENCE_MODELS
from tests.openvino import models
from tests.openvino.conftest import DIGITS, OpenBackend, Save, request

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_outputs_that_are_one_value_share_no_memory(open_backend: OpenBackend) -> None:
    backend = open_backend(models.aliases())
    outputs = [backend.infer(request({"x": X})).outputs for _ in range(2)]
    arrays = [array for each in outputs for array in each.values()]
    for one, other in itertools.combinations([*arrays, X], 2):
        assert not np.shares_memory(one, other)
    for array in arrays:
        assert array.flags.writeable
        assert array.flags.c_contiguous
        array[...] = -1
    again = backend.infer(request({"x": X})).outputs
    np.testing.assert_array_equal(again["same"], X)
    np.testing.assert_array_equal(again["weight"], np.ones((1, 4)))
    assert len(again) == 5


def test_only_the_outputs_that_are_wanted_are_given(open_backend: OpenBackend) -> None:
    backend = open_backend(REFERENCE_MODELS["mixed"].onnx_file)
    inputs: dict[str, Any] = {"image": np.ones((1, 3), np.float32), "codes": np.array([1, 2])}
    assert list(backend.infer(request(inputs, ("again", "copied"))).outputs) == ["again", "copied"]


def test_an_input_that_may_not_be_written_to_is_taken_and_left_as_it_is(
    open_backend: OpenBackend,
) -> None:
    for name, dtype in (("identity_fp32", np.float32), ("identity_bf16", None)):
        backend = open_backend(REFERENCE_MODELS[name].onnx_file)
        x = np.ones((2, 3), dtype or DataType.BF16.numpy_dtype)
        x.flags.writeable = False
        y = backend.infer(request({"x": x})).outputs["y"]
        assert y.tobytes() == x.tobytes()
        assert y.flags.writeable


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.uint32])
def test_integers_that_openvino_would_cut_are_refused(
    open_backend: OpenBackend, dtype: Any
) -> None:
    backend = open_backend(models.doubled(dtype))
    kept = np.array([2**30 - 1, 0, 1], dtype)
    assert backend.infer(request({"x": kept})).outputs["y"].tolist() == [2**31 - 2, 0, 2]
    with pytest.raises(InvalidInput, match="'x' holds integers beyond .* use onnx:") as caught:
        backend.infer(request({"x": np.array([2**31 + 12345], dtype)}))
    assert "2147495993" not in str(caught.value)


def test_fp64_is_refused_unless_less_is_accepted(save: Save) -> None:
    path = save(models.doubled(np.float64))
    with pytest.raises(UnsupportedOperation, match="'x' .* is FP64.* precision=fp32"):
        ib.open_model(f"openvino:{path}")
    with ib.open_model(f"openvino:{path}?precision=fp32") as model:
        assert model.metadata.inputs[0].dtype is DataType.FP64
        y = model([0.1])
        assert y.dtype == np.float64
        assert y.tolist() == [2 * float(np.float32(0.1))]


def test_answers_are_those_of_fp32_whatever_the_device_likes_best() -> None:
    images = np.random.default_rng(0).random((64, 64), np.float32)
    with ib.open_model(f"onnx:{DIGITS}?device=cpu") as model:
        expected = model(images)
    with ib.open_model(f"openvino:{DIGITS}") as model:
        np.testing.assert_allclose(model(images), expected, rtol=0, atol=1e-6)
    backend_precisions = ("fp16", "bf16", "device")
    for precision in backend_precisions:
        with ib.open_model(f"openvino:{DIGITS}?precision={precision}") as model:
            np.testing.assert_allclose(model(images), expected, atol=0.05)


def test_a_state_is_not_carried_from_one_call_to_the_next(open_backend: OpenBackend) -> None:
    backend = open_backend(models.counter())
    for _ in range(3):
        assert backend.infer(request({"x": np.ones(1, np.float32)})).outputs["total"] == [1]


def test_requests_are_used_again_and_never_by_two_calls_at_a_time(
    open_backend: OpenBackend,
) -> None:
    backend = open_backend(models.doubled(np.float32))
    barrier = threading.Barrier(4)

    def call(value: int) -> bool:
        barrier.wait(30)
        answers = [
            backend.infer(request({"x": np.full(50, value, np.float32)}, timeout=timeout))
            for timeout in (None, 60.0) * 20
        ]
        return all((answer.outputs["y"] == 2 * value).all() for answer in answers)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(4)))
    assert 1 <= len(backend._requests._idle) <= 4
    assert not backend._requests._running


def test_a_dimension_with_bounds_varies_and_is_refused_beyond_them(save: Save) -> None:
    model = models.doubled(np.float32)
    model.reshape({"x": ov.PartialShape([ov.Dimension(1, 4)])})
    with ib.open_model(f"openvino:{save(model)}") as opened:
        assert opened.metadata.inputs[0].shape == (-1,)
        with pytest.raises(InvalidInput, match=r"refuses the input 'x' .*shape"):
            opened(np.zeros(9, np.float32))
        assert opened([1, 2]).tolist() == [2, 4]


def test_without_elements_shapes_stay(open_backend: OpenBackend) -> None:
    backend = open_backend(models.doubled(np.float32, (-1, -1)))
    for shape in ((0, 3), (2, 0), (0, 0)):
        assert (
            backend.infer(request({"x": np.empty(shape, np.float32)})).outputs["y"].shape == shape
        )
