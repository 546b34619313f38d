"""ONNX models on a CUDA device. Run them where one is: ``tox -e gpu``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import infer_backends as ib
from infer_backends.plugin import Array
from infer_backends_onnxruntime import _cuda
from tests.onnxruntime import models

pytestmark = pytest.mark.gpu

Save = Callable[..., Path]
CUDA = "CUDAExecutionProvider"


def images(count: int = 2) -> Array:
    return np.random.default_rng(0).standard_normal((count, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "auto"])
def test_the_device_takes_the_model(save: Save, device: str) -> None:
    with ib.open_model(save(models.convolution()), device=device) as model:
        assert model.metadata.platform == CUDA
        assert model(images()).shape == (2, 8, 32, 32)


def test_the_cpu_can_still_be_asked_for(save: Save) -> None:
    with ib.open_model(save(models.convolution()), device="cpu") as model:
        assert model.metadata.platform == "CPUExecutionProvider"


@pytest.mark.parametrize("name", ["convolution", "projection", "arithmetic"])
def test_the_device_agrees_with_the_cpu(save: Save, name: str) -> None:
    path = save(getattr(models, name)())
    with ib.open_model(path, device="cuda") as device, ib.open_model(path, device="cpu") as cpu:
        assert device.metadata.inputs == cpu.metadata.inputs
        assert device.metadata.outputs == cpu.metadata.outputs
        inputs = {
            spec.name: images()
            if len(spec.shape) == 4
            else np.random.default_rng(1).standard_normal((5, spec.shape[1])).astype(np.float32)
            for spec in cpu.metadata.inputs
        }
        for output, expected in cpu.infer(inputs).items():
            # TensorFloat-32 keeps ten bits of the mantissa.
            got = device.infer(inputs)[output].astype(np.float64)
            np.testing.assert_allclose(got, expected.astype(np.float64), rtol=2e-2, atol=0.2)


@pytest.mark.parametrize("name", sorted(models.ELEMENTS))
def test_every_datatype_comes_through_the_device(save: Save, name: str) -> None:
    dtype = ib.DataType(name).numpy_dtype
    array = np.array([b"a", "é".encode()], object) if name == "BYTES" else np.array([0, 1], dtype)
    with ib.open_model(
        save(models.identity(models.ELEMENTS[name], ("n",))), device="cuda"
    ) as model:
        result = model(array)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, array)


def test_outputs_are_the_callers_own(save: Save) -> None:
    with ib.open_model(save(models.aliases()), device="cuda") as model:
        x = np.ones((3, 4), np.float32)
        first, second = model.infer({"x": x}), model.infer({"x": x})
        for name, array in first.items():
            assert array.flags.writeable
            assert array.flags.c_contiguous
            array[...] = -1
            assert (second[name] == 1).all()
        assert (x == 1).all()


def test_threads_share_the_session(save: Save) -> None:
    with ib.open_model(save(models.identity()), device="cuda") as model:

        def call(index: int) -> bool:
            return bool((model(np.full((4, 4), index, np.float32)) == index).all())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(call, range(200)))


def test_an_explicit_deadline_stops_a_run_on_the_device(save: Save) -> None:
    endless = {"rounds": np.array(10**12), "w": np.eye(16, dtype=np.float32)}
    with (
        ib.open_model(save(models.loop()), device="cuda") as model,
        pytest.raises(ib.DeadlineExceeded),
    ):
        model.infer(endless, timeout=0.5)


def test_a_device_that_is_not_there_is_an_error(save: Save) -> None:
    with pytest.raises(ib.UnsupportedOperation, match="there is no CUDA device 999"):
        ib.open_model(save(models.identity()), device="cuda:999")


def run(code: str, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_hidden_device_leaves_the_cpu_without_a_word(save: Save) -> None:
    code = """
import sys, infer_backends as ib
with ib.open_model(sys.argv[1]) as model:
    model([[1, 2, 3, 4]])
    assert model.metadata.platform == "CPUExecutionProvider"
"""
    assert run(code, save(models.identity()), CUDA_VISIBLE_DEVICES="") == ""


def test_opening_and_running_on_the_device_writes_nothing(save: Save) -> None:
    code = """
import sys, infer_backends as ib, numpy as np
with ib.open_model(sys.argv[1], device="cuda") as model:
    model(np.ones((1, 3, 8, 8), np.float32))
"""
    assert run(code, save(models.convolution())) == ""


def test_a_forked_child_is_refused_and_the_parent_goes_on(save: Save) -> None:
    code = """
import os, sys, time, infer_backends as ib
model = ib.open_model(sys.argv[1], device="cuda")
x = [[1, 2, 3, 4]]
model(x)
pid = os.fork()
if pid == 0:
    try:
        model(x)
    except ib.UnsupportedOperation:
        with ib.open_model(sys.argv[1]) as own:
            assert own.metadata.platform == "CPUExecutionProvider"
            own(x)
        os._exit(0)
    os._exit(1)
end = time.monotonic() + 60
while time.monotonic() < end:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
    time.sleep(0.01)
else:
    os.kill(pid, 9)
    raise AssertionError("the child hangs")
assert os.waitstatus_to_exitcode(status) == 0, status
model(x)
"""
    assert run(code, save(models.identity())) == ""


def test_tensorrt_takes_the_model_or_says_what_it_needs(save: Save) -> None:
    path = save(models.projection())
    if _cuda.why_not(onnxruntime, _cuda.TENSORRT, 0) is not None:
        with pytest.raises(ib.MissingDependency, match="libnvinfer"):
            ib.open_model(path, device="tensorrt")
        return
    with ib.open_model(path, device="tensorrt", timeout=100) as model:
        assert model.metadata.platform == "TensorrtExecutionProvider"
        assert model(np.ones((2, 256), np.float32)).shape == (2, 256)
