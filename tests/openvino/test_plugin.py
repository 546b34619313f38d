"""The hooks, the options they declare, and the ways to write a URL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.plugin import InvalidURL, PermissionDenied, UnsupportedOperation
from infer_backends_openvino import plugin
from infer_backends_openvino._devices import require_devices
from infer_backends_openvino._runtime import RUNTIME
from tests.openvino import models
from tests.openvino.conftest import DIGITS, OpenBackend, Save


@pytest.mark.parametrize("then", ["", "p.infer_backends_check(); p.infer_backends_options();"])
def test_the_plugin_does_not_import_openvino_before_it_is_needed(then: str) -> None:
    code = (
        f"import sys, infer_backends_openvino.plugin as p; {then} print('openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("form", ["openvino:{}", "openvino://{}", "OpenVINO:{}"])
def test_every_way_to_write_an_absolute_path_opens_the_file(save: Save, form: str) -> None:
    with ib.open_model(form.format(save(models.doubled(np.float32)))) as model:
        assert model([1, 2]).tolist() == [2, 4]


def test_a_relative_path_starts_at_the_working_directory_of_the_open(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(save(models.doubled(np.float32)).parent)
    with ib.open_model("openvino:model.xml?threads=1") as model:
        assert model.metadata.name == "model"
        assert model.infer({"x": [1]}).backend_url == "openvino:model.xml?threads=1"


def test_a_url_that_names_a_host_says_how_to_write_a_path() -> None:
    with pytest.raises(InvalidURL, match=r"openvino:///host/model\.xml for an absolute one"):
        ib.open_model("openvino://host/model.xml")


def test_a_file_of_another_name_is_known_by_what_it_holds(save: Save, tmp_path: Path) -> None:
    path = save(models.chain(1))
    for source, name in ((path, "a.model"), (DIGITS, "b.model")):
        (tmp_path / name).write_bytes(source.read_bytes())
    (tmp_path / "a.bin").write_bytes(path.with_suffix(".bin").read_bytes())
    for name, inputs in (("a.model", "x"), ("b.model", "image")):
        with ib.open_model(f"openvino:{tmp_path}/{name}") as model:
            assert [spec.name for spec in model.metadata.inputs] == [inputs]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("precision=half", "exact or fp32 or fp16 or bf16 or device"),
        ("hint=speed", "latency or throughput"),
        ("threads=-1", "0 or more"),
        ("threads=100000", "0 to 1024"),
        ("device=", "CPU, GPU, GPU.1, NPU, AUTO"),
        ("device=AUTO:", "CPU, GPU, GPU.1, NPU, AUTO"),
        ("device=GPU.x", "CPU, GPU, GPU.1, NPU, AUTO"),
        ("device=CPU;GPU", "CPU, GPU, GPU.1, NPU, AUTO"),
        ("gpu=1", "the options known here are .*cache.*device.*hint.*precision.*threads"),
    ],
)
def test_a_wrong_option_lists_what_is_right(option: str, expected: str) -> None:
    with pytest.raises(InvalidURL, match=expected):
        ib.open_model(f"openvino:{DIGITS}?{option}")


@pytest.mark.parametrize(
    "device", ["GPU.17", "NPU.9", "AUTO:GPU.17,CPU", "FPGA", "HETERO:FPGA,CPU"]
)
def test_a_device_that_is_not_there_is_an_error_that_lists_those_that_are(device: str) -> None:
    with pytest.raises(UnsupportedOperation, match="is not there: OpenVINO finds .*CPU"):
        ib.open_model(f"openvino:{DIGITS}?device={device}")


def test_a_part_of_the_cpu_that_openvino_does_not_know_is_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="'CPU.3' .* OpenVINO finds CPU"):
        ib.open_model(f"openvino:{DIGITS}?device=CPU.3")


class Devices:
    def __init__(self, *there: str) -> None:
        self.available_devices = list(there)


def test_a_gpu_is_found_with_a_number_and_without() -> None:
    for device in ("GPU", "GPU.0", "AUTO:GPU,CPU", "AUTO:-NPU,GPU.0", "BATCH:GPU(4)"):
        require_devices(Devices("CPU", "GPU"), device, "m")
        require_devices(Devices("CPU", "GPU.0", "GPU.1"), device, "m")
    require_devices(Devices("CPU", "GPU.0", "GPU.1"), "MULTI:GPU.1,GPU.0", "m")
    with pytest.raises(UnsupportedOperation, match="'GPU.1' for 'm' is not there: .* CPU, GPU"):
        require_devices(Devices("CPU", "GPU"), "GPU.1", "m")


@pytest.mark.parametrize("device", ["cpu", "AUTO", "auto:cpu", "HETERO:CPU", "MULTI:CPU"])
@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_devices_that_are_there_give_the_same_answers(device: str, hint: str) -> None:
    images = np.random.default_rng(0).random((3, 64), np.float32)
    with ib.open_model(f"onnx:{DIGITS}") as model:
        expected = model(images)
    with ib.open_model(f"openvino:{DIGITS}?device={device}&hint={hint}") as model:
        assert model.metadata.platform == f"openvino {device.upper()}"
        np.testing.assert_allclose(model(images), expected, atol=1e-6)


def test_options_become_properties_of_the_compiled_model(open_backend: OpenBackend) -> None:
    properties = {
        "INFERENCE_PRECISION_HINT": "f",
        "EXECUTION_MODE_HINT": "ACCURACY",
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_NUM_THREADS": "1",
    }
    compiled = open_backend(DIGITS, threads=1, hint="throughput")._requests._compiled
    for name, value in properties.items():
        assert value in str(compiled.get_property(name))
    assert "float32" in str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    halves = open_backend(DIGITS, precision="bf16")._requests._compiled
    assert "float32" not in str(halves.get_property("INFERENCE_PRECISION_HINT")) or (
        "BF16" not in RUNTIME.start()[1].get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    )


def test_compiled_models_are_kept_in_the_folder_that_is_given(save: Save, tmp_path: Path) -> None:
    path, cache = save(models.chain(2)), tmp_path / "a" / "cache"
    x = np.eye(1024, dtype=np.float32)
    answers = []
    for _ in range(2):
        with ib.open_model(f"openvino:{path}?cache={cache}") as model:
            answers.append(model(x))
            assert len(list(cache.iterdir())) == 1
    np.testing.assert_array_equal(*answers)


def test_a_folder_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidURL, match="'cache' cannot be made"):
        ib.open_model(f"openvino:{DIGITS}?cache={tmp_path}/file/x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionDenied, match="'cache' may not be made"):
        ib.open_model(f"openvino:{DIGITS}?cache={tmp_path}/x")


def test_the_declared_options_have_a_line_of_help_each() -> None:
    declared = plugin.infer_backends_options()
    assert [option.name for option in declared] == [
        "device",
        "precision",
        "hint",
        "threads",
        "cache",
    ]
    assert all(option.help for option in declared)
