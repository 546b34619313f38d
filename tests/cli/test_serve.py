"""``infer-backends serve``: a real Triton until a signal, and nothing left afterwards."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import psutil
import pytest

import infer_backends as ib
from infer_backends._cli import _serve, _triton
from infer_backends._cli._demo._digits import MODEL_PATH
from tests.cli.conftest import Invoke, start


@contextlib.contextmanager
def serving(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The command once it has begun; it ends with the block."""
    running = start("serve", *arguments)
    try:
        assert running.stderr is not None
        assert running.stderr.readline() == "starting Triton ...\n"
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=60)


def processes_of(running: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(running.pid).children(recursive=True)


def wait_until_ready(running: subprocess.Popen[str]) -> None:
    assert running.stderr is not None
    assert running.stderr.readline() == "Triton is ready; Ctrl-C ends it\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_model_is_served_until_a_signal_ends_it_in_order(
    triton_environment: Path, number: signal.Signals
) -> None:
    with serving(f"digits={MODEL_PATH}", "--environment", triton_environment) as running:
        assert running.stdout is not None
        urls = [running.stdout.readline().strip() for _ in range(2)]
        assert [url.partition(":")[0] for url in urls] == ["http", "grpc"]
        assert all(url.endswith("/digits") for url in urls)
        wait_until_ready(running)
        for url in urls:
            with ib.open_model(url) as model:
                assert model(np.zeros((2, 64), np.float32)).shape == (2, 10)
        children = processes_of(running)
        assert any(child.name() == "tritonserver" for child in children)
        running.send_signal(number)
        stdout, stderr = running.communicate(timeout=60)
        said = "Stopping; open connections get up to 5 seconds ...\nTriton has stopped\n"
        assert (running.returncode, stdout, stderr) == (0, "", said)
        assert not any(child.is_running() for child in children)


def test_a_signal_while_the_server_starts_ends_it_too(triton_environment: Path) -> None:
    with serving(f"digits={MODEL_PATH}", "--environment", triton_environment) as running:
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=60)
        assert (running.returncode, stdout, stderr) == (0, "", "Triton has stopped\n")


def test_a_server_that_ends_by_itself_is_an_error(triton_environment: Path) -> None:
    with serving(MODEL_PATH, "--environment", triton_environment) as running:
        wait_until_ready(running)
        server = next(p for p in processes_of(running) if p.name() == "tritonserver")
        server.kill()
        _, stderr = running.communicate(timeout=60)
        assert running.returncode == 1
        assert stderr.startswith("error: Triton has ended by itself; its log ends: ")
        assert stderr.count("\n") == 1


def test_a_model_is_served_on_the_ports_that_are_asked_for(triton_environment: Path) -> None:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        http_port, grpc_port = one.getsockname()[1], two.getsockname()[1]
    ports = ("--http-port", str(http_port), "--grpc-port", str(grpc_port))
    with serving(MODEL_PATH, "--environment", triton_environment, *ports) as running:
        assert running.stdout is not None
        assert [running.stdout.readline() for _ in range(2)] == [
            f"http://127.0.0.1:{http_port}/digits\n",
            f"grpc://127.0.0.1:{grpc_port}/digits\n",
        ]


def test_models_are_loaded_and_unloaded_where_that_is_asked_for(triton_environment: Path) -> None:
    control = ("--environment", triton_environment, "--model-control", "explicit")
    with serving(MODEL_PATH, *control) as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        wait_until_ready(running)
        with ib.open_server(url.removesuffix("/digits")) as server:
            server.unload("digits")
            server.load("digits")
        with ib.open_model(url) as model:
            assert model(np.zeros((2, 64), np.float32)).shape == (2, 10)


def test_a_port_in_use_is_one_line_before_anything_starts(invoke: Invoke) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = invoke("serve", MODEL_PATH, "--grpc-port", str(port))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: the port {port} of 127.0.0.1 is in use: end what listens there, or choose another "
        "port\n"
    )


def test_a_server_that_cannot_start_is_one_line(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("serve", f"digits={MODEL_PATH}", "--environment", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 2
    assert f"{str(tmp_path)!r}, which is no Python environment" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument"),
        (("a=x.onnx", "y.onnx"), "'y.onnx' has no name and others have one"),
        (("a=x.onnx", "a=y.onnx"), "the name 'a' is given twice"),
        (("a=/nowhere/x.onnx",), "/nowhere/x.onnx"),
        (("/nowhere",), "/nowhere"),
        ((MODEL_PATH, "--http-port", "0"), "0 is not in the range 1<=x<=65535"),
        ((MODEL_PATH, "--http-port", "9", "--grpc-port", "9"), "the port 9 is given twice"),
        ((MODEL_PATH, "--environment", "/nowhere"), "'/nowhere' does not exist"),
    ],
)
def test_what_cannot_be_served_is_exit_code_2(
    invoke: Invoke, arguments: tuple[str, ...], message: str
) -> None:
    result = invoke("serve", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "starting" not in result.stderr


def test_without_the_distribution_it_is_said_what_to_install(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_triton, "_PACKAGE", "infer_backends_gone")
    result = invoke("serve", f"digits={MODEL_PATH}")
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "error: a local Triton needs the package infer-backends-triton: "
        "pip install 'infer-backends-triton[http,grpc,server]'\n"
    )


def test_a_module_missing_within_the_distribution_is_its_own_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "importing_what_is_gone.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_triton, "_PACKAGE", "importing_what_is_gone")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        _triton.local_triton({})


def test_paths_are_served_under_the_names_of_their_files(tmp_path: Path) -> None:
    for folder in ("b", "a"):
        (tmp_path / folder).mkdir()
    (tmp_path / "README").touch()
    (tmp_path / "k=v").mkdir()
    assert _serve.model_names(str(tmp_path)) == ["a", "b", "k=v"]
    assert _serve.model_names("models/m.onnx") == ["m"]
    assert _serve.model_names(["m.onnx", "models/folder"]) == ["m", "folder"]
    assert _serve.parse_sources((str(tmp_path / "k=v"),)) == str(tmp_path / "k=v")
    assert _serve.parse_sources(("m.onnx", "n.onnx")) == ["m.onnx", "n.onnx"]
    with pytest.raises(click.UsageError):
        _serve.parse_sources(("m.onnx", "n=n.onnx"))


def test_names_are_escaped_in_urls() -> None:
    class Server:
        http_url, grpc_url = "http://h:1", "grpc://h:2"

    assert _serve.urls(Server(), ["a b/c"]) == [  # type: ignore[arg-type]
        "http://h:1/a%20b%2Fc",
        "grpc://h:2/a%20b%2Fc",
    ]
