"""A real MLServer, looked at and controlled over both protocols."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import infer_backends as ib
from infer_backends import ModelNotFound, Server, UnsupportedOperation
from tests.conftest import Protocol
from tests.servers.mlserver import MLServer


@pytest.fixture
def server(mlserver: MLServer, protocol: Protocol) -> Iterator[Server]:
    with ib.open_server(mlserver.url("", protocol)) as server:
        yield server


def state(server: Server, name: str) -> str:
    (found,) = [model.state for model in server.models() if model.name == name]
    return found


def test_it_says_what_it_is(server: Server) -> None:
    assert server.live()
    found = server.metadata()
    assert (found.name, found.extensions) == ("mlserver", ())
    assert state(server, "mixed") == "READY"


def test_a_model_is_unloaded_and_loaded(server: Server) -> None:
    try:
        server.unload("roots")
        assert state(server, "roots") == "UNAVAILABLE"
        # It does not find a model any more that it has unloaded.
        server.unload("roots")
    finally:
        server.load("roots")
    assert state(server, "roots") == "READY"


def test_a_model_that_it_does_not_have_is_not_found(server: Server) -> None:
    with pytest.raises(ModelNotFound, match="has no model 'nope' to load"):
        server.load("nope")
    with pytest.raises(ModelNotFound, match="has no model 'nope' to unload"):
        server.unload("nope")


def test_what_it_would_ignore_is_not_asked_of_it(server: Server) -> None:
    with pytest.raises(UnsupportedOperation, match=r"'model_repository'.*config= and files= unre"):
        server.load("roots", config={"max_batch_size": 1})
    with pytest.raises(UnsupportedOperation, match="unload_dependents.*leave dependents as they"):
        server.unload("roots", unload_dependents=True)
    assert state(server, "roots") == "READY"


def test_it_has_no_statistics(server: Server) -> None:
    for name in (None, "mixed"):
        with pytest.raises(UnsupportedOperation, match="'statistics', so it counts nothing"):
            server.statistics(name)
