"""The wheels, built once through their sdists, and environments that they are installed in."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    "infer_backends": ROOT,
    "infer_backends_triton": ROOT / "plugins/triton",
    "infer_backends_onnxruntime": ROOT / "plugins/onnxruntime",
    "infer_backends_openvino": ROOT / "plugins/openvino",
}


@dataclass(frozen=True)
class Built:
    """One distribution: its source archive, and the wheel that was built from that archive."""

    sdist: Path
    wheel: Path


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has nothing but what a test installs in it."""

    path: Path

    def run(
        self, program: str, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, away from the repository."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COVERAGE_"))}
        result = subprocess.run(
            [self.path / "bin" / program, *arguments],
            cwd=self.path,
            env={**clean, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert result.returncode == 0 or not check, result.stdout + result.stderr
        return result

    def python(self, program: str) -> str:
        """What a Python program prints."""
        return self.run("python", "-c", program).stdout.strip()

    def install(self, *requirements: str) -> None:
        self.run("python", "-m", "pip", "install", "--quiet", *requirements)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Built]:
    """Every distribution, by the name of its package."""
    folder = tmp_path_factory.mktemp("dist")
    for source in SOURCES.values():
        # Without --wheel or --sdist, the wheel is built from the sdist, outside the repository.
        subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source],
            check=True,
            capture_output=True,
        )
    return {
        name: Built(
            sdist=next(folder.glob(f"{name}-[0-9]*.tar.gz")),
            wheel=next(folder.glob(f"{name}-[0-9]*.whl")),
        )
        for name in SOURCES
    }


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    def make(name: str) -> Environment:
        path = tmp_path_factory.mktemp(name)
        venv.create(path, with_pip=True)
        return Environment(path)

    return make


@pytest.fixture(scope="session")
def core_alone(
    built: Mapping[str, Built], new_environment: Callable[[str], Environment]
) -> Environment:
    """The core's wheel, without extras and without plugins."""
    environment = new_environment("core-alone")
    environment.install(str(built["infer_backends"].wheel))
    return environment


@pytest.fixture(scope="session")
def without_runtimes(
    built: Mapping[str, Built], new_environment: Callable[[str], Environment]
) -> Environment:
    """All wheels and the command, and none of the runtimes that the plugins drive."""
    environment = new_environment("without-runtimes")
    environment.install(
        f"{built['infer_backends'].wheel}[cli]",
        str(built["infer_backends_triton"].wheel),
        str(built["infer_backends_onnxruntime"].wheel),
    )
    # Of OpenVINO there is one wheel, which the plugin always brings.
    environment.install("--no-deps", str(built["infer_backends_openvino"].wheel))
    return environment


@pytest.fixture(scope="session")
def complete(
    built: Mapping[str, Built], new_environment: Callable[[str], Environment]
) -> Environment:
    """All wheels, with their runtimes."""
    environment = new_environment("complete")
    environment.install(
        f"{built['infer_backends'].wheel}[cli]",
        f"{built['infer_backends_triton'].wheel}[http,grpc]",
        f"{built['infer_backends_onnxruntime'].wheel}[cpu]",
        str(built["infer_backends_openvino"].wheel),
    )
    return environment
