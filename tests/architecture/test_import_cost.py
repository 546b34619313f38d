"""What ``import infer_backends`` brings with it: counted in modules, since clocks vary."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp",
    "asyncio",
    "click",
    "concurrent.futures.process",
    "email",
    "importlib.metadata",
    "logging",
    "gevent",
    "grpc",
    "http.client",
    "infer_backends_onnxruntime",
    "infer_backends_openvino",
    "infer_backends_triton",
    "ml_dtypes",
    "multiprocessing",
    "onnxruntime",
    "openvino",
    "rich",
    "ssl",
    "tritonclient",
    "urllib.request",
}


def modules_after(first: str, then: str) -> set[str]:
    """The modules that ``then`` loads, in a fresh interpreter where ``first`` has run."""
    program = (
        f"import json, sys\n{first}\nbefore = set(sys.modules)\n{then}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    # -S and -E are not used: the packages may be installed in editable form. A coverage run's
    # own modules are there before, so they are not counted.
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_the_core_loads_no_backend_and_nothing_slow() -> None:
    loaded = modules_after("import numpy, pluggy", "import infer_backends")
    assert loaded & HEAVY == set()


def test_importing_the_core_loads_little_beyond_numpy_and_pluggy() -> None:
    loaded = modules_after("import numpy, pluggy", "import infer_backends")
    foreign = {name for name in loaded if not name.startswith("infer_backends")}
    assert len(foreign) <= 12, sorted(foreign)


def test_importing_the_plugins_door_loads_no_backend() -> None:
    loaded = modules_after("import numpy, pluggy", "import infer_backends.plugin")
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("package", ["infer_backends_triton", "infer_backends_onnxruntime"])
def test_importing_a_plugin_package_loads_no_runtime(package: str) -> None:
    loaded = modules_after("import numpy, pluggy", f"import {package}")
    assert loaded & {"aiohttp", "gevent", "grpc", "onnxruntime", "tritonclient"} == set()
