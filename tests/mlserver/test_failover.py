"""An MLServer that unloads its model, or dies, and the same model in a file."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from infer_backends import ModelNotFound, open_model
from tests.conftest import Protocol
from tests.faults.servers import wait_until
from tests.servers import environment
from tests.servers.mlserver import MLServer, mlserver_in


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MLServer]:
    """One of our own, with one model."""
    with mlserver_in(environment.find_or_build("mlserver"), tmp_path, ["roots"]) as server:
        yield server


@pytest.fixture
def local(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same model as a file."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in ("x", "y")
    )
    graph = helper.make_graph([helper.make_node("Sqrt", ["x"], ["y"])], "roots", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    path = tmp_path_factory.mktemp("local") / "roots.onnx"
    onnx.save(model, path)
    return f"onnx:{path}"


def control(server: MLServer, what: str) -> None:
    """Have the server load or unload its model."""
    url = f"http://127.0.0.1:{server.http_port}/v2/repository/models/roots/{what}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
        assert answer.status == 200


def test_its_only_model_needs_no_name_and_comes_back_after_it_was_unloaded(
    server: MLServer, local: str
) -> None:
    x = np.array([[4.0, 9.0]], np.float32)
    for protocol in ("http", "grpc"):
        with open_model(server.url("", protocol)) as model:
            assert model.metadata.name == "roots"
            assert model(x).tolist() == [[2.0, 3.0]]
            control(server, "unload")
            with pytest.raises(ModelNotFound):
                model(x)
            control(server, "load")
            assert model(x).tolist() == [[2.0, 3.0]]


def test_the_file_answers_when_the_server_is_killed_and_gives_way_when_it_is_back(
    server: MLServer, local: str, protocol: Protocol
) -> None:
    url = server.url("roots", protocol)
    x = np.array([[4.0, 9.0]], np.float32)
    with open_model([url, local], timeout=20.0, probe_period=0.1) as model:
        assert model.infer({"x": x}).backend_url == url
        control(server, "unload")
        result = model.infer({"x": x})
        assert result.backend_url == local
        assert type(result.attempts[0].error) is ModelNotFound
        control(server, "load")
        server.kill()
        for _ in range(10):
            result = model.infer({"x": x})
            assert result.backend_url == local
            assert result["y"].tolist() == [[2.0, 3.0]]
        server.start()
        wait_until(lambda: model.infer({"x": x}).backend_url == url)
