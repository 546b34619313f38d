"""``infer-backends inspect``: what a model says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import infer_backends as ib
from infer_backends._cli._demo._digits import MODEL_PATH
from infer_backends.plugin import DataType, ModelMetadata, TensorSpec
from tests.cli.conftest import Invoke
from tests.core.fakes import FakeBackend


def test_the_inputs_and_outputs_are_shown(invoke: Invoke) -> None:
    result = invoke("inspect", MODEL_PATH)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["model", "digits"] in lines
    assert [line for line in result.stdout.splitlines() if line != line.rstrip()] == []
    assert ["image", "FP32", "[-1,", "64]"] in lines
    assert ["probabilities", "FP32", "[-1,", "10]"] in lines


def test_json_has_the_same(invoke: Invoke) -> None:
    found = json.loads(invoke("inspect", "--json", f"onnx:{MODEL_PATH}").stdout)
    assert found["name"] == "digits"
    assert [spec["name"] for spec in found["inputs"] + found["outputs"]] == [
        "image",
        "probabilities",
    ]


def test_a_path_with_a_space_is_one_path(invoke: Invoke, doubling: Path) -> None:
    assert invoke("inspect", doubling).exit_code == 0


def test_all_that_a_server_can_say_is_shown_and_nothing_of_it_moves_the_cursor(
    invoke: Invoke,
) -> None:
    metadata = ModelMetadata(
        "[red]m\x1b[31m",
        ("1", "2"),
        "memory",
        (TensorSpec("x\n\x9b1m", DataType.INT8, (-1,), optional=True),),
        (TensorSpec("y\u202e", DataType.BYTES, (-1,), labels=("cat", "dog")),),
        max_batch_size=8,
        decoupled=True,
        parameters={"task": "[b]detect"},
    )
    with ib.register_backend("fake", lambda url, options: FakeBackend(metadata=metadata)):
        result = invoke("inspect", "fake://h/m")
    assert result.exit_code == 0, result.stderr
    for text in ("[red]m", "1, 2", "8 rows", "decoupled", "[b]detect", "optional", "2 labels"):
        assert text in result.stdout
    assert not {"\x1b", "\x9b", "\u202e"} & set(result.stdout)


def test_a_fake_is_shown_for_what_it_is(invoke: Invoke) -> None:
    result = invoke("inspect", "fake:digits?inputs=image:FP32[-1,64]&outputs=p:FP32[-1,10]")
    assert ["platform", "fake"] in [line.split() for line in result.stdout.splitlines()]
