"""The values of --input, from text to what a model takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infer_backends._cli._inputs import BadInput, bind_inputs, read_input
from infer_backends.plugin import DataType, ModelMetadata, TensorSpec

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def metadata(**inputs: DataType) -> ModelMetadata:
    specs = tuple(TensorSpec(name, dtype, (-1, 3)) for name, dtype in inputs.items())
    return ModelMetadata("m", (), "memory", specs, ())


ONE = metadata(x=DataType.FP32)
TWO = metadata(x=DataType.FP32, label=DataType.BYTES)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files x.npy, one.npz (x), two.npz (x, y), x.json, all.json and others, to read from."""
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "one.npz", x=X)
    np.savez(tmp_path / "two.npz", x=X, y=X + 1)
    (tmp_path / "x.json").write_text(json.dumps(X.tolist()))
    (tmp_path / "all.json").write_text(json.dumps({"x": X.tolist(), "label": ["a"]}))
    (tmp_path / "element.json").write_text('{"base64": "/w=="}')
    (tmp_path / "bad.json").write_text("[1, 2")
    (tmp_path / "x.txt").write_text("1 2 3")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bound(*arguments: str, model: ModelMetadata = ONE) -> dict[str, Any]:
    return bind_inputs([read_input(argument) for argument in arguments], model)


@pytest.mark.parametrize(
    "argument",
    [
        "x=@x.npy",
        "x=@one.npz",
        "x=@two.npz:x",
        "x=@x.json",
        "@x.npy",
        "@x.json",
        "@one.npz",
        "@two.npz:x",
        f"x={X.tolist()}",
        str(X.tolist()),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_tensor_is_read_from_a_file_or_the_command_line(argument: str) -> None:
    found = bound(argument)
    assert list(found) == ["x"]
    np.testing.assert_array_equal(np.array(found["x"], np.float32), X)


@pytest.mark.usefixtures("folder")
def test_files_of_several_inputs_name_them() -> None:
    assert list(bound("@two.npz", model=TWO)) == ["x", "y"]
    assert bound("@all.json", model=TWO)["label"] == ["a"]
    assert list(bound("@one.npz", "label=cat", model=TWO)) == ["x", "label"]
    assert bound('{"x": [[1, 2, 3]], "label": ["a"]}', model=TWO) == {
        "x": [[1, 2, 3]],
        "label": ["a"],
    }
    assert bound('{"x": 1, "a=b": 2}', model=TWO) == {"x": 1, "a=b": 2}
    assert bound('{"base64": "/w=="}', model=metadata(x=DataType.BYTES)) == {"x": b"\xff"}
    assert bound("@element.json", model=metadata(x=DataType.BYTES)) == {"x": b"\xff"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("cat", "cat"),
        ("12", "12"),
        ("null", "null"),
        ("a=b", "a=b"),
        ("", ""),
        ("[not json", "[not json"),
        ('"cat"', "cat"),
        ('[["a", "b"]]', [["a", "b"]]),
        ('[{"base64": "AAA="}]', [b"\0\0"]),
    ],
)
def test_text_for_a_string_input_is_taken_as_it_stands(text: str, value: Any) -> None:
    assert bound(f"label={text}", model=TWO) == {"label": value}


@pytest.mark.parametrize(
    ("arguments", "model", "message"),
    [
        (["x"], ONE, "--input 'x': expected NAME=@FILE, NAME=VALUE, @FILE, or a VALUE in JSON"),
        (['{"x": [{"y": 1}]}'], ONE, "an object among the elements"),
        (['{"x": 1}', "x=2"], ONE, "the input 'x' is given twice"),
        (["=1"], ONE, "no name before '='"),
        (["x=cat"], ONE, "the value of 'x' is not JSON"),
        (["bogus=cat"], ONE, "the value is not JSON"),
        (["x=1", "x=2"], ONE, "the input 'x' is given twice"),
        (["x=1", "@one.npz"], ONE, "the input 'x' is given twice"),
        (["@x.npy"], TWO, "without a name, and the model has several inputs: x, label"),
        (["x=@x.txt"], ONE, "the file 'x.txt': expected one that ends in .npy, .npz or .json"),
        (["x=@gone.npy"], ONE, "the file 'gone.npy' cannot be read: No such file or directory"),
        (["x=@gone.npz"], ONE, "the file 'gone.npz' cannot be read: No such file or directory"),
        (["x=@"], ONE, "expected one that ends in"),
        (["x=@two.npz"], ONE, "the file 'two.npz': it has 2 arrays: write FILE.npz:KEY"),
        (["x=@two.npz:z"], ONE, "it has no array 'z'; it has x, y"),
        (["x=@bad.json"], ONE, "the file 'bad.json': it is not JSON that a tensor can be made of"),
        (["x=@all.json"], ONE, "an object among the elements"),
        ([f"{'x' * 100}"], ONE, "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_cannot_be_understood_is_said_clearly(
    arguments: list[str], model: ModelMetadata, message: str
) -> None:
    with pytest.raises(BadInput) as caught:
        bound(*arguments, model=model)
    assert message in str(caught.value)
