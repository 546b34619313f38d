"""The wheels as a user installs them: not editable, away from the repository."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.packaging.conftest import ROOT, Environment

HTTP = ["http", "https", "triton+http", "triton+https"]
GRPC = ["grpc", "grpcs", "triton+grpc", "triton+grpcs"]
LOCAL = ["onnx", "openvino"]
DIGITS = ROOT / "infer_backends/_cli/_demo_data/digits.onnx"


def plugins(environment: Environment) -> dict[str, dict[str, Any]]:
    rows = json.loads(environment.run("infer-backends", "plugins", "--json").stdout)
    return {row["scheme"]: row for row in rows}


def test_the_core_installs_with_numpy_and_pluggy_alone(core_alone: Environment) -> None:
    listed = json.loads(core_alone.run("python", "-m", "pip", "list", "--format=json").stdout)
    names = {row["name"].lower() for row in listed} - {"pip", "setuptools"}
    assert names == {"infer-backends", "numpy", "pluggy"}
    assert core_alone.python("import infer_backends as ib; print(ib.ModelURL.parse('http://h/m'))")


def test_the_command_without_its_extra_says_which_extra_to_install(core_alone: Environment) -> None:
    result = core_alone.run("infer-backends", "plugins", check=False)
    assert result.returncode == 1
    assert "pip install 'infer-backends[cli]'" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://localhost:1/m", "pip install 'infer-backends-triton[http]'"),
        ("grpc://localhost:1/m", "pip install 'infer-backends-triton[grpc]'"),
        ("onnx:m.onnx", "pip install 'infer-backends-onnxruntime[cpu]'"),
        ("openvino:m.xml", "pip install 'infer-backends-openvino'"),
    ],
)
def test_a_scheme_without_its_plugin_says_what_to_install(
    core_alone: Environment, url: str, line: str
) -> None:
    said = core_alone.python(
        "import infer_backends as ib\n"
        f"try: ib.open_model({url!r})\n"
        "except ib.UnknownScheme as exc: print(exc)"
    )
    assert line in said


def test_every_scheme_is_found_from_the_wheels(without_runtimes: Environment) -> None:
    assert sorted(plugins(without_runtimes)) == sorted([*HTTP, *GRPC, "fake", *LOCAL])


def test_a_plugin_without_its_runtime_says_what_to_install(without_runtimes: Environment) -> None:
    found = plugins(without_runtimes)
    assert {scheme: found[scheme]["state"] for scheme in [*GRPC, *LOCAL]} == dict.fromkeys(
        [*GRPC, *LOCAL], "missing"
    )
    assert "infer-backends-triton[grpc]" in found["grpc"]["reason"]
    assert "infer-backends-onnxruntime[cpu]" in found["onnx"]["reason"]
    assert "pip install openvino" in found["openvino"]["reason"]


def test_every_entry_point_loads_from_the_wheels(complete: Environment) -> None:
    assert {row["state"] for row in plugins(complete).values()} == {"ready"}


@pytest.mark.parametrize("scheme", LOCAL)
def test_a_model_runs_from_the_wheels(complete: Environment, scheme: str) -> None:
    shape = complete.python(
        "import infer_backends as ib, numpy as np\n"
        f"with ib.open_model('{scheme}:{DIGITS}') as model:\n"
        "    spec = model.metadata.inputs[0]\n"
        "    print(model(np.zeros((3, *spec.shape[1:]), spec.dtype.numpy_dtype)).shape[0])"
    )
    assert shape == "3"


def test_opening_one_protocol_does_not_import_the_other(complete: Environment) -> None:
    loaded = (
        "import infer_backends as ib, sys\n"
        "try: ib.open_model('{scheme}://127.0.0.1:9/m', timeout=5.0)\n"
        "except ib.Unavailable: pass\n"
        "print(*({{'grpc', 'gevent', 'onnxruntime', 'openvino'}} & set(sys.modules)))"
    )
    assert complete.python(loaded.format(scheme="http")) == ""
    assert complete.python(loaded.format(scheme="grpc")) == "grpc"
