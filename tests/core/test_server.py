"""What calls on a server mean, whatever plugin asks it."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

import infer_backends as ib
from infer_backends._server import Server
from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InvalidInput,
    ModelClosed,
    ModelState,
    ModelStatistics,
    PermissionDenied,
    PluginError,
    ServerBackend,
    ServerMetadata,
    Unavailable,
    UnsupportedOperation,
)
from tests.core.server_fakes import FakeServer, Minimal


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


@pytest.fixture
def server(fake: FakeServer) -> Server:
    return Server(fake, "fake://h")


def test_live_and_ready_are_what_the_server_says(server: Server, fake: FakeServer) -> None:
    assert (server.live(), server.ready()) == (True, True)
    fake.answer = False
    assert (server.live(), server.ready()) == (False, False)


@pytest.mark.parametrize("error", [Unavailable("down"), DeadlineExceeded("late")])
def test_a_server_that_does_not_answer_is_neither_live_nor_ready(
    server: Server, fake: FakeServer, error: Exception
) -> None:
    fake.error = error
    assert (server.live(), server.ready()) == (False, False)


def test_what_cannot_be_known_is_an_error(server: Server, fake: FakeServer) -> None:
    fake.error = PermissionDenied("no")
    with pytest.raises(PermissionDenied):
        server.live()
    with pytest.raises(PermissionDenied):
        server.ready()


def test_a_model_is_loaded_with_what_is_given(server: Server, fake: FakeServer) -> None:
    server.load("m")
    server.load("m", config={"max_batch_size": 2}, files={"1/m.py": bytearray(b"x")})
    server.load("m", config='{"backend": "python"}')
    assert fake.calls == [
        ("load", "m", None, {}),
        ("load", "m", '{"max_batch_size": 2}', {"1/m.py": b"x"}),
        ("load", "m", '{"backend": "python"}', {}),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "not empty"),
        ({"name": "a\nb"}, "control characters"),
        ({"name": "\ud800"}, "not empty"),
        ({"name": 3}, "not int"),
        ({"name": "m", "config": "{"}, "no JSON object"),
        ({"name": "m", "config": "[]"}, "no JSON object"),
        ({"name": "m", "config": "[" * 100_000}, "no JSON object"),
        ({"name": "m", "config": b"{}"}, "not bytes"),
        ({"name": "m", "config": {"a": float("nan")}}, "JSON cannot hold"),
        ({"name": "m", "config": {"a": {1, 2}}}, "JSON cannot hold"),
        ({"name": "m", "files": [b"x"]}, "is a mapping"),
        ({"name": "m", "files": {"file:1/m.py": b"x"}}, "write '1/m.py'"),
        ({"name": "m", "files": {"../m.py": b"x"}}, "within the model's folder"),
        ({"name": "m", "files": {"/etc/m.py": b"x"}}, "within the model's folder"),
        ({"name": "m", "files": {"": b"x"}}, "a path is a str"),
        ({"name": "m", "files": {1: b"x"}}, "a path is a str"),
        ({"name": "m", "files": {"1/m.py": "x"}}, "are str; expected bytes"),
        ({"name": "m", "timeout": 0}, "positive number of seconds"),
        ({"name": "m", "timeout": "1"}, "not str"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_sent(
    server: Server, fake: FakeServer, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        server.load(**arguments)
    assert fake.calls == []


def test_unload_returns_when_the_model_is_unloaded(server: Server, fake: FakeServer) -> None:
    fake.looks_until_unloaded = 3
    server.unload("m", unload_dependents=True)
    assert fake.calls == [
        ("unload", "m", True),
        *[("models",)] * 3,
    ]
    assert len(set(map(id, fake.deadlines))) == 1


def test_unload_ends_at_its_deadline(server: Server, fake: FakeServer) -> None:
    fake.looks_until_unloaded = 10**9
    with pytest.raises(DeadlineExceeded, match="has not unloaded 'm' in time: it is UNLOADING"):
        server.unload("m", timeout=0.05)


def test_unload_says_so_when_the_server_falls_silent(fake: FakeServer) -> None:
    class Silent(FakeServer):
        def models(self, deadline: Deadline) -> list[ModelState]:
            raise DeadlineExceeded("no answer")

    with pytest.raises(DeadlineExceeded, match="'m' in time: it is in a state that it did not say"):
        Server(Silent(), "fake://h").unload("m")


def test_statistics_are_asked_for_by_model_and_version(server: Server, fake: FakeServer) -> None:
    fake.answer = [ModelStatistics("m", "1")]
    assert server.statistics() == server.statistics("m") == fake.answer
    server.statistics("m", version=3)
    server.statistics("m", version="beta")
    assert fake.calls == [
        ("statistics", None, None),
        ("statistics", "m", None),
        ("statistics", "m", "3"),
        ("statistics", "m", "beta"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "m", "version": -1}, "from 0 to 63 bits"),
        ({"name": "m", "version": ""}, "not empty"),
        ({"name": "m", "version": True}, "not bool"),
        ({"version": 1}, "version= needs the name of a model"),
    ],
)
def test_a_wrong_version_is_refused(
    server: Server, fake: FakeServer, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        server.statistics(**arguments)
    assert fake.calls == []


@pytest.mark.parametrize("method", ["models", "load", "unload", "statistics"])
def test_what_a_plugin_cannot_do_is_said(method: str) -> None:
    assert isinstance(Minimal(), ServerBackend)
    server = Server(Minimal(), "fake://h")
    with pytest.raises(UnsupportedOperation, match="fake://h .* its plugin has no"):
        getattr(server, method)(*(["m"] if "load" in method else []))


@pytest.mark.parametrize("method", ["metadata", "models", "statistics"])
@pytest.mark.parametrize("answer", ["text", [3], {}])
def test_what_a_plugin_answers_is_checked(
    server: Server, fake: FakeServer, method: str, answer: Any
) -> None:
    fake.answer = answer
    with pytest.raises(PluginError, match=rf"{method}\(\) of the server backend .*FakeServer ret"):
        getattr(server, method)()


def test_a_stranger_s_exception_is_contained(server: Server, fake: FakeServer) -> None:
    fake.error = OSError("with a secret")
    for call in (server.live, server.metadata, server.models, lambda: server.load("m")):
        with pytest.raises(PluginError, match="FakeServer raised OSError") as caught:
            call()
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is fake.error


def test_a_server_that_was_closed_says_so(server: Server, fake: FakeServer) -> None:
    server.close()
    server.close()
    for call in (server.live, server.models, lambda: server.unload("m")):
        with pytest.raises(ModelClosed, match="the server is closed: open it again"):
            call()
    assert fake.calls == []


def test_a_call_in_flight_while_the_server_is_closed_says_so(fake: FakeServer) -> None:
    entered, closed = threading.Event(), threading.Event()

    class Slow(FakeServer):
        def metadata(self, deadline: Deadline) -> ServerMetadata:
            entered.set()
            closed.wait(10)
            raise Unavailable("the connection is gone")

        def close(self) -> None:
            closed.set()

    server = Server(Slow(), "fake://h")
    caught: list[BaseException] = []

    def call() -> None:
        try:
            server.metadata()
        except ModelClosed as exc:
            caught.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    assert entered.wait(10)
    server.close(timeout=0)
    thread.join(10)
    assert "closed while this call was in flight" in str(caught[0])


def test_a_stranger_s_exception_at_close_is_contained(fake: FakeServer) -> None:
    class Broken(FakeServer):
        def close(self) -> None:
            raise OSError

    with pytest.raises(PluginError, match="raised OSError"):
        Server(Broken(), "fake://h").close()

    class Unable(FakeServer):
        def close(self) -> None:
            raise UnsupportedOperation("not after a fork")

    with pytest.raises(UnsupportedOperation):
        Server(Unable(), "fake://h").close()
    with pytest.raises(InvalidInput):
        Server(fake, "fake://h").close("soon")  # type: ignore[arg-type]


def test_durations_have_a_mean() -> None:
    assert ib.StatisticDuration(4, 2.0).mean == 0.5
    assert ib.StatisticDuration().mean is None


def test_a_state_says_whether_the_model_is_ready_and_loaded() -> None:
    states = [ib.ModelState("m", "1", state) for state in ("READY", "UNLOADING", "UNAVAILABLE", "")]
    assert [state.ready for state in states] == [True, False, False, False]
    assert [state.loaded for state in states] == [True, True, False, False]


def test_a_server_made_from_a_backend_does_not_pickle(server: Server) -> None:
    with pytest.raises(UnsupportedOperation, match="open_server"):
        pickle.dumps(server)
