"""The JSON of what a server says of itself and its models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infer_backends.plugin import InvalidURL, ModelNotFound, ProtocolError
from infer_backends_triton._http_messages import choose_model, model_path, read_extensions


def test_paths_are_quoted() -> None:
    assert model_path((), "m", None) == "/v2/models/m"
    assert model_path(("a", "b"), "é/ ?", "3") == "/a/b/v2/models/%C3%A9%2F%20%3F/versions/3"


def test_what_a_path_may_hold_is_sent_as_it_is_since_triton_does_not_decode() -> None:
    assert model_path((), "a.b-c+d@e:f", "1") == "/v2/models/a.b-c+d@e:f/versions/1"


def index(*entries: Any) -> bytes:
    return json.dumps(entries).encode()


def test_a_state_is_read_in_the_form_that_mlserver_gives_it_over_grpc() -> None:
    entries = index(
        {"name": "a", "state": "State.READY"}, {"name": "b", "state": "State.UNAVAILABLE"}
    )
    assert choose_model(entries, "grpc://h", None) == "a"


def test_the_only_ready_model_is_chosen() -> None:
    entries = index(
        {"name": "a", "version": "1", "state": "READY"},
        {"name": "a", "version": "2", "state": "READY"},
        {"name": "b", "version": "1", "state": "UNAVAILABLE", "reason": "boom"},
        {"name": "c"},
    )
    assert choose_model(entries, "http://h", None) == "a"
    assert choose_model(entries, "http://h", "2") == "a"
    with pytest.raises(ModelNotFound, match="'a', 'b', 'c'"):
        choose_model(entries, "http://h", "3")


def test_several_ready_models_are_listed() -> None:
    many = index(*({"name": f"m{number:02}", "state": "READY"} for number in range(30)))
    with pytest.raises(InvalidURL, match=r"30 are ready.* /m00; .*'m19' and 10 more"):
        choose_model(many, "http://h", None)


def test_a_server_without_models_is_told_apart() -> None:
    with pytest.raises(ModelNotFound, match="none at all"):
        choose_model(b"[]", "http://h", None)


@pytest.mark.parametrize("text", [b"{}", b"[1]", b"x"])
def test_what_is_no_index_is_a_protocol_error(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        choose_model(text, "http://h", None)


def test_extensions_are_read() -> None:
    assert read_extensions(b'{"extensions": ["a", 1]}') == {"a"}
    assert read_extensions(b'{"extensions": null}') == frozenset()
    with pytest.raises(ProtocolError):
        read_extensions(b'{"extensions": "a"}')
