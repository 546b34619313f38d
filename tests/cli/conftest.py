"""The command as tests run it, and small models for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from infer_backends._cli._app import cli
from tests.cli.map_files import fake, folder_of_samples

__all__ = ["fake", "folder_of_samples"]

PROGRAM = (sys.executable, "-c", "from infer_backends._cli import main; main()")

Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Invoke:
    """``invoke(*arguments)``: run the command in this process."""

    def call(*arguments: str | Path) -> Result:
        return CliRunner().invoke(
            cli, [str(argument) for argument in arguments], prog_name="infer-backends"
        )

    return call


def start(
    *arguments: str | Path, program: str = PROGRAM[-1], **variables: str
) -> subprocess.Popen[str]:
    """Run the command in a process of its own, with these environment variables besides ours."""
    return subprocess.Popen(
        [*PROGRAM[:-1], program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def _write(
    path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, int], outputs: dict[str, int]
) -> Path:
    def describe(tensors: dict[str, int]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, t, ["n", 2]) for n, t in tensors.items()]

    graph = helper.make_graph(nodes, path.stem, describe(inputs), describe(outputs))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def arithmetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model a, b FP32 [-1, 2] -> sum, difference."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
    ]
    real = TensorProto.FLOAT
    path = tmp_path_factory.mktemp("models") / "arithmetic.onnx"
    return _write(path, nodes, {"a": real, "b": real}, {"sum": real, "difference": real})


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model x BYTES [-1, 2] -> y, the same."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    string = TensorProto.STRING
    path = tmp_path_factory.mktemp("models") / "text.onnx"
    return _write(path, nodes, {"x": string}, {"y": string})


@pytest.fixture(scope="session")
def doubling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model x FP32 [-1, 2] -> y = 2 x, in a file with a space in its name."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    real = TensorProto.FLOAT
    path = tmp_path_factory.mktemp("models") / "twice as much.onnx"
    return _write(path, nodes, {"x": real}, {"y": real})
