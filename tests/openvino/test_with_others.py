"""The scheme beside others: as a fallback, as a stand-in for onnxruntime, and by the command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

import infer_backends as ib
from infer_backends_triton._local import LocalTriton
from tests.openvino.conftest import DIGITS

IMAGES = np.random.default_rng(1).random((5, 64), np.float32)


@pytest.fixture(scope="module")
def server(triton_environment: Path) -> Iterator[LocalTriton]:
    """A real Triton that serves the digits."""
    with LocalTriton(
        {"digits": DIGITS}, environment=triton_environment, startup_timeout=120
    ) as running:
        yield running


@pytest.fixture(scope="module")
def digits_ir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as OpenVINO writes them."""
    path = tmp_path_factory.mktemp("digits") / "digits.xml"
    ov.save_model(ov.Core().read_model(DIGITS), path, compress_to_fp16=False)
    return path


def test_a_server_and_openvino_are_one_model_and_openvino_answers_when_the_server_is_gone(
    triton_environment: Path, digits_ir: Path
) -> None:
    running = LocalTriton({"digits": DIGITS}, environment=triton_environment, startup_timeout=120)
    with running, ib.open_model(f"{running.grpc_url}/digits openvino:{digits_ir}") as model:
        first = model.infer({"image": IMAGES})
        assert first.backend_url.startswith("grpc://")
        running.stop()
        second = model.infer({"image": IMAGES}, timeout=20)
        assert second.backend_url == f"openvino:{digits_ir}"
        assert len(second.attempts) == 1
        one, other = (result["probabilities"].astype(np.float64) for result in (first, second))
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("first", ["onnx", "openvino"])
def test_openvino_and_onnxruntime_stand_in_for_each_other(digits_ir: Path, first: str) -> None:
    urls = [f"openvino:{digits_ir}?preload=true", f"onnx:{DIGITS}?preload=true"]
    with ib.open_model(urls if first == "openvino" else urls[::-1]) as model:
        assert model.infer({"image": IMAGES}).backend_url.startswith(first)
        found = model.verify({"image": IMAGES})
        assert [member.error for member in found.members] == [None, None]
        assert found


def command(*arguments: str) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("infer-backends"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_inspects_runs_and_checks_such_models(
    digits_ir: Path, server: LocalTriton, tmp_path: Path
) -> None:
    assert "openvino CPU" in command("inspect", f"openvino:{digits_ir}")
    np.savez(tmp_path / "in.npz", image=IMAGES)
    given, written = f"@{tmp_path}/in.npz", str(tmp_path / "out.npz")
    command("run", f"openvino:{digits_ir}", "--input", given, "--output", written)
    with np.load(written) as answers, ib.open_model(f"onnx:{DIGITS}") as model:
        np.testing.assert_allclose(answers["probabilities"], model(IMAGES), atol=1e-6)
    said = command("check", f"{server.http_url}/digits", f"openvino:{digits_ir}", f"onnx:{DIGITS}")
    assert "agree" in said
