"""``infer-backends check``: whether every member answers, and all of them the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import TensorProto, helper

import infer_backends as ib
from infer_backends._cli import _check
from infer_backends.plugin import (
    Deadline,
    InferRequest,
    InferResponse,
    ModelMetadata,
    Option,
)
from tests.cli.conftest import Invoke
from tests.core.fakes import FakeBackend, double, metadata

TritonURL = Callable[..., str]

DOWN = "http://127.0.0.1:9/batching"


def write(path: Path, node: onnx.NodeProto, columns: int = 3) -> Path:
    """A model like Triton's ``batching``: INPUT FP32 [-1, columns] -> OUTPUT, by one node."""
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", columns])
        for name in ("INPUT", "OUTPUT")
    ]
    graph = helper.make_graph([node], path.stem, tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def same(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as Triton's ``batching``, in a file with a space in its name."""
    path = tmp_path_factory.mktemp("check") / "the same.onnx"
    return write(path, helper.make_node("Identity", ["INPUT"], ["OUTPUT"]))


@pytest.fixture(scope="session")
def other_values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the same inputs and outputs, of which OUTPUT = 2 INPUT."""
    path = tmp_path_factory.mktemp("check") / "double.onnx"
    return write(path, helper.make_node("Add", ["INPUT", "INPUT"], ["OUTPUT"]))


@pytest.fixture(scope="session")
def other_shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, with four columns."""
    path = tmp_path_factory.mktemp("check") / "four.onnx"
    return write(path, helper.make_node("Identity", ["INPUT"], ["OUTPUT"]), columns=4)


def members(result: Result) -> list[dict[str, Any]]:
    found = json.loads(result.stdout)
    assert found["agreed"] == (result.exit_code == 0)
    listed: list[dict[str, Any]] = found["members"]
    return listed


def test_a_server_over_both_protocols_and_a_file_of_the_same_model_agree(
    invoke: Invoke, triton_url: TritonURL, same: Path
) -> None:
    urls = [triton_url("batching", "http"), triton_url("batching", "grpc"), same]
    result = invoke("check", "--json", *urls)
    assert (result.exit_code, result.stderr) == (0, "")
    found = members(result)
    assert [member["url"].split(":")[0] for member in found] == ["http", "grpc", "onnx"]
    assert all(member["reached"] and member["answered"] for member in found)
    assert all(member["reached_seconds"] > 0 and member["call_seconds"] > 0 for member in found)
    assert [member["largest_difference"] for member in found] == [None, 0.0, 0.0]
    assert found[0]["name"] == "batching"
    assert found[0]["versions"] == ["1"]
    assert found[2]["platform"] == "CPUExecutionProvider"


def test_the_table_shows_who_is_down_and_who_differs_and_hides_nobody(
    invoke: Invoke,
    triton_url: TritonURL,
    other_values: Path,
    other_shape: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    result = invoke("check", DOWN, triton_url("batching"), other_values, other_shape)
    assert (result.exit_code, result.stderr) == (1, "")
    heading, _, *lines = result.stdout.splitlines()
    assert heading.split("   ")[0] == "member"
    down, server, values, shape, *remarks = lines
    assert down.split() == [DOWN, "no", "-", "-", "-", "-", "-"]
    assert server.split()[1:] == [ANY, "ms", "python", "1", "same", "agree", ANY, "ms"]
    assert values.split()[4:7] == ["-", "same", "differ"]
    assert shape.split()[4:] == ["-", "differs", "-", "-"]
    assert [remark.rpartition(": ")[0] for remark in remarks] == [
        f"{DOWN}: cannot connect to {DOWN}",
        f"onnx:{other_values}: output 'OUTPUT'",
        f"onnx:{other_shape}",
        f"onnx:{other_shape}",
    ]
    assert "connection refused" in remarks[0]
    assert "3 of 3 elements differ, by " in remarks[1]
    assert "input 'INPUT' is FP32[-1, 3] and FP32[-1, 4]" in remarks[2]


def test_one_that_disagrees_in_values_is_exit_code_1_unless_it_is_tolerated(
    invoke: Invoke, same: Path, other_values: Path
) -> None:
    result = invoke("check", "--json", same, other_values)
    assert result.exit_code == 1
    first, second = members(result)
    assert (first["output_differences"], second["metadata_differences"]) == ([], [])
    assert "3 of 3 elements differ" in second["output_differences"][0]
    assert second["largest_difference"] > 0
    assert invoke("check", same, other_values, "--rtol", "1").exit_code == 0
    assert invoke("check", same, other_values, "--atol", "100").exit_code == 0


def test_one_that_is_another_model_is_not_asked(
    invoke: Invoke, same: Path, other_shape: Path
) -> None:
    result = invoke("check", "--json", same, other_shape)
    assert result.exit_code == 1
    first, second = members(result)
    assert first["answered"]
    assert not second["answered"]
    assert len(second["metadata_differences"]) == 2
    assert second["error"] is None


def test_one_that_is_down_does_not_hide_the_others(invoke: Invoke, same: Path) -> None:
    result = invoke("check", "--json", f"{DOWN} onnx:{str(same).replace(' ', '%20')}")
    assert result.exit_code == 1
    down, up = members(result)
    assert (down["url"], down["reached"], down["call_seconds"]) == (DOWN, False, None)
    assert down["error"].startswith("Unavailable: ")
    assert (up["reached"], up["answered"]) == (True, True)


def test_nobody_at_all_is_exit_code_1(invoke: Invoke) -> None:
    result = invoke("check", "--json", DOWN)
    assert result.exit_code == 1
    assert [member["reached"] for member in members(result)] == [False]


def test_inputs_of_ones_own_are_sent_to_all(invoke: Invoke, same: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    result = invoke("check", same, same, "--input", f"INPUT=@{tmp_path / 'x.npy'}")
    assert result.exit_code == 0, result.output
    assert invoke("check", same, "--input", "[[1, 2, 3]]").exit_code == 0


def test_values_are_compared_for_these_inputs_only(
    invoke: Invoke, same: Path, other_values: Path
) -> None:
    assert invoke("check", same, other_values, "--input", "[[0, 0, 0]]").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'URL...'"),
        (["bogus:x"], "no installed plugin serves the scheme 'bogus'"),
        ([DOWN, "http://h:0/m"], "the port in"),
        (["http://h/m?bogus=1"], "'bogus'"),
        (["{same}", "--input", "[[1, 2]]"], "expected shape (-1, 3)"),
        (["{same}", "--input", "Y=[[1, 2, 3]]"], "'Y'"),
        (["{same}", "--input", "@gone.npy"], "cannot be read"),
        (["{same}", "--rtol", "-1"], "--rtol"),
        (["{same}", "--timeout", "0"], "--timeout"),
    ],
)
def test_what_was_asked_wrongly_is_one_line_and_exit_code_2(
    invoke: Invoke, same: Path, arguments: list[str], message: str
) -> None:
    result = invoke("check", *[argument.format(same=same) for argument in arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.mark.parametrize("error", [ib.InvalidInput("no"), ib.InferenceFailed("no")])
def test_where_all_refuse_what_was_made_up_one_is_told_to_give_inputs(
    invoke: Invoke, error: ib.InferError
) -> None:
    backend = FakeBackend()
    backend.error = error
    with ib.register_backend("fake", lambda url, options: backend):
        shown = invoke("check", "fake://h/m", "fake://h/m")
        given = invoke("check", "fake://h/m", "--input", "[[1, 2, 3]]")
    assert shown.exit_code == given.exit_code == 1
    assert shown.stdout.endswith("every model refused made-up inputs: give some with --input\n")
    assert "give some" not in given.stdout
    assert "fake://h/m: no\n" in shown.stdout


def test_the_second_call_is_the_one_that_is_compared(invoke: Invoke) -> None:
    backend = FakeBackend()
    with ib.register_backend("fake", lambda url, options: backend):
        assert invoke("check", "fake://h/m").exit_code == 0
    assert len(backend.requests) == 2
    assert backend.closed == 1


def test_every_member_that_a_backend_stands_for_is_checked(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Replica:
        def __init__(self, url: str, error: ib.InferError | None = None) -> None:
            self.url = url
            self.error = error

        def metadata(self, deadline: Deadline) -> ModelMetadata:
            if self.error is not None:
                raise self.error
            return metadata()

        def run(self, request: InferRequest) -> InferResponse:
            return InferResponse(double(request), backend_url=self.url)

    class Replicas(FakeBackend):
        def members(self) -> tuple[Replica, ...]:
            return (
                Replica("fake://a/m"),
                Replica("fake://b/m", ib.Unavailable("gone")),
                Replica("fake://c/m"),
            )

        def status(self) -> ib.ModelStatus:
            return ib.ModelStatus((), 0, 0)

    monkeypatch.setattr(_check, "open_model", lambda url, timeout: ib.Model(Replicas()))
    result = invoke("check", "--json", "http://a/m")
    assert result.exit_code == 1
    found = members(result)
    assert [member["url"] for member in found] == ["fake://a/m", "fake://b/m", "fake://c/m"]
    assert [member["answered"] for member in found] == [True, False, True]
    assert found[0]["reached_seconds"] > 0
    assert found[1]["error"] == "Unavailable: gone"


def test_neither_passwords_nor_secret_options_are_shown(invoke: Invoke) -> None:
    secret = Option("token", str, "", "a secret", secret=True)
    with ib.register_backend("fake", lambda url, options: FakeBackend(), options=[secret]):
        found = invoke("check", "--json", "fake://user:hunter2@h/m?token=hunter3")
    down = invoke("check", "http://user:hunter2@127.0.0.1:9/m?timeout=5")
    assert (found.exit_code, down.exit_code) == (0, 1)
    assert "hunter" not in found.output + down.output
    assert "***" in found.stdout
