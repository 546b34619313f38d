"""Every failure of OpenVINO, the file system or the model is one of the library's errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import infer_backends as ib
from infer_backends.plugin import (
    InferenceFailed,
    InvalidInput,
    MissingDependency,
    ModelFile,
    ModelNotFound,
    PermissionDenied,
    ProtocolError,
    UnsupportedOperation,
)
from infer_backends.testing import REFERENCE_MODELS
from infer_backends_openvino import _install
from infer_backends_openvino._errors import compile_error, input_error, read_error, run_error
from tests.openvino import models
from tests.openvino.conftest import DIGITS, OpenBackend, Save, request

FILE = ModelFile("/models/m.xml", "openvino:/models/m.xml")


def said(error: BaseException | None) -> str:
    """What an error and everything that hangs on to it say."""
    return f"{error!r} {said(error.__cause__)} {said(error.__context__)}" if error else ""


def test_a_missing_file_is_not_found_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"there is no model at 'openvino:/.*/no\.xml'"):
        ib.open_model(f"openvino:{tmp_path}/no.xml")


def test_a_directory_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "dir.xml").mkdir()
    with pytest.raises(ModelNotFound, match="is a directory: give the path of an .xml or .onnx"):
        ib.open_model(f"openvino:{tmp_path}/dir.xml")


def test_a_file_that_may_not_be_read_is_denied(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    path = save(models.doubled(np.float32))
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(PermissionDenied, match="may not be read"):
        ib.open_model(f"openvino:{path}")


def test_the_weights_are_no_model(save: Save) -> None:
    weights = save(models.chain(1)).with_suffix(".bin")
    with pytest.raises(ModelNotFound, match="give the .xml file beside it"):
        ib.open_model(f"openvino:{weights}")


def test_missing_weights_are_named(save: Save) -> None:
    path = save(models.chain(1))
    path.with_suffix(".bin").unlink()
    with pytest.raises(ModelNotFound, match=r"weights of .* end(s)? in \.bin, beside it"):
        ib.open_model(f"openvino:{path}")


def test_weights_that_are_cut_short_say_so(save: Save) -> None:
    path = save(models.chain(1))
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ProtocolError, match="bin file.* export it again") as caught:
        ib.open_model(f"openvino:{path}")
    assert caught.value.__cause__ is not None
    assert ".cpp" not in str(caught.value)


def test_missing_weights_of_an_onnx_file_are_named(save: Save) -> None:
    path = save(onnx.load(str(DIGITS)))
    onnx.save(
        onnx.load(str(path)), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    path.with_name("w.bin").unlink()
    with pytest.raises(ProtocolError, match=r"cannot read .*w\.bin"):
        ib.open_model(f"openvino:{path}")


@pytest.mark.parametrize("name", ["m.xml", "m.onnx", "m.model"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello\n", b"\x00" * 64, b"<html>not found</html>", b"version https://git-lfs", b"<net"],
)
def test_a_file_that_is_no_model_says_so_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ProtocolError, match="openvino:.*m.*export it again|not a whole one"):
        ib.open_model(f"openvino:{path}")
    assert capfd.readouterr() == ("", "")


def test_a_model_that_is_cut_short_says_so(save: Save) -> None:
    for model in (onnx.load(str(DIGITS)), models.chain(1)):
        path = save(model)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ProtocolError, match="export it again"):
            ib.open_model(f"openvino:{path}")


def test_an_operator_that_openvino_lacks_is_unsupported(save: Save) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Nope", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    with pytest.raises(UnsupportedOperation, match="cannot run .*Nope.*newer OpenVINO") as caught:
        ib.open_model(f"openvino:{save(model)}")
    assert caught.value.__cause__ is not None


def test_an_operator_that_fails_is_a_failed_inference_and_shows_no_values(
    open_backend: OpenBackend,
) -> None:
    backend = open_backend(REFERENCE_MODELS["reshaped"].onnx_file)
    for timeout in (None, 60.0):
        with pytest.raises(InferenceFailed, match="'reshaped' failed: .*Reshape") as caught:
            backend.infer(request({"x": np.ones(91827, np.float32)}, timeout=timeout))
        assert "91827" not in said(caught.value)
        assert ".cpp" not in str(caught.value)
        assert isinstance(caught.value.__cause__, RuntimeError)
        x = np.arange(6, dtype=np.float32)
        assert backend.infer(request({"x": x}, timeout=timeout)).outputs["y"].shape == (2, 3)


def test_too_little_memory_is_said() -> None:
    for raised in (MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("can't allocate 9")):
        for error in (
            read_error(raised, FILE, "2026"),
            compile_error(raised, FILE, "CPU", "2026"),
            run_error(raised, "m"),
        ):
            assert isinstance(error, InferenceFailed)
            assert "not enough memory" in str(error)
            assert type(error.__cause__) is type(raised)


def test_what_a_device_refuses_says_what_to_try() -> None:
    raised = RuntimeError("Exception from src/x.cpp:12:\nCheck 'a == b' failed at src/y.cpp:3:\nNo")
    error = compile_error(raised, FILE, "NPU", "2026")
    assert isinstance(error, UnsupportedOperation)
    assert str(error) == (
        "OpenVINO 2026 cannot run 'openvino:/models/m.xml' on NPU: No. Try precision=device, or "
        "another device"
    )


def test_the_path_of_a_file_is_shown_as_its_url() -> None:
    error = read_error(RuntimeError("broken: /models/m.xml"), FILE, "2026")
    assert "broken: openvino:/models/m.xml" in str(error)
    assert isinstance(input_error(RuntimeError("no"), "x", "m"), InvalidInput)


def test_without_openvino_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="pip install openvino"):
        ib.open_model(f"openvino:{DIGITS}")


def test_an_openvino_that_does_not_import_says_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> None:
        raise ImportError("libopenvino.so")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(MissingDependency, match="--force-reinstall openvino") as caught:
        _install.import_runtime()
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_model_is_opened_and_called_without_a_word_on_any_stream_or_over_the_network(
    tmp_path: Path,
) -> None:
    code = (
        "import infer_backends as ib, numpy as np\n"
        f"with ib.open_model('openvino:{DIGITS}?device=AUTO') as model:\n"
        "    model(np.zeros((1, 64), np.float32))\n"
        "import multiprocessing, sys, threading\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert not multiprocessing.active_children()\n"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # OpenVINO's telemetry keeps the number that it gives its users there.
    assert list(tmp_path.iterdir()) == []
