"""Every failure of onnxruntime, the file system or the model is one of the library's errors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import infer_backends as ib
from infer_backends.plugin import (
    InferenceFailed,
    InvalidInput,
    ModelNotFound,
    PermissionDenied,
    ProtocolError,
    UnsupportedOperation,
)
from infer_backends_onnxruntime._errors import load_error, run_error, without_contents
from tests.onnxruntime import models
from tests.onnxruntime.conftest import OpenBackend, Save, request

FLOATS = np.arange(8, dtype=np.float32).reshape(2, 4)


def said(error: BaseException | None) -> str:
    """What an error and everything that hangs on to it say."""
    return f"{error!r} {said(error.__cause__)} {said(error.__context__)}" if error else ""


def test_a_missing_file_is_not_found_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"there is no model at 'onnx:/.*/no\.onnx'"):
        ib.open_model(tmp_path / "no.onnx")


def test_a_directory_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "dir.onnx").mkdir()
    with pytest.raises(ModelNotFound, match="is a directory"):
        ib.open_model(tmp_path / "dir.onnx")


def test_a_pipe_is_no_model_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelNotFound, match="is no regular file"):
        ib.open_model(tmp_path / "pipe.onnx")


@pytest.mark.parametrize("name", ["x" * 300 + ".onnx", "loop.onnx", "file.onnx/m.onnx"])
def test_a_path_that_leads_nowhere_is_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop.onnx").symlink_to(tmp_path / "loop.onnx")
    (tmp_path / "file.onnx").write_bytes(b"")
    with pytest.raises(ModelNotFound):
        ib.open_model(tmp_path / name)


def test_a_file_that_may_not_be_read_is_denied(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    path = save(models.identity())
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(PermissionDenied, match="may not be read"):
        ib.open_model(path)


def test_a_name_that_is_not_utf8_says_to_rename_it(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.onnx"))
    path.write_bytes(models.identity().SerializeToString())
    with pytest.raises(UnsupportedOperation, match="rename it"):
        ib.open_model(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage!" * 10, b"\x00" * 64, b"<html>not found</html>", b"version https://git-lfs"],
)
def test_a_file_that_is_no_model_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ProtocolError, match=r"m\.onnx"):
        ib.open_model(path)


def test_a_model_that_is_cut_short_says_so(save: Save) -> None:
    path = save(models.projection())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ProtocolError, match=r"no ONNX model, or not a whole one.*export it again"):
        ib.open_model(path)


def test_missing_weights_beside_the_model_are_named(save: Save) -> None:
    path = save(models.projection(16))
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    path.with_name("w.bin").unlink()
    with pytest.raises(ProtocolError, match=r"could not load .*w\.bin"):
        ib.open_model(path)


def newer_ir() -> onnx.ModelProto:
    model = models.identity()
    model.ir_version = 999
    return model


@pytest.mark.parametrize(
    "model",
    [
        models.model(
            [helper.make_node("Nope", ["x"], ["y"])], [models.tensor("x")], [models.tensor("y")]
        ),
        models.model(
            [helper.make_node("Nope", ["x"], ["y"], domain="elsewhere")],
            [models.tensor("x")],
            [models.tensor("y")],
        ),
        models.identity(opset=999),
        newer_ir(),
    ],
    ids=["operator", "domain", "opset", "format"],
)
def test_what_this_onnxruntime_cannot_run_is_unsupported(
    open_backend: OpenBackend, model: onnx.ModelProto
) -> None:
    with pytest.raises(UnsupportedOperation, match="cannot run .*newer onnxruntime") as caught:
        open_backend(model)
    assert type(caught.value.__cause__).__module__.startswith("onnxruntime")


def test_a_graph_that_does_not_hold_together_could_not_be_loaded(open_backend: OpenBackend) -> None:
    model = models.model(
        [helper.make_node("Identity", ["nowhere"], ["y"])],
        [models.tensor("x")],
        [models.tensor("y")],
    )
    with pytest.raises(ProtocolError, match="could not load .*nowhere"):
        open_backend(model)


def test_an_operator_that_refuses_a_value_names_itself_and_not_the_value(
    open_backend: OpenBackend,
) -> None:
    backend = open_backend(models.gather())
    with pytest.raises(InvalidInput, match=r"Gather node.*look/up.*out of data bounds") as caught:
        backend.infer(request({"x": FLOATS, "index": np.array([918273645])}))
    assert "918273645" not in said(caught.value)
    assert type(caught.value.__cause__).__name__ == "InvalidArgument"


def test_an_operator_that_fails_is_a_failed_inference(open_backend: OpenBackend) -> None:
    backend = open_backend(models.reshape())
    with pytest.raises(InferenceFailed, match=r"'model' failed: .*Reshape node") as caught:
        backend.infer(request({"x": FLOATS, "shape": np.array([3, 918273645])}))
    assert "918273645" not in said(caught.value)
    assert caught.value.__cause__ is not None


def test_a_model_of_strings_quotes_none_when_it_fails(open_backend: OpenBackend) -> None:
    backend = open_backend(models.to_number())
    texts = np.array([b"1.5", b"s3cret"], object)
    with pytest.raises(InferenceFailed, match="may quote strings") as caught:
        backend.infer(request({"x": texts}))
    assert "s3cret" not in said(caught.value)


def test_a_model_works_on_after_it_failed(open_backend: OpenBackend) -> None:
    backend = open_backend(models.gather())
    with pytest.raises(InvalidInput):
        backend.infer(request({"x": FLOATS, "index": np.array([9])}))
    result = backend.infer(request({"x": FLOATS, "index": np.array([1])})).outputs["y"]
    assert result.tolist() == [[4, 5, 6, 7]]


def test_a_string_output_that_is_not_utf8_is_a_failed_inference(open_backend: OpenBackend) -> None:
    backend = open_backend(models.broken_text())
    with pytest.raises(InferenceFailed, match="is not UTF-8") as caught:
        backend.infer(request({"x": FLOATS}))
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert backend.infer(request({"x": FLOATS}, ("y",))).outputs["y"].tolist() == FLOATS.tolist()


def test_shapes_that_the_runtime_refuses_are_shown(open_backend: OpenBackend) -> None:
    backend = open_backend(models.identity())
    with pytest.raises(InvalidInput, match="Got: 3 Expected: 4"):
        backend.infer(request({"x": FLOATS[:, :3].copy()}))


def test_an_output_that_does_not_exist_is_named(open_backend: OpenBackend) -> None:
    with pytest.raises(InvalidInput, match="zz"):
        open_backend(models.identity()).infer(request({"x": FLOATS}, ("zz",)))


def test_a_missing_input_is_named(open_backend: OpenBackend) -> None:
    with pytest.raises(InvalidInput, match="x"):
        open_backend(models.identity()).infer(request({}))


def test_no_memory_is_a_failed_inference_and_a_failed_load() -> None:
    assert "not enough memory to run" in str(run_error(MemoryError(), "m", has_text=False))
    error = load_error(MemoryError(), "onnx:m.onnx", "1", ())
    assert isinstance(error, InferenceFailed)
    assert "not enough memory to load" in str(error)


def test_a_device_that_fails_during_the_load_is_a_failed_inference() -> None:
    error = load_error(RuntimeError("CUDA failure 2: out of memory"), "onnx:m.onnx", "1", ())
    assert isinstance(error, InferenceFailed)
    assert "the device failed while 'onnx:m.onnx' was loaded: CUDA failure 2" in str(error)


def test_a_long_account_is_cut_and_its_numbers_blotted_out() -> None:
    text = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. "
    text += "Name:'add_7' Status Message: " + "got -1.5e-7 and 12, nan. " * 100
    short = without_contents(text, has_text=False)
    assert short.startswith("Non-zero status code returned while running Add node. Name:'add_7'")
    assert "got -# and #, nan" in short
    assert len(short) < 700


class NoSuchFile(Exception):  # as onnxruntime calls it
    """As onnxruntime raises it for a file that vanished during the open."""


class NotImplemented(Exception):  # noqa: A001  # as onnxruntime calls it
    """As onnxruntime raises it for a kernel that it lacks."""


def test_a_file_that_vanishes_during_the_open_is_not_found() -> None:
    assert isinstance(load_error(NoSuchFile("gone"), "onnx:m.onnx", "1", ()), ModelNotFound)


def test_a_kernel_that_is_missing_at_the_run_is_unsupported() -> None:
    error = run_error(NotImplemented("no kernel"), "m", has_text=False)
    assert isinstance(error, UnsupportedOperation)
