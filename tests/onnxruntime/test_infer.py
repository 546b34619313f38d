"""Runs: values, memory, strings, and many threads at once."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.plugin import Array, DataType, InvalidInput, ModelClosed
from tests.onnxruntime import models
from tests.onnxruntime.conftest import OpenBackend, Save, request

FLOATS = np.arange(8, dtype=np.float32).reshape(2, 4)


def samples(name: str, shape: tuple[int, ...]) -> Array:
    """Values of a datatype, its extremes among them."""
    dtype: np.dtype[Any] = DataType(name).numpy_dtype
    count = int(np.prod(shape))
    values: list[Any]
    if name == "BYTES":
        values = [b"", "é😀".encode(), b"a\0b\0", b"x" * 3000]
    elif dtype.kind == "b":
        values = [True, False]
    elif dtype.kind == "f":
        values = [np.finfo(dtype).max, np.finfo(dtype).tiny, np.nan, -np.inf, -0.0]
    else:
        values = [np.iinfo(dtype).min, np.iinfo(dtype).max, 1]
    array = np.empty(count, dtype)
    array[:] = list(itertools.islice(itertools.cycle(values), count))
    return array.reshape(shape)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 4), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("name", sorted(models.ELEMENTS))
def test_values_of_every_datatype_and_shape_come_through(
    open_backend: OpenBackend, name: str, shape: tuple[int, ...]
) -> None:
    array = samples(name, shape)
    backend = open_backend(models.identity(models.ELEMENTS[name], [None] * len(shape)))
    result = backend.infer(request({"x": array})).outputs["y"]
    assert (type(result), result.shape, result.dtype) == (np.ndarray, shape, array.dtype)
    assert result.flags.writeable
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, array)
    if name == "BYTES":
        assert all(type(element) is bytes for element in result.ravel().tolist())


def test_no_output_shares_memory_with_another_or_with_what_went_in(
    open_backend: OpenBackend,
) -> None:
    for level in ("none", "all"):
        backend = open_backend(models.aliases(), optimization=level)
        for sent in (FLOATS.copy(), np.zeros((50_000, 4), np.float32)):
            outputs = backend.infer(request({"x": sent})).outputs
            for array in outputs.values():
                assert not np.shares_memory(array, sent)
            for one, other in itertools.combinations(outputs.values(), 2):
                assert not np.shares_memory(one, other)


def test_writing_to_outputs_changes_neither_the_model_nor_what_was_sent(
    open_backend: OpenBackend,
) -> None:
    backend = open_backend(models.aliases())
    sent = FLOATS.copy()
    first = backend.infer(request({"x": sent})).outputs
    kept = {name: array.copy() for name, array in first.items()}
    for array in first.values():
        array[...] = -1
    np.testing.assert_array_equal(sent, FLOATS)
    second = backend.infer(request({"x": sent})).outputs
    for name, array in second.items():
        np.testing.assert_array_equal(array, kept[name])
        assert not np.shares_memory(array, first[name])


def test_outputs_outlive_the_model(open_backend: OpenBackend) -> None:
    backend = open_backend(models.aliases())
    outputs = backend.infer(request({"x": FLOATS})).outputs
    backend.close()
    del backend
    assert outputs["same"].tolist() == FLOATS.tolist()
    assert outputs["copy"].tolist() == [[1, 1, 1, 1]]


def test_an_input_that_may_not_be_written_to_is_taken(open_backend: OpenBackend) -> None:
    array = FLOATS.copy()
    array.flags.writeable = False
    result = open_backend(models.identity()).infer(request({"x": array})).outputs["y"]
    assert result.flags.writeable


def test_outputs_come_in_the_order_asked_for_and_no_others(open_backend: OpenBackend) -> None:
    backend = open_backend(models.arithmetic())
    inputs = {"a": FLOATS, "b": FLOATS}
    assert list(backend.infer(request(inputs)).outputs) == ["sum", "difference"]
    chosen = backend.infer(request(inputs, ("difference", "sum"))).outputs
    assert list(chosen) == ["difference", "sum"]
    assert (chosen["difference"] == 0).all()
    assert list(backend.infer(request(inputs, ("difference",))).outputs) == ["difference"]
    assert backend.infer(request(inputs, ())).outputs == {}


@pytest.mark.parametrize("options", ["", "?threads=1", "?device=cpu&threads=1"])
def test_the_answer_names_the_url_with_its_options(save: Save, options: str) -> None:
    url = f"onnx:{save(models.identity())}{options}"
    with ib.open_model(url) as model:
        assert model.infer({"x": FLOATS}).backend_url == url


def test_a_reduction_to_a_scalar_is_an_array_without_dimensions(open_backend: OpenBackend) -> None:
    result = open_backend(models.total()).infer(request({"x": FLOATS})).outputs["y"]
    assert (result.shape, float(result)) == ((), 28.0)


def test_strings_that_are_not_utf8_are_refused_without_being_shown(
    open_backend: OpenBackend,
) -> None:
    array = np.array([b"fine", b"s3cret\xff"], object)
    backend = open_backend(models.identity(models.ELEMENTS["BYTES"], ("n",)))
    with pytest.raises(InvalidInput, match=r"element 1 .* of the input 'x' is not UTF-8") as caught:
        backend.infer(request({"x": array}))
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_str_goes_in_and_bytes_come_out(save: Save) -> None:
    with ib.open_model(save(models.identity(models.ELEMENTS["BYTES"], ("n",)))) as model:
        assert model(["é", "b"]).tolist() == ["é".encode(), b"b"]
        assert model(np.array(["ab", "c"])).tolist() == [b"ab", b"c"]


def test_big_endian_arrays_are_read_as_what_they_mean(save: Save) -> None:
    with ib.open_model(save(models.identity())) as model:
        np.testing.assert_array_equal(model(FLOATS.astype(">f4")), FLOATS)


def test_weights_beside_the_model_are_found(open_backend: OpenBackend, save: Save) -> None:
    import onnx

    path = save(models.projection(16))
    expected = open_backend(path).infer(request({"x": np.eye(16, dtype=np.float32)})).outputs["y"]
    model = onnx.load(str(path))
    apart = path.with_name("apart.onnx")
    onnx.save(model, str(apart), save_as_external_data=True, location="w.bin", size_threshold=0)
    assert apart.with_name("w.bin").stat().st_size >= 16 * 16 * 4
    result = open_backend(apart).infer(request({"x": np.eye(16, dtype=np.float32)})).outputs["y"]
    np.testing.assert_array_equal(result, expected)


def test_many_threads_get_their_own_answers(open_backend: OpenBackend) -> None:
    backend = open_backend(models.identity(), threads=2)

    def call(index: int) -> bool:
        timeout = 30.0 if index % 2 else None
        array = np.full((8, 4), index, np.float32)
        result = backend.infer(request({"x": array}, timeout=timeout)).outputs["y"]
        return bool((result == index).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(400)))


def test_a_call_after_close_is_refused_and_close_may_be_repeated(open_backend: OpenBackend) -> None:
    backend = open_backend(models.identity())
    assert backend.ready(request({}).deadline)
    backend.close()
    backend.close()
    assert not backend.ready(request({}).deadline)
    with pytest.raises(ModelClosed, match="'model' is closed: open it again"):
        backend.infer(request({"x": FLOATS}))


@pytest.mark.parametrize("timeout", [None, 60.0], ids=["default deadline", "explicit deadline"])
def test_close_stops_calls_in_flight(open_backend: OpenBackend, timeout: float | None) -> None:
    backend = open_backend(models.loop(), threads=1)
    started = threading.Event()

    def call() -> str:
        endless = {"rounds": np.array(10**12), "w": np.eye(16, dtype=np.float32)}
        started.set()
        with pytest.raises(ModelClosed) as caught:
            backend.infer(request(endless, timeout=timeout))
        return str(caught.value)

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(call) for _ in range(3)]
        assert started.wait(30)
        backend.close()
        for future in calls:
            assert "closed" in future.result(timeout=60)


def test_opening_and_closing_many_models_while_they_are_called_harms_nothing(
    open_backend: OpenBackend, save: Save
) -> None:
    path = save(models.projection(64))
    array = np.ones((4, 64), np.float32)
    outcomes: set[str] = set()

    def call(model: ib.Model) -> None:
        try:
            for _ in range(50):
                model(array)
        except ib.ModelClosed:
            outcomes.add("closed")

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            model = ib.open_model(path, threads=2)
            calls = [pool.submit(call, model) for _ in range(4)]
            model.close()
            for future in calls:
                future.result(timeout=60)
    assert outcomes <= {"closed"}
