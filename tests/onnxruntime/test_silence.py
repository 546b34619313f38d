"""Nothing is written to stdout or stderr, at the level of file descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from infer_backends_onnxruntime import _quiet
from tests.onnxruntime import models
from tests.onnxruntime.conftest import Save


def written(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_opening_and_running_a_model_writes_nothing(save: Save) -> None:
    code = """
import sys, infer_backends as ib
for device in ("auto", "cpu"):
    with ib.open_model(sys.argv[1], device=device) as model:
        model([[1, 2, 3, 4]])
"""
    assert written(code, save(models.identity())) == ""


def test_a_device_that_cannot_be_had_is_refused_without_a_word(save: Save) -> None:
    code = """
import sys, infer_backends as ib
for device in ("cuda:99", "tensorrt:99"):
    try:
        ib.open_model(sys.argv[1], device=device)
    except (ib.UnsupportedOperation, ib.MissingDependency):
        continue
    raise AssertionError
"""
    assert written(code, save(models.identity())) == ""


def test_models_that_the_runtime_warns_of_write_nothing(save: Save) -> None:
    odd = models.identity()
    odd.graph.initializer.append(models.constant("unused", np.zeros(3, np.float32)))
    odd.graph.node.append(helper.make_node("Identity", ["x"], ["nowhere"]))
    misjudged = models.gather()
    misjudged.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 7
    code = """
import sys, infer_backends as ib
ib.open_model(sys.argv[1])([[1, 2, 3, 4]])
with ib.open_model(sys.argv[2]) as model:
    model([[1, 2, 3, 4]], [0])
"""
    assert written(code, save(odd, "odd.onnx"), save(misjudged, "misjudged.onnx")) == ""


def test_failures_write_nothing_beside_the_error(save: Save, tmp_path: Path) -> None:
    (tmp_path / "garbage.onnx").write_bytes(b"garbage")
    code = """
import sys, infer_backends as ib, numpy as np
try:
    ib.open_model(sys.argv[1])
except ib.ProtocolError:
    pass
with ib.open_model(sys.argv[2]) as model:
    for timeout in (None, 30):
        try:
            model.infer({"x": np.ones((1, 4), np.float32), "index": np.array([9])}, timeout=timeout)
        except ib.InvalidInput:
            continue
        raise AssertionError
with ib.open_model(sys.argv[3], threads=1) as model:
    try:
        model.infer({"rounds": np.array(10**12), "w": np.eye(16, dtype="f4")}, timeout=0.1)
    except ib.DeadlineExceeded:
        pass
"""
    gather, loop = save(models.gather(), "gather.onnx"), save(models.loop(), "loop.onnx")
    assert written(code, tmp_path / "garbage.onnx", gather, loop) == ""


def card(folder: Path, name: str, *, vendor: bool) -> None:
    (folder / name / "device").mkdir(parents=True)
    if vendor:
        (folder / name / "device" / "vendor").write_text("0x10de\n")


def test_only_a_graphics_card_without_a_vendor_makes_the_import_warn(tmp_path: Path) -> None:
    assert not _quiet.will_warn(tmp_path / "none")
    card(tmp_path, "card0", vendor=True)
    card(tmp_path, "card0-DP-1", vendor=False)
    card(tmp_path, "renderD128", vendor=False)
    assert not _quiet.will_warn(tmp_path)
    card(tmp_path, "card1", vendor=False)
    assert _quiet.will_warn(tmp_path)


def test_only_the_lines_about_device_discovery_are_dropped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    card(tmp_path, "card0", vendor=False)
    with _quiet.without_discovery_warnings(tmp_path):
        os.write(2, b"before\n[W:onnxruntime:Default] GPU device discovery failed: no file\nafter")
        assert capfd.readouterr().err == ""
    os.write(2, b"!\n")
    assert capfd.readouterr().err == "before\nafter!\n"


def test_nothing_is_held_back_where_the_import_does_not_warn(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with _quiet.without_discovery_warnings(tmp_path):
        os.write(2, b"device discovery failed\n")
        assert capfd.readouterr().err == "device discovery failed\n"


def test_an_import_without_a_stderr_works(tmp_path: Path, save: Save) -> None:
    card(tmp_path, "card0", vendor=False)
    code = """
import os, pathlib, sys
from infer_backends_onnxruntime import _quiet
os.close(2)
with _quiet.without_discovery_warnings(pathlib.Path(sys.argv[1])):
    import onnxruntime
"""
    assert written(code, tmp_path) == ""
