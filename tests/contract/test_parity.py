"""The same arrays through every backend: the same outputs, names, dtypes, order and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from infer_backends import (
    InferenceFailed,
    InferError,
    InvalidInput,
    Model,
    ModelNotFound,
    open_model,
)
from infer_backends.testing import REFERENCE_MODELS
from infer_backends.testing._wrong_inputs import wrong_inputs
from infer_backends_triton._local import LocalTriton

Urls = Callable[[str], list[str]]
WRONG_INPUTS = wrong_inputs(REFERENCE_MODELS["mixed"].inputs)


def value(name: str, kind: int, dims: list[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def write(folder: Path, name: str, nodes: Any, inputs: Any, outputs: Any) -> Path:
    graph = helper.make_graph(nodes, name, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models whose arguments can be wrong in ways that only the runtime sees."""
    folder = tmp_path_factory.mktemp("parity")
    floats, ints = TensorProto.FLOAT, TensorProto.INT64
    write(
        folder,
        "add",
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        [value("a", floats, ["n", 3]), value("b", floats, ["n", 3])],
        [value("sum", floats, ["n", 3])],
    )
    write(
        folder,
        "gather",
        [helper.make_node("Gather", ["table", "index"], ["picked"])],
        [value("table", floats, ["n"]), value("index", ints, ["m"])],
        [value("picked", floats, ["m"])],
    )
    write(
        folder,
        "rows",
        [helper.make_node("ReduceSum", ["x"], ["total"], keepdims=1)],
        [value("x", floats, ["n", 3])],
        [value("total", floats, [1, 1])],
    )
    write(
        folder,
        "parse",
        [helper.make_node("Cast", ["text"], ["number"], to=ints)],
        [value("text", TensorProto.STRING, ["n"])],
        [value("number", ints, ["n"])],
    )
    latin = onnx.TensorProto(data_type=TensorProto.STRING, dims=[1], string_data=[b"\xffa"])
    write(
        folder,
        "latin",
        [
            helper.make_node("Constant", [], ["text"], value=latin),
            helper.make_node("Identity", ["x"], ["y"]),
        ],
        [value("x", floats, ["n"])],
        [value("y", floats, ["n"]), value("text", TensorProto.STRING, [1])],
    )
    write(
        folder,
        "cut+paste.v1-2",
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", floats, ["n"])],
        [value("y", floats, ["n"])],
    )
    return folder


@pytest.fixture(scope="module")
def urls(folder: Path, triton_environment: Path) -> Iterator[Urls]:
    """The three URLs of one ONNX file."""
    with LocalTriton(sorted(folder.glob("*.onnx")), environment=triton_environment) as server:
        yield lambda name: [
            f"{server.http_url}/{name}",
            f"{server.grpc_url}/{name}",
            f"onnx:{folder / name}.onnx",
        ]


def outcomes(urls: list[str], run: Callable[[Model], Any]) -> list[Any]:
    """What the call returns, or the class of its error, on each backend."""
    found = []
    for url in urls:
        with open_model(url) as model:
            try:
                found.append(run(model))
            except InferError as exc:
                found.append(type(exc))
    return found


def call(model: Model, args: tuple[Any, ...]) -> Any:
    return model(*args)


def test_the_metadata_is_the_same(urls: Urls) -> None:
    for name in ("add", "gather", "rows"):
        described = []
        for url in urls(name):
            with open_model(url) as model:
                described.append((model.metadata.inputs, model.metadata.outputs))
        assert described[0] == described[1] == described[2]


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_a_batch_of_any_rows_gives_the_same(urls: Urls, rows: int) -> None:
    x = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
    for name, args in (("add", (x, x)), ("rows", (x,))):
        first, second, third = outcomes(urls(name), partial(call, args=args))
        assert first.dtype == second.dtype == third.dtype == np.float32
        assert first.shape == second.shape == third.shape
        assert first.tobytes() == second.tobytes() == third.tobytes()


def test_nan_is_no_error(urls: Urls) -> None:
    x = np.full((2, 3), np.nan, np.float32)
    for sums in outcomes(urls("add"), lambda model: model(x, x)):
        assert np.isnan(sums).all()


def test_dimensions_that_only_the_runtime_can_refuse_are_the_same_error(urls: Urls) -> None:
    x = np.ones((2, 3), np.float32)
    found = outcomes(urls("add"), lambda model: model(x, x[:1].repeat(3, 0)))
    assert found == [found[2]] * 3
    assert found[2] in {InvalidInput, InferenceFailed}


def test_a_value_that_only_the_runtime_can_refuse_is_the_same_error(urls: Urls) -> None:
    table, index = np.ones(3, np.float32), np.array([7])
    found = outcomes(urls("gather"), lambda model: model(table, index))
    assert found == [found[2]] * 3
    assert found[2] in {InvalidInput, InferenceFailed}


def test_the_runtimes_account_shows_no_values(urls: Urls) -> None:
    table, index = np.ones(3, np.float32), np.array([31337])
    for url in urls("gather"):
        with open_model(url) as model, pytest.raises(InferError, match="Gather") as caught:
            model(table, index)
        assert "31337" not in str(caught.value)


def test_the_runtimes_account_shows_no_strings(urls: Urls) -> None:
    for url in urls("parse"):
        with open_model(url) as model, pytest.raises(InferError, match="quote strings"):
            model(["tulip"])


def test_strings_of_the_model_that_are_no_text_are_the_same_error(urls: Urls) -> None:
    for url in urls("latin"):
        with open_model(url) as model, pytest.raises(InferenceFailed, match="UTF-8") as caught:
            model([1.0])
        assert "0xff" not in str(caught.value)


@pytest.mark.parametrize("wrong", WRONG_INPUTS)
def test_a_wrong_input_is_the_same_error(urls: Urls, wrong: str) -> None:
    args, _ = WRONG_INPUTS[wrong]
    assert outcomes(urls("add"), lambda model: model(*args)) == [InvalidInput] * 3


def test_a_missing_model_is_the_same_error(urls: Urls) -> None:
    for url in urls("add"):
        with pytest.raises(ModelNotFound):
            open_model(url.replace("add", "missing"))


def test_a_version_that_cannot_be_is_the_same_error(urls: Urls) -> None:
    for url in urls("add")[:2]:
        for version in ("-1", "latest", "9" * 30):
            with pytest.raises(ModelNotFound):
                open_model(url, version=version)


def test_a_name_with_odd_characters_is_found_on_every_backend(urls: Urls) -> None:
    assert outcomes(urls("cut+paste.v1-2"), lambda model: model([1.5]).tolist()) == [[1.5]] * 3


def test_the_server_and_the_file_are_one_model(urls: Urls) -> None:
    x = np.ones((2, 3), np.float32)
    with open_model(urls("add")) as model:
        np.testing.assert_array_equal(model(x, x), x + x)
