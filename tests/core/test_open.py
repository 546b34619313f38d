"""From one or several URLs to a Model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infer_backends
from infer_backends import (
    AllBackendsFailed,
    InvalidInput,
    InvalidURL,
    ModelURL,
    Unavailable,
    UnknownScheme,
    open_model,
)
from infer_backends.plugin import Backend, OpenOptions, Option
from tests.core.fakes import FakeBackend, metadata

X = np.ones((2, 3), np.float32)


class Plugin:
    """Remembers what it was asked to open; hosts named ``down`` cannot be reached."""

    def __init__(self) -> None:
        self.opened: list[tuple[ModelURL, OpenOptions]] = []
        self.backends: list[FakeBackend] = []
        self.max_batch_size = 0

    def __call__(self, url: ModelURL, options: OpenOptions) -> Backend:
        self.opened.append((url, options))
        if url.host == "down":
            raise Unavailable("refused")
        described = metadata(max_batch_size=self.max_batch_size)
        self.backends.append(FakeBackend(url=str(url), metadata=described))
        return self.backends[-1]


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    plugin = Plugin()
    options = [Option("size", int, 1), Option("api_key", str, None, secret=True)]
    with infer_backends.register_backend("fake", plugin, options=options):
        yield plugin


def test_the_plugin_gets_its_own_options_and_what_everybody_gets(plugin: Plugin) -> None:
    open_model("fake://u:p@h/m?size=3&connect_timeout=1.5", headers={"X-A": "b"}, timeout=4)
    url, options = plugin.opened[0]
    assert url.password == "p"
    assert dict(options) == {"size": 3, "api_key": None}
    assert options.connect_timeout == 1.5
    assert options.headers["x-a"] == "b"
    assert options.headers["authorization"].startswith("Basic ")
    assert 0 < options.deadline.remaining() <= 4


def test_options_may_stand_in_the_call(plugin: Plugin) -> None:
    open_model("fake://h/m", size=5, version=3)
    url, options = plugin.opened[0]
    assert options["size"] == 5
    assert url.version == "3"


def test_secret_options_are_masked_in_what_answers(plugin: Plugin) -> None:
    with open_model("fake://h/m?api_key=hunter2&size=2") as model:
        shown = model.infer({"x": X}).backend_url
    assert shown == "fake://h/m?api_key=***&size=2"
    assert plugin.opened[0][1]["api_key"] == "hunter2"


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("fake://h/m?colour=1", {}, "unknown option 'colour'"),
        ("fake://h/m", {"colour": 1}, "unknown option 'colour'"),
        ("fake://h/m?size=2", {"size": 3}, "two values"),
        ("fake://h/m?timeout=0", {}, "'timeout' has a wrong value"),
        ("fake://h/m?coerce=maybe", {}, "expected never or lossless or unsafe"),
        ("fake://h/m fake://i/m", {"size": 3}, "belongs in the URL that it is meant for"),
        ("fake://h/m?timeout=1 fake://i/m?timeout=2", {}, "differ in the option 'timeout'"),
        ("", {}, "the URL is empty"),
        ("   ", {}, "the URL is empty"),
        ([], {}, "no URL is given"),
        (b"fake://h/m", {}, "not by bytes"),
        ({"fake://h/m": 1}, {}, "not by dict"),
        (3, {}, "not by int"),
        (["fake://h/m", 3], {}, "not by int"),
        (["fake://h/m fake://i/m"], {}, "white space"),
        ("fake://h/m", {"version": ""}, "version="),
        ("fake://h/m", {"version": 10**5000}, "version="),
        ("fake://h/m", {"version": 1.5}, "version="),
        ("fake://h/m", {"timeout": 10**400}, "'timeout' has a wrong value"),
    ],
)
def test_a_wrong_url_or_option_opens_nothing(
    plugin: Plugin, url: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidURL, match=message):
        open_model(url, **options)
    assert plugin.opened == []


@pytest.mark.parametrize(
    "url",
    ["fake://h/m?auth=Bearer hunter2", "fake://h/m?api_key=x hunter2=", "fake://u:1 hunter2@h/m"],
)
def test_white_space_in_a_url_does_not_show_what_comes_after_it(plugin: Plugin, url: str) -> None:
    with pytest.raises(InvalidURL, match="white space.*write %20") as caught:
        open_model(url)
    assert "hunter2" not in str(caught.value)
    assert plugin.opened == []


@pytest.mark.parametrize("name", ["timeout", "connect_timeout"])
def test_a_plugin_gets_times_that_clocks_can_hold(plugin: Plugin, name: str) -> None:
    for text in ("inf", "1e300"):
        open_model(f"fake://h/m?{name}={text}").close()
        _, options = plugin.opened.pop()
        assert options.deadline.remaining() <= 366 * 86400
        assert options.connect_timeout <= 366 * 86400


def test_all_urls_are_checked_before_the_first_is_opened(plugin: Plugin) -> None:
    with pytest.raises(UnknownScheme):
        open_model("fake://h/m nothing://h/m")
    assert plugin.opened == []


def test_wrong_headers_open_nothing(plugin: Plugin) -> None:
    with pytest.raises(InvalidInput):
        open_model("fake://h/m", headers={"a": "b\n"})
    assert plugin.opened == []


@pytest.mark.parametrize(
    "urls",
    [
        "fake://down/m fake://h/m",
        "fake://down/m\n  fake://h/m\n",
        ["fake://down/m", ModelURL.parse("fake://h/m")],
        ("fake://down/m", "fake://h/m"),
        iter(["fake://down/m", "fake://h/m"]),
    ],
)
def test_several_urls_answer_in_order_of_preference(plugin: Plugin, urls: Any) -> None:
    with open_model(urls, timeout=5) as model:
        result = model.infer({"x": X})
        states = {member.url: str(member.state) for member in model.status().members}
    assert result.backend_url == "fake://h/m"
    assert result.attempts == ()
    assert states == {"fake://down/m": "down", "fake://h/m": "ready"}


def test_hosts_in_a_url_share_the_calls(plugin: Plugin) -> None:
    with open_model("fake://a:1/m?host=b:2&host=c&size=2") as model:
        answered = {model.infer({"x": X}).backend_url for _ in range(200)}
        (member,) = model.status().members
    assert answered == {f"fake://{host}/m?size=2" for host in ("a:1", "b:2", "c:1")}
    assert [replica.url for replica in member.replicas] == [
        f"fake://{host}/m?size=2" for host in ("a:1", "b:2", "c:1")
    ]
    assert member.calls == 200


def test_a_replica_that_is_down_is_left_out(plugin: Plugin) -> None:
    with open_model("fake://a/m?host=down&host=c") as model:
        answered = {model.infer({"x": X}).backend_url for _ in range(100)}
    assert answered == {"fake://a/m", "fake://c/m"}


def test_a_call_goes_to_another_replica_if_the_first_did_no_work(plugin: Plugin) -> None:
    with open_model("fake://a/m?host=b") as model:
        plugin.backends[0].error = Unavailable("refused", unprocessed=True)
        results = [model.infer({"x": X}) for _ in range(50)]
    assert {result.backend_url for result in results} == {"fake://b/m"}
    assert sum(len(result.attempts) for result in results) == 5


def test_a_call_that_may_have_been_worked_on_goes_nowhere_else(plugin: Plugin) -> None:
    with open_model("fake://a/m?host=b") as model:
        for backend in plugin.backends:
            backend.error = Unavailable("reset")
        with pytest.raises(AllBackendsFailed) as caught:
            model(X)
        assert [
            str(a.error) for a in caught.value.attempts if a.duration or "reset" in str(a.error)
        ]
        assert sum(len(backend.requests) for backend in plugin.backends) == 1
    with open_model("fake://a/m?host=b&idempotent=true") as model:
        plugin.backends[2].error = Unavailable("reset")
        assert {model.infer({"x": X}).backend_url for _ in range(50)} == {
            "fake://b/m?idempotent=true"
        }


@pytest.mark.parametrize(("idempotent", "share"), [("true", 7.5), ("false", 10)])
def test_a_replica_leaves_time_to_another_where_a_call_may_be_sent_again(
    plugin: Plugin, idempotent: str, share: float
) -> None:
    with open_model(f"fake://a/m?host=b&idempotent={idempotent}", timeout=10) as model:
        model(X)
    (given,) = [call.deadline for backend in plugin.backends for call in backend.requests]
    assert share - 1 < given.remaining() <= share


def test_when_nobody_can_be_reached_every_attempt_is_shown(plugin: Plugin) -> None:
    with pytest.raises(AllBackendsFailed) as caught:
        open_model("fake://down/m fake://down/n", timeout=5)
    assert [attempt.url for attempt in caught.value.attempts] == ["fake://down/m", "fake://down/n"]


def test_model_options_may_stand_in_one_of_several_urls(plugin: Plugin) -> None:
    with open_model("fake://h/m?timeout=3 fake://i/m") as model:
        model(X)
    assert plugin.backends[0].requests[0].deadline.remaining() <= 3


def test_a_batching_member_is_split_by_its_own_size(plugin: Plugin) -> None:
    plugin.max_batch_size = 2
    with open_model("fake://h/m") as model:
        assert model(np.zeros((5, 3))).shape == (5, 3)
        assert model(np.zeros((0, 3))).shape == (0, 3)
    assert len(plugin.backends[0].requests) == 3


def test_a_string_is_split_and_a_path_is_not(tmp_path: Path) -> None:
    with pytest.raises(InvalidURL, match="has no scheme"):
        open_model("my model.onnx")
    with pytest.raises(InvalidURL, match="white space"):
        open_model("fake://h/my model")
    with pytest.raises(infer_backends.InferError) as caught:
        open_model(tmp_path / "my model.onnx")
    assert not isinstance(caught.value, InvalidURL)
