"""A server and its models, over both protocols: real Tritons."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends_triton import LocalTriton
from tests.conftest import Protocol
from tests.faults.servers import wait_until
from tests.servers.repository import write_repository

CONFIG: dict[str, Any] = {
    "backend": "python",
    "input": [{"name": "INPUT", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "OUTPUT", "data_type": "TYPE_FP32", "dims": [-1]}],
    "instance_group": [{"kind": "KIND_CPU", "count": 1}],
}

_HELD = """\
import pathlib
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        pathlib.Path({begun!r}).touch()
        while not pathlib.Path({go_on!r}).exists():
            time.sleep(0.005)
        tensors = [pb_utils.get_input_tensor_by_name(r, "INPUT").as_numpy() for r in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", t)]) for t in tensors]
"""


def base_url(triton: LocalTriton, protocol: Protocol) -> str:
    return triton.http_url if protocol == "http" else triton.grpc_url


@pytest.fixture
def server(controlled_triton: tuple[LocalTriton, Path], protocol: Protocol) -> Iterator[ib.Server]:
    """A Triton that loads models when it is told to."""
    with ib.open_server(base_url(controlled_triton[0], protocol)) as server:
        yield server


@pytest.fixture
def models(controlled_triton: tuple[LocalTriton, Path]) -> Path:
    """The server's repository."""
    return controlled_triton[1]


def states(server: ib.Server, name: str) -> list[tuple[str, str, str]]:
    return [(m.version, m.state, m.reason) for m in server.models() if m.name == name]


def add_model(models: Path, name: str, code: str = "") -> None:
    """Copy the model ``batching`` within the repository, with other code if that is given."""
    (models / name / "1").mkdir(parents=True, exist_ok=True)
    config = (models / "batching/config.pbtxt").read_text()
    (models / name / "config.pbtxt").write_text(config.replace('"batching"', f'"{name}"'))
    code = code or (models / "batching/1/model.py").read_text()
    (models / name / "1/model.py").write_text(code)


def test_a_server_says_what_it_is(server: ib.Server) -> None:
    assert server.live()
    found = server.metadata()
    assert (found.name, found.version) == ("triton", "2.51.0")
    assert {"model_repository", "statistics"} <= set(found.extensions)


def test_its_models_are_listed_with_their_versions(server: ib.Server) -> None:
    assert states(server, "batching") == [("1", "READY", "")]
    assert states(server, "versions") == [("1", "READY", ""), ("2", "READY", "")]


def test_a_model_is_unloaded_and_loaded(server: ib.Server) -> None:
    server.unload("batching")
    assert states(server, "batching") == [("1", "UNAVAILABLE", "unloaded")]
    server.unload("batching")
    with pytest.raises(ib.InferError):
        ib.open_model(f"{server.url}/batching")
    server.load("batching")
    assert states(server, "batching") == [("1", "READY", "")]
    with ib.open_model(f"{server.url}/batching") as model:
        assert model(np.ones((1, 3), np.float32)).shape == (1, 3)


def test_a_model_is_loaded_with_another_configuration(server: ib.Server) -> None:
    config = {**CONFIG, "max_batch_size": 2}
    for tensors in ("input", "output"):
        config[tensors] = [{**CONFIG[tensors][0], "dims": [3]}]
    try:
        for given in (config, json.dumps(config)):
            server.load("batching", config=given)
            with ib.open_model(f"{server.url}/batching") as model:
                assert model.metadata.max_batch_size == 2
    finally:
        # Only so is the server's own configuration read again.
        server.unload("batching")
        server.load("batching")
    with ib.open_model(f"{server.url}/batching") as model:
        assert model.metadata.max_batch_size == 4


def test_a_model_is_loaded_from_files_of_the_client(server: ib.Server, models: Path) -> None:
    code = (models / "batching/1/model.py").read_bytes()
    server.load("brought", config=CONFIG, files={"1/model.py": code})
    with ib.open_model(f"{server.url}/brought") as model:
        assert model([1.5, 2.5]).tolist() == [1.5, 2.5]
    server.unload("brought")
    # It is not in the server's repository, so nothing is left of it.
    with pytest.raises(ib.ModelNotFound, match="has no model 'brought' to unload"):
        server.unload("brought")


def test_unload_waits_for_the_requests_in_flight(
    server: ib.Server, models: Path, tmp_path: Path
) -> None:
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    add_model(models, "held", _HELD.format(begun=str(begun), go_on=str(go_on)))
    server.load("held")
    with ib.open_model(f"{server.url}/held") as model, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(model, np.ones((1, 3), np.float32))
        try:
            wait_until(begun.exists)
            with pytest.raises(ib.DeadlineExceeded, match="it is UNLOADING"):
                server.unload("held", timeout=1.0)
        finally:
            go_on.touch()
        server.unload("held")
        assert answer.result(10).shape == (1, 3)
    assert states(server, "held") == [("1", "UNAVAILABLE", "unloaded")]


def test_a_model_that_is_not_there_is_not_loaded(server: ib.Server) -> None:
    for config in (None, CONFIG):
        with pytest.raises(ib.ModelNotFound, match="has no model 'nope' to load"):
            server.load("nope", config=config)
    with pytest.raises(ib.ModelNotFound, match="has no model 'nope' to unload"):
        server.unload("nope")


def test_a_model_that_fails_says_why(server: ib.Server, models: Path) -> None:
    add_model(models, "broken", "raise ValueError('broken on purpose')")
    with pytest.raises(ib.InferenceFailed, match="broken on purpose"):
        server.load("broken")
    ((_, state, reason),) = states(server, "broken")
    assert state == "UNAVAILABLE"
    assert "broken on purpose" in reason


def test_a_model_whose_folder_is_wrong_is_a_failure_of_the_server(
    server: ib.Server, models: Path
) -> None:
    add_model(models, "garbled")
    (models / "garbled/config.pbtxt").write_text("this is no configuration")
    with pytest.raises(ib.InferenceFailed, match=r"cannot read the folder of 'garbled'.*log"):
        server.load("garbled")


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ({"nonsense": 1}, None),
        ({"max_batch_size": "many"}, None),
        ({**CONFIG, "name": "another"}, {"1/model.py": b""}),
    ],
)
def test_a_wrong_configuration_is_invalid(server: ib.Server, config: Any, files: Any) -> None:
    with pytest.raises(ib.InvalidInput, match="takes no such config= or files= for 'batching'"):
        server.load("batching", config=config, files=files)
    server.load("batching")


