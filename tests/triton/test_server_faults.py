"""A server that is not there, does not answer, or is no Triton: fakes, over both protocols."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

import infer_backends as ib
from tests.conftest import Protocol
from tests.triton.endpoints import black_hole, free_port, silent_server
from tests.triton.grpc_fakes import fake_server, refuse
from tests.triton.http_faults import faulty_server, http_answer, json_answer


def test_nobody_there(protocol: Protocol) -> None:
    with ib.open_server(f"{protocol}://127.0.0.1:{free_port()}") as server:
        assert (server.live(), server.ready()) == (False, False)
        for call in (server.metadata, server.models, server.statistics):
            with pytest.raises(ib.Unavailable):
                call()
        with pytest.raises(ib.Unavailable):
            server.load("m")


@pytest.mark.parametrize("where", [black_hole, silent_server])
def test_a_server_without_a_word_is_not_waited_for_beyond_the_deadline(
    protocol: Protocol, where: Callable[[], Any]
) -> None:
    with where() as port, ib.open_server(f"{protocol}://127.0.0.1:{port}") as server:
        started = time.monotonic()
        assert server.live(timeout=0.2) is False
        with pytest.raises((ib.DeadlineExceeded, ib.Unavailable)):
            server.load("m", timeout=0.2)
        assert time.monotonic() - started < 5


def test_over_http_a_server_without_a_repository_or_statistics_names_the_extension() -> None:
    not_found = http_answer(b'{"detail": "Not Found"}', "404 Not Found")
    plain = {"/v2": {"name": "plain"}}
    with faulty_server(_saying(not_found), control=plain) as there:
        _expect_no_extensions(f"http://127.0.0.1:{there.port}")


def test_over_grpc_a_server_without_a_repository_or_statistics_names_the_extension() -> None:
    metadata = service_pb2.ServerMetadataResponse(name="plain")
    answers = {"ServerMetadata": lambda request, context: metadata}
    with fake_server(answers=answers) as there:
        _expect_no_extensions(f"grpc://127.0.0.1:{there.port}")


def _expect_no_extensions(url: str) -> None:
    with ib.open_server(url) as server:
        assert server.metadata() == ib.ServerMetadata("plain")
        for call in (server.models, lambda: server.load("m"), lambda: server.unload("m")):
            with pytest.raises(ib.UnsupportedOperation, match=f"{url} .*'model_repository'"):
                call()
        for config in ({"max_batch_size": 1}, '{"max_batch_size": 1}'):
            with pytest.raises(ib.UnsupportedOperation, match="config= and files= unread"):
                server.load("m", config=config)
        for name in (None, "m"):
            with pytest.raises(ib.UnsupportedOperation, match=f"{url} .*'statistics'"):
                server.statistics(name)
        with pytest.raises(ib.UnsupportedOperation, match="which every server of the Open Infer"):
            server.live()


def test_over_http_a_server_may_not_find_what_it_has_unloaded() -> None:
    not_found = http_answer(b'{"error": "Model echo not found"}', "404 Not Found")
    control = {
        "/v2": {"name": "mlserver", "extensions": []},
        "/v2/repository/index": [{"name": "echo", "state": "UNAVAILABLE", "reason": ""}],
    }
    with faulty_server(_saying(not_found), control=control) as there:
        _expect_what_is_like_mlserver(f"http://127.0.0.1:{there.port}")


def test_over_grpc_a_server_may_not_find_what_it_has_unloaded() -> None:
    not_found = refuse(grpc.StatusCode.NOT_FOUND, "Model echo not found")
    metadata = service_pb2.ServerMetadataResponse(name="mlserver")
    index = service_pb2.RepositoryIndexResponse()
    index.models.add(name="echo", state="State.UNAVAILABLE")
    answers = {
        "ServerMetadata": lambda request, context: metadata,
        "RepositoryIndex": lambda request, context: index,
        "RepositoryModelLoad": not_found,
        "RepositoryModelUnload": not_found,
    }
    with fake_server(answers=answers) as there:
        _expect_what_is_like_mlserver(f"grpc://127.0.0.1:{there.port}")


def _expect_what_is_like_mlserver(url: str) -> None:
    with ib.open_server(url) as server:
        assert server.models() == [ib.ModelState("echo", "", "UNAVAILABLE")]
        server.unload("echo")
        with pytest.raises(ib.ModelNotFound, match=f"{url} has no model 'echo' to load"):
            server.load("echo")
        with pytest.raises(ib.UnsupportedOperation, match=r"'model_repository\(unload_depend"):
            server.unload("echo", unload_dependents=True)


def test_behind_a_gateway_that_hides_the_server_what_is_there_is_used() -> None:
    not_found = http_answer(b"", "404 Not Found")
    control = {
        "/v2/repository/index": json_index("m"),
        "/v2/repository/models/m/load": http_answer(),
    }
    with faulty_server(_saying(not_found), control=control | {"/v2": not_found}) as there:
        with ib.open_server(f"http://127.0.0.1:{there.port}") as server:
            server.load("m", config={"max_batch_size": 1})
            with pytest.raises(ib.ModelNotFound, match="no statistics of the model 'm'"):
                server.statistics("m")
            with pytest.raises(ib.UnsupportedOperation, match="has no v2, which every server"):
                server.metadata()


@pytest.mark.parametrize(
    ("status", "live"),
    [("200 OK", True), ("400 Bad Request", False), ("500 Oh", False), ("503 Busy", False)],
)
def test_over_http_the_status_says_whether_a_server_is_live(status: str, live: bool) -> None:
    control = {"/v2/health/live": http_answer(b"", status)}
    with faulty_server(control=control) as there:
        with ib.open_server(f"http://127.0.0.1:{there.port}") as server:
            assert server.live() is live


def test_credentials_that_are_refused_are_an_error(protocol: Protocol) -> None:
    with contextlib.ExitStack() as stack:
        if protocol == "http":
            denied = http_answer(b"", "401 Unauthorized")
            port = stack.enter_context(faulty_server(_saying(denied))).port
        else:
            denied_call = refuse(grpc.StatusCode.UNAUTHENTICATED)
            port = stack.enter_context(fake_server(answers={"ServerLive": denied_call})).port
        url = f"{protocol}://user:secret@127.0.0.1:{port}"
        server = stack.enter_context(ib.open_server(url))
        with pytest.raises(ib.PermissionDenied) as caught:
            server.live()
        assert "secret" not in str(caught.value)


def test_a_server_behind_a_gateway_is_found_below_its_base_path() -> None:
    control = {
        "/team/v2": {"name": "triton"},
        "/team/v2/repository/index": json_index("m"),
        "/team/v2/models/m/stats": {"model_stats": [{"name": "m"}]},
    }
    with faulty_server(control=control) as there:
        with ib.open_server(f"http://127.0.0.1:{there.port}/team/v2") as server:
            assert server.metadata().name == "triton"
            assert [model.name for model in server.models()] == ["m"]
            assert server.statistics("m") == [ib.ModelStatistics("m")]
    with pytest.raises(ib.InvalidURL, match="base path"):
        ib.open_server("grpc://h/team/v2")


def json_index(*names: str) -> bytes:
    return json_answer([{"name": name, "state": "READY"} for name in names])


@pytest.mark.parametrize(
    "answer", [b"no JSON", b"[]", b'{"name": 3}', b'{"name": "x", "extensions": "all"}']
)
def test_metadata_that_is_none_breaks_the_protocol(answer: bytes) -> None:
    with faulty_server(control={"/v2": http_answer(answer)}) as there:
        with ib.open_server(f"http://127.0.0.1:{there.port}") as server:
            with pytest.raises(ib.ProtocolError, match=f"http://127.0.0.1:{there.port}"):
                server.metadata()


def test_files_that_are_larger_than_a_message_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infer_backends_triton._server_grpc.MAX_MESSAGE_BYTES", 10)
    metadata = service_pb2.ServerMetadataResponse(extensions=["model_repository"])
    answers = {"ServerMetadata": lambda request, context: metadata}
    with fake_server(answers=answers) as there:
        with ib.open_server(f"grpc://127.0.0.1:{there.port}") as server:
            with pytest.raises(ib.InvalidInput, match="files= has 11 bytes"):
                server.load("m", config={}, files={"1/m": b"12345678901"})


def _saying(answer: bytes) -> Any:
    def say(sock: Any, request: Any) -> None:
        sock.sendall(answer)

    return say
