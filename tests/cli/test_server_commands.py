"""``infer-backends models``, ``load``, ``unload`` and ``stats``, on a real Triton."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import infer_backends as ib
from infer_backends._cli._stats import _since
from infer_backends._registry import REGISTRY
from infer_backends.plugin import ModelState, ModelStatistics
from infer_backends_triton import LocalTriton
from tests.cli.conftest import Invoke
from tests.conftest import Protocol
from tests.core.server_fakes import FakeServer, Plugin
from tests.faults.servers import wait_until


@pytest.fixture
def url(controlled_triton: tuple[LocalTriton, Path], protocol: Protocol) -> str:
    triton = controlled_triton[0]
    return triton.http_url if protocol == "http" else triton.grpc_url


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_models_are_listed_with_their_states(invoke: Invoke, url: str) -> None:
    result = invoke("models", url)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = rows(result.stdout)
    assert lines[0] == ["model", "version", "state", "reason"]
    assert ["versions", "1", "READY"] in lines
    assert ["versions", "2", "READY"] in lines


def test_models_as_json_are_of_the_one_that_the_url_names(invoke: Invoke, url: str) -> None:
    one = {"name": "versions", "version": "2", "state": "READY", "reason": ""}
    assert json.loads(invoke("models", f"{url}/versions?version=2", "--json").stdout) == [one]
    names = [entry["name"] for entry in json.loads(invoke("models", url, "--json").stdout)]
    assert {"batching", "versions"} <= set(names)


def test_a_model_is_unloaded_and_loaded(invoke: Invoke, url: str) -> None:
    result = invoke("unload", f"{url}/batching")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{url} has unloaded 'batching'\n"
    listed = rows(invoke("models", f"{url}/batching").stdout)
    assert listed[-1] == ["batching", "1", "UNAVAILABLE", "unloaded"]
    result = invoke("load", f"{url}/batching")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{url} has loaded 'batching'\n"
    assert rows(invoke("models", f"{url}/batching").stdout)[-1] == ["batching", "1", "READY"]


def test_a_model_is_loaded_from_files(
    invoke: Invoke, url: str, controlled_triton: tuple[LocalTriton, Path], tmp_path: Path
) -> None:
    tensor = {"data_type": "TYPE_FP32", "dims": [-1]}
    config = {
        "backend": "python",
        "input": [{"name": "INPUT", **tensor}],
        "output": [{"name": "OUTPUT", **tensor}],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    code = controlled_triton[1] / "batching/1/model.py"
    for given in (f"@{tmp_path / 'config.json'}", json.dumps(config)):
        result = invoke("load", f"{url}/mine", "--config", given, "--file", f"1/model.py={code}")
        assert result.exit_code == 0, result.stderr
        with ib.open_model(f"{url}/mine") as model:
            assert model([1.5]).tolist() == [1.5]
        assert invoke("unload", f"{url}/mine", "--dependents").exit_code == 0


def test_statistics_are_shown(invoke: Invoke, url: str) -> None:
    def requests() -> int:
        (entry,) = json.loads(invoke("stats", f"{url}/batching", "--json").stdout)
        count: int = entry["success"]["count"]
        return count

    before = requests()
    with ib.open_model(f"{url}/batching") as model:
        model(np.ones((3, 3), np.float32))
    # Triton counts a request after it has answered.
    wait_until(lambda: requests() > before)
    result = invoke("stats", url)
    assert (result.exit_code, result.stderr) == (0, "")
    heading, _, *lines = rows(result.stdout)
    assert heading[:5] == ["model", "version", "calls", "failed", "rows"]
    assert {line[0] for line in lines} >= {"batching", "versions"}
    (entry,) = json.loads(invoke("stats", f"{url}/batching", "--json").stdout)
    (line,) = [line for line in lines if line[0] == "batching"]
    counts = [entry["success"]["count"], entry["fail"]["count"], entry["inferences"]]
    assert line[2:5] == list(map(str, counts))
    assert entry["inferences"] >= 3
    assert 0 < entry["success"]["seconds"] < 60
    assert invoke("stats", f"{url}/versions/versions/2").stdout.count("versions") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("models", "{url}/nope"), 1, "has no model 'nope'\n"),
        (("models", "{url}/versions?version=7"), 1, "no model 'versions' of version '7'"),
        (("load", "{url}/nope"), 1, "has no model 'nope' to load"),
        (("unload", "{url}/nope"), 1, "has no model 'nope' to unload"),
        (("stats", "{url}/nope"), 1, "has no statistics of the model 'nope'"),
        (("load", "{url}"), 2, "{url} names no model: write its name after the host"),
        (("unload", "{url}"), 2, "{url} names no model: write its name after the host"),
        (("load", "{url}/batching?version=1"), 2, "leave the version out"),
        (("models", "{url} {url}"), 2, "give the URL of one"),
        (("models", "{url}?coerse=never"), 2, "unknown option 'coerse'"),
        (("load", "{url}/batching", "--config", "{"), 2, "no JSON object"),
        (("load", "{url}/batching", "--config", "@/nowhere"), 2, "'/nowhere' cannot be read"),
        (("load", "{url}/batching", "--config", "@/bin/true"), 2, "no UTF-8 text"),
        (("load", "{url}/batching", "--config", '{"nonsense": 1}'), 2, "takes no such config="),
        (("load", "{url}/batching", "--file", "1/m.py"), 2, "expected PATH=FILE"),
        (("load", "{url}/batching", "--file", "1/m.py=/nowhere"), 2, "cannot be read"),
        (("load", "{url}/batching", "--file", "1/m.py=/bin/true"), 2, "needs config="),
        (("models", "onnx:digits.onnx"), 1, "'onnx' has no server to control"),
        (("stats", "http://127.0.0.1:1"), 1, "connection refused"),
    ],
)
def test_what_does_not_work_is_one_line(
    invoke: Invoke, url: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = invoke(*(argument.replace("{url}", url) for argument in arguments))
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message.replace("{url}", url) in result.stderr


def test_what_a_server_says_moves_no_cursor_and_stays_short(invoke: Invoke) -> None:
    fake = FakeServer()
    with REGISTRY.register("fake", Plugin(fake), owner="the fake"):
        fake.answer = [ModelState("[red]m\x1b", "", "", "because\nof\x9b" + "x" * 500)]
        result = invoke("models", "fake://h")
        assert result.exit_code == 0
        assert "[red]m" in result.stdout
        assert "not loaded" in result.stdout
        assert not {"\x1b", "\x9b"} & set(result.stdout)
        assert len(result.stdout) < 600
        fake.answer = [ModelStatistics("m", last_inference=1e30), ModelStatistics("n")]
        result = invoke("stats", "fake://h")
        assert result.exit_code == 0
        assert [line[-2:] for line in rows(result.stdout)[2:]] == [["0", "s"], ["never", "used"]]
        fake.answer = []
        assert invoke("models", "fake://h").stdout == "fake://h has no models\n"
        assert invoke("stats", "fake://h").stdout == "fake://h has loaded no models\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(3.2, "3 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h"), (200_000, "2 d"), (-5, "0 s")],
)
def test_the_time_without_requests_reads_well(seconds: float, shown: str) -> None:
    assert _since(1000.0, 1000.0 + seconds) == shown
