"""``infer-backends run``: one call, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import infer_backends as ib
from infer_backends._cli import _run
from infer_backends._cli._demo._digits import MODEL_PATH, held_out_digits
from infer_backends.plugin import (
    DataType,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelURL,
    OpenOptions,
    TensorSpec,
)
from tests.cli.conftest import Invoke
from tests.core.fakes import FakeBackend

X = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with x.npy and ab.npz (a, b)."""
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "ab.npz", a=X, b=X[::-1])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_digits_go_from_a_file_to_a_file(invoke: Invoke, folder: Path) -> None:
    digits = held_out_digits()
    np.save("images.npy", digits.images)
    result = invoke("run", MODEL_PATH, "--input", "image=@images.npy", "--output", "out.npz")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"answered by onnx:{MODEL_PATH} in ")
    with np.load("out.npz", allow_pickle=False) as out:
        assert digits.accuracy(out["probabilities"]) > 0.97


def test_outputs_are_shown_without_an_output_file(
    invoke: Invoke, folder: Path, arithmetic: Path
) -> None:
    result = invoke("run", arithmetic, "--input", "@ab.npz")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["sum", "float32", "[2,", "2]", "[[4.", "6.]"] in lines
    assert any(line[:1] == ["difference"] for line in lines)


def test_strings_are_shown_in_short(invoke: Invoke, folder: Path, text: Path) -> None:
    result = invoke("run", text, "--input", f'x=[["\\u001b[31m", "{"z" * 100}"]]')
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert f"b'{'z' * 40}'..." in result.stdout
    assert "z" * 41 not in result.stdout


@pytest.mark.parametrize("name", ["out.npz", "out.json", "-"])
def test_outputs_are_written_by_name(
    invoke: Invoke, folder: Path, arithmetic: Path, name: str
) -> None:
    result = invoke("run", arithmetic, "--input", "@ab.npz", "--output", name)
    assert result.exit_code == 0, result.stderr
    if name == "out.npz":
        with np.load(name, allow_pickle=False) as file:
            found = {key: file[key].tolist() for key in file.files}
    else:
        found = json.loads(result.stdout if name == "-" else Path(name).read_text())
    assert found == {"sum": [[4, 6], [4, 6]], "difference": [[-2, -2], [2, 2]]}
    assert list(found) == ["sum", "difference"]


def test_outputs_chosen_come_in_the_order_chosen(
    invoke: Invoke, folder: Path, arithmetic: Path
) -> None:
    chosen = ("--outputs", "difference, sum", "--output", "-")
    assert list(json.loads(invoke("run", arithmetic, "--input", "@ab.npz", *chosen).stdout)) == [
        "difference",
        "sum",
    ]


def test_one_output_is_written_into_an_npy_file(
    invoke: Invoke, folder: Path, doubling: Path
) -> None:
    result = invoke("run", doubling, "--input", "@x.npy", "--output", "y.npy")
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(np.load("y.npy"), X * 2)


def test_the_json_of_one_run_is_the_input_of_the_next(invoke: Invoke, folder: Path) -> None:
    # Not by onnxruntime, whose strings are UTF-8.
    spec = TensorSpec("x", DataType.BYTES, (-1, 2))
    metadata = ModelMetadata("echo", (), "memory", (spec,), (spec,))
    echo = FakeBackend(lambda request: dict(request.inputs), metadata=metadata)
    value = '[["caf\\u00e9", {"base64": "AP8A"}]]'
    with ib.register_backend("echo", lambda url, options: echo):
        invoke("run", "echo://h/m", "--input", f"x={value}", "--output", "out.json")
        second = invoke("run", "echo://h/m", "--input", "@out.json", "--output", "-")
    assert json.loads(second.stdout) == {"x": json.loads(value)}


def test_strings_that_an_npz_file_would_change_are_not_written(
    invoke: Invoke, folder: Path, text: Path
) -> None:
    result = invoke("run", text, "--input", 'x=[["a\\u0000", "b"]]', "--output", "out.npz")
    assert result.exit_code == 1
    assert "error: 'out.npz' was not written: output 'y' has strings that end in NUL" in (
        result.stderr
    )
    assert not Path("out.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "@x.npy", "--output", "out.txt"], "ends in .npz, .npy or .json"),
        (["--input", "@x.npy", "--output", "gone/out.npz"], "in a folder that exists"),
        (["--input", "@ab.npz", "--output", "out.npy"], "holds one array, and there are 2 outputs"),
        (["--input", "@gone.npy"], "cannot be read"),
        (["--input", "@x.npy"], "the model has several inputs: a, b"),
        (["--input", "a=@x.npy"], "'b'"),
        ([], "'a'"),
        (["--input", "@ab.npz", "--input", "c=1"], "'c'"),
        (["--input", "@ab.npz", "--outputs", "bogus"], "'bogus'"),
        (["--input", "a=[[1, 2, 3]]", "--input", "b=[[1, 2]]"], "expected shape (-1, 2)"),
        (["--input", "@ab.npz", "--timeout", "x"], "--timeout"),
    ],
)
def test_what_was_asked_wrongly_is_one_line_and_exit_code_2(
    invoke: Invoke, folder: Path, arithmetic: Path, arguments: list[str], message: str
) -> None:
    result = invoke("run", arithmetic, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_an_output_that_cannot_be_written_is_exit_code_1(
    invoke: Invoke, folder: Path, doubling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_run, "write_npz", full)
    result = invoke("run", doubling, "--input", "@x.npy", "--output", "y.npz")
    assert result.exit_code == 1
    assert "error: 'y.npz' cannot be written: No space left on device" in result.stderr


def test_it_is_said_who_did_not_answer(invoke: Invoke, folder: Path, doubling: Path) -> None:
    class Leaving:
        """A server that is there when the model is opened, and gone at the first call."""

        metadata = ModelMetadata(
            "leaving",
            (),
            "memory",
            (TensorSpec("x", DataType.FP32, (-1, 2)),),
            (TensorSpec("y", DataType.FP32, (-1, 2)),),
        )

        def infer(self, request: InferRequest) -> InferResponse:
            raise ib.Unavailable("it has left")

        def close(self) -> None: ...

    def leave(url: ModelURL, options: OpenOptions) -> Leaving:
        return Leaving()

    Path("twice.onnx").write_bytes(doubling.read_bytes())
    with ib.register_backend("leaving", leave):
        result = invoke("run", "leaving://h/m onnx:twice.onnx", "--input", "@x.npy")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[0] == "no answer from leaving://h/m: it has left"
    assert result.stderr.splitlines()[1].startswith("answered by onnx:twice.onnx in ")


def test_the_version_that_answered_is_said(invoke: Invoke, folder: Path) -> None:
    class Versioned:
        metadata = ModelMetadata("m", ("7",), "memory", (), (TensorSpec("y", DataType.BF16, (1,)),))

        def infer(self, request: InferRequest) -> InferResponse:
            y = np.ones(1, ml_dtypes.bfloat16)
            return InferResponse({"y": y}, model_version="7", backend_url="versioned://h/m")

        def close(self) -> None: ...

    def opener(url: ModelURL, options: OpenOptions) -> Versioned:
        return Versioned()

    with ib.register_backend("versioned", opener):
        result = invoke("run", "versioned://h/m", "--output", "-")
    assert json.loads(result.stdout) == {"y": [1.0]}
    assert result.stderr.startswith("answered by versioned://h/m, version 7 in ")
