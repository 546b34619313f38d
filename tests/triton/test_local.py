"""A local Triton starts, serves, stops, starts again, and says why when it cannot."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import trustme

from infer_backends.plugin import (
    DeadlineExceeded,
    InvalidInput,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends_triton._local import LocalTriton
from infer_backends_triton._serve.control import control_arguments
from tests.servers import repository

# As /proc writes them; gRPC listens on the IPv6 form of the address.
IPV4_IN_IPV6 = "0000000000000000FFFF0000"
COMPLETE = ["--disable-auto-complete-config"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository.write_repository(tmp_path_factory.mktemp("small"), {"identity_fp32"})


def local(models: Path, environment: Path, startup_timeout: float = 60.0) -> LocalTriton:
    return LocalTriton(
        models, environment=environment, arguments=COMPLETE, startup_timeout=startup_timeout
    )


def is_ready(server: LocalTriton, model: str) -> bool:
    try:
        with urllib.request.urlopen(f"{server.http_url}/v2/models/{model}/ready") as response:
            return bool(response.status == 200)
    except OSError:
        return False


def is_running(server: LocalTriton) -> bool:
    return server.pid is not None


def test_every_model_of_the_repository_is_ready_once_it_has_started(
    triton: LocalTriton, triton_repository: Path
) -> None:
    for folder in triton_repository.iterdir():
        assert is_ready(triton, folder.name), folder.name


def test_it_listens_on_loopback_only(triton: LocalTriton) -> None:
    assert triton.pid is not None
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{triton.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == "0A" and int(port, 16) in triton.ports:
                listening.add((address.removeprefix(IPV4_IN_IPV6), int(port, 16)))
    assert listening == {("0100007F", port) for port in triton.ports}


def test_it_has_urls_metrics_a_pid_and_a_log(triton: LocalTriton) -> None:
    assert triton.http_url == f"http://127.0.0.1:{triton.ports.http}"
    assert triton.grpc_url == f"grpc://127.0.0.1:{triton.ports.grpc}"
    with urllib.request.urlopen(triton.metrics_url) as response:
        assert b"nv_inference_request_success" in response.read()
    assert triton.pid is not None
    assert Path(f"/proc/{triton.pid}/exe").resolve().name == "tritonserver"
    assert triton.log_path is not None
    assert triton.log_tail(1) == triton.log_path.read_text().splitlines()[-1]
    assert repr(triton) == f"<LocalTriton {triton.http_url} {triton.grpc_url} pid {triton.pid}>"


def test_starting_twice_starts_one_server(triton: LocalTriton) -> None:
    before = triton.pid
    triton.start()
    assert triton.pid == before


def test_after_a_stop_it_refuses_connections_keeps_its_ports_and_starts_again(
    models: Path, triton_environment: Path
) -> None:
    with local(models, triton_environment) as server:
        ports, first, workspace = server.ports, server.pid, server.log_path
        server.stop()
        server.stop()
        assert (server.pid, server.log_path) == (None, None)
        assert workspace is not None
        assert not workspace.parent.exists()
        assert "stopped" in repr(server)
        assert "identity_fp32" in server.log_tail()
        for port in ports:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
        server.start()
        assert server.ports == ports
        assert server.pid not in {None, first}
        assert is_ready(server, "identity_fp32")


def test_it_can_be_killed_and_started_again(models: Path, triton_environment: Path) -> None:
    with local(models, triton_environment) as server:
        server.kill()
        assert not is_ready(server, "identity_fp32")
        server.start()
        assert is_ready(server, "identity_fp32")


def test_a_server_that_crashed_has_no_pid_and_starts_again(
    models: Path, triton_environment: Path
) -> None:
    with local(models, triton_environment) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        end = time.monotonic() + 30
        while is_running(server):
            assert time.monotonic() < end
            time.sleep(0.01)
        server.start()
        assert is_ready(server, "identity_fp32")


def test_two_of_them_run_side_by_side(models: Path, triton_environment: Path) -> None:
    with local(models, triton_environment) as one, local(models, triton_environment) as two:
        assert not set(one.ports) & set(two.ports)
        assert is_ready(one, "identity_fp32")
        assert is_ready(two, "identity_fp32")
        one.stop()
        assert is_ready(two, "identity_fp32")


def test_it_outlives_the_thread_that_started_it(models: Path, triton_environment: Path) -> None:
    server = local(models, triton_environment)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        assert is_ready(server, "identity_fp32")
    finally:
        server.stop()


def test_a_collected_object_takes_its_server_along(models: Path, triton_environment: Path) -> None:
    server = local(models, triton_environment)
    server.start()
    assert server.log_path is not None
    pid, workspace = server.pid, server.log_path.parent
    del server
    assert not workspace.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_repository_in_a_folder_with_a_space_in_its_name_is_served(
    tmp_path: Path, triton_environment: Path
) -> None:
    # The Python backend takes its own command line apart at spaces, and crashes.
    models = repository.write_repository(tmp_path / "my models", {"identity_fp32"})
    with local(models, triton_environment) as server:
        assert is_ready(server, "identity_fp32")
    assert models.is_dir()


def test_a_bad_configuration_is_reported_with_the_log(
    tmp_path: Path, triton_environment: Path
) -> None:
    models = repository.write_repository(tmp_path, {"identity_fp32"})
    config = models / "identity_fp32" / "config.pbtxt"
    config.write_text(config.read_text().replace("TYPE_FP32", "TYPE_FP33"))
    server = local(models, triton_environment)
    with pytest.raises(Unavailable, match=r"could not start \(exit status 1\)") as caught:
        server.start()
    assert "TYPE_FP33" in server.log_tail(200)
    assert str(caught.value).count("\n") <= 20
    assert server.pid is None


def test_a_model_that_does_not_load_is_reported_with_the_reason(
    tmp_path: Path, triton_environment: Path
) -> None:
    models = repository.write_repository(tmp_path, {"identity_fp32"})
    (models / "identity_fp32" / "1" / "model.py").write_text("raise ValueError('broken model')\n")
    with pytest.raises(Unavailable, match="broken model"):
        local(models, triton_environment).start()


def test_a_server_that_is_not_ready_in_time_is_stopped(
    models: Path, triton_environment: Path
) -> None:
    server = local(models, triton_environment, startup_timeout=0.01)
    with pytest.raises(DeadlineExceeded, match=r"not ready after 0\.01 s"):
        server.start()
    assert server.pid is None


def test_model_folders_are_served_by_name_and_metrics_may_be_off(
    models: Path, triton_environment: Path
) -> None:
    folder = models / "identity_fp32"
    arguments = [*COMPLETE, "--allow-metrics=false"]
    with LocalTriton([folder], environment=triton_environment, arguments=arguments) as server:
        assert is_ready(server, "identity_fp32")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.ports.metrics), timeout=5)
    assert (folder / "config.pbtxt").exists()


def test_a_long_log_is_read_from_its_end(models: Path, triton_environment: Path) -> None:
    with local(models, triton_environment) as server:
        assert server.log_path is not None
        with server.log_path.open("a") as log:
            log.write("x" * 300_000 + "\nthe end\n")
        assert server.log_tail(1) == "the end"
        assert len(server.log_tail(2)) < 300_000


def test_tls_is_served_with_the_files_that_the_arguments_name(
    models: Path, triton_environment: Path, tmp_path: Path
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    files = [f"--grpc-server-cert={tmp_path / 'cert'}", f"--grpc-server-key={tmp_path / 'key'}"]
    arguments = [*COMPLETE, "--grpc-use-ssl=true", *files]
    with LocalTriton(models, environment=triton_environment, arguments=arguments) as server:
        trusting = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        trusting.set_alpn_protocols(["h2"])
        address = ("127.0.0.1", server.ports.grpc)
        with (
            socket.create_connection(address, timeout=10) as plain,
            trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            assert secure.selected_alpn_protocol() == "h2"


def test_tls_arguments_show_in_the_url(models: Path) -> None:
    server = LocalTriton(models, arguments=["--grpc-use-ssl=true"])
    assert server.grpc_url.startswith("grpcs://")


@pytest.mark.parametrize("argument", ["--http-port=80", "--grpc-address=0.0.0.0"])
def test_arguments_that_it_chooses_itself_are_refused(models: Path, argument: str) -> None:
    with pytest.raises(InvalidInput, match="chosen by LocalTriton"):
        LocalTriton(models, arguments=[argument])


def test_models_are_loaded_at_the_start_where_clients_control_them(
    models: Path, triton_environment: Path
) -> None:
    controlled = LocalTriton(
        models, environment=triton_environment, arguments=COMPLETE, model_control="explicit"
    )
    with controlled as server:
        assert is_ready(server, "identity_fp32")


@pytest.mark.parametrize("mode", ["none", "explicit", "poll"])
def test_a_mode_of_control_is_one_that_triton_has(mode: str) -> None:
    assert control_arguments(mode, ())[0] == f"--model-control-mode={mode}"
    with pytest.raises(InvalidInput, match="given twice"):
        control_arguments(mode, ["--model-control-mode=none"])


def test_without_a_mode_arguments_may_have_one(models: Path) -> None:
    assert control_arguments(None, ["--model-control-mode=poll"]) == ()
    with pytest.raises(InvalidInput, match="'none' or 'explicit' or 'poll', not 'full'"):
        LocalTriton(models, model_control="full")


def test_a_program_that_cannot_be_run_is_reported(
    models: Path, triton_environment: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "environment"
    (copy / "bin").mkdir(parents=True)
    (copy / "bin" / "python3").write_text("#!/bin/sh\necho no such thing >&2\nexit 3\n")
    (copy / "bin" / "python3").chmod(0o755)
    with pytest.raises(UnsupportedOperation, match=r"exit status 3\): no such thing"):
        local(models, copy).start()
    shutil.rmtree(copy)