def test_files_need_a_configuration(server: ib.Server) -> None:
    with pytest.raises(ib.InvalidInput, match="files= needs config="):
        server.load("batching", files={"1/model.py": b""})


def test_statistics_count_what_was_asked(server: ib.Server) -> None:
    server.load("batching")
    with ib.open_model(f"{server.url}/batching") as model:
        (before,) = server.statistics("batching")
        model(np.ones((3, 3), np.float32))
        # Triton counts a request after it has answered.
        wait_until(lambda: server.statistics("batching")[0].success.count > before.success.count)
        (after,) = server.statistics("batching")
    assert (after.name, after.version) == ("batching", "1")
    assert after.inferences - before.inferences == 3
    assert after.executions - before.executions == 1
    assert after.success.count - before.success.count == 1
    assert after.success.seconds > after.compute_infer.seconds > 0
    assert after.success.seconds < 60
    assert 3 in [batch.size for batch in after.batches]
    assert after.last_inference is not None
    assert abs(after.last_inference - time.time()) < 60


def test_statistics_are_of_a_version_of_a_model_or_of_all(server: ib.Server) -> None:
    assert [entry.version for entry in server.statistics("versions")] == ["1", "2"]
    assert [entry.version for entry in server.statistics("versions", version=2)] == ["2"]
    assert {"batching", "versions"} <= {entry.name for entry in server.statistics()}


@pytest.mark.parametrize("version", [None, 1])
def test_there_are_no_statistics_of_a_model_that_is_not_there(
    server: ib.Server, version: int | None
) -> None:
    with pytest.raises(ib.ModelNotFound, match="has no statistics of the model 'nope'"):
        server.statistics("nope", version=version)


@pytest.mark.parametrize("version", [9, "beta"])
def test_there_are_no_statistics_of_a_version_that_is_not_there(
    server: ib.Server, version: int | str
) -> None:
    with pytest.raises(ib.ModelNotFound, match=f"model 'batching', version '{version}'"):
        server.statistics("batching", version=version)


def test_dependents_are_unloaded_when_that_is_asked_for(server: ib.Server) -> None:
    server.unload("batching", unload_dependents=True)
    assert states(server, "batching")[0][1] == "UNAVAILABLE"
    server.load("batching")


def test_a_server_is_used_in_a_forked_child(server: ib.Server) -> None:
    assert server.live()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = 0 if server.live() and server.models() else 1
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert server.live()


def test_a_server_that_is_gone_is_not_live_and_its_models_are_unavailable(
    triton_environment: Path, tmp_path: Path, protocol: Protocol
) -> None:
    models = write_repository(tmp_path / "models", only=["batching"])
    triton = LocalTriton(models, environment=triton_environment, startup_timeout=120)
    with triton, ib.open_server(base_url(triton, protocol)) as server:
        assert server.ready()
        triton.kill()
        assert (server.live(), server.ready()) == (False, False)
        with pytest.raises(ib.Unavailable):
            server.models()
        with pytest.raises(ib.Unavailable):
            server.load("batching")


def test_a_triton_that_loads_models_by_itself_says_how_to_start_it(
    triton: LocalTriton, protocol: Protocol
) -> None:
    with ib.open_server(base_url(triton, protocol)) as server:
        for call, verb in ((server.load, "load"), (server.unload, "unload")):
            with pytest.raises(ib.UnsupportedOperation) as caught:
                call("batching")
            assert f"does not {verb} models when it is told to" in str(caught.value)
            assert "--model-control-mode=explicit" in str(caught.value)
        assert len(server.models()) > 10
