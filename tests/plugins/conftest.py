"""Plugins that are really installed in a site directory, and processes that have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.conftest import Install, install, site

__all__ = ["Install", "install", "site"]

ROOT = Path(__file__).parents[2]

BACKEND = """
import numpy as np
from infer_backends.plugin import (
    DataType, InferError, InferResponse, MissingDependency, ModelMetadata, Option, TensorSpec,
    Unavailable, hookimpl,
)

INFER_BACKENDS_API = 1
X = TensorSpec("x", DataType.FP32, (-1, 3))
Y = TensorSpec("y", DataType.FP32, (-1, 3))
METADATA = ModelMetadata("m", (), "memory", (X,), (Y,))

class Doubling:
    metadata = METADATA

    def __init__(self, url):
        self.url = str(url)

    def infer(self, request):
        return InferResponse({"y": request.inputs["x"] * 2}, backend_url=self.url)

    def close(self):
        pass
"""
OPEN = """
@hookimpl
def infer_backends_open(url, options):
    return Doubling(url)
"""
#: The source of a plugin that works: it doubles.
WORKING = BACKEND + OPEN
#: What calls every URL that it is given, and prints what came of each.
CALLS = """
import sys
import infer_backends as ib

for url in sys.argv[1:]:
    try:
        with ib.open_model(url) as model:
            print(model([[1, 2, 3]]).tolist())
    except ib.InferError as exc:
        print(f"{type(exc).__name__}: {exc}")
"""


def run(
    site: Path, program: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program where what is in ``site`` is installed."""
    path = os.pathsep.join([str(site), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "PYTHONPATH": path, **variables},
    )


def outcomes(site: Path, *urls: str, **variables: str) -> list[str]:
    """What came of opening and calling each URL, all in one process."""
    ran = run(site, CALLS, *urls, **variables)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def command(site: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``infer-backends`` where what is in ``site`` is installed."""
    program = "from infer_backends._cli import main; main()"
    return run(site, program, *arguments, **variables)


@pytest.fixture
def good(site: Path, install: Install) -> str:
    """The URL of a plugin that works, whatever another one does, and of which it is said so."""
    install("good-plugin", ["good"], WORKING)
    return "good://h/m"


ANSWER = "[[2.0, 4.0, 6.0]]"
