"""From a URL to a server."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import infer_backends as ib
from infer_backends._registry import REGISTRY
from infer_backends.plugin import (
    InvalidURL,
    ModelURL,
    OpenOptions,
    PluginError,
    ServerBackend,
    UnsupportedOperation,
    hookimpl,
)
from tests.core.server_fakes import FakeServer, Plugin


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


@pytest.fixture
def plugin(fake: FakeServer) -> Iterator[Plugin]:
    plugin = Plugin(fake)
    with REGISTRY.register("fake", plugin, owner="the fake"):
        yield plugin


def test_a_server_is_opened_by_its_url_and_nothing_is_sent(
    plugin: Plugin, fake: FakeServer
) -> None:
    with ib.open_server("fake://user:secret@h:1?token=t&timeout=3&coerce=never") as server:
        assert fake.calls == []
        ((url, options),) = plugin.opened
        assert (url.host, url.port, options["token"]) == ("h", 1, "t")
        assert options.headers["authorization"].startswith("Basic ")
        assert server.url == "fake://***@h:1"
        assert repr(server) == "<Server fake://***@h:1>"
        server.load("m")
        assert 2 < fake.deadlines[0].remaining() <= 3
    assert fake.closed == 1
    assert repr(server) == "<Server fake://***@h:1 (closed)>"


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("fake://h/m", {}, r"'fake://h/m' names a model.*write fake://h, and pass 'm' to load"),
        ("fake://u:pw@h/m", {}, r"write fake://\*\*\*@h, and"),
        ("fake://h?version=3", {}, "'version' is about a model"),
        ("fake://h fake://i", {}, "one server: open each of several by itself"),
        (["fake://h"], {}, "one server: open each of several by itself"),
        ("fake://h?host=i", {}, "host= names more servers"),
        ("fake://h", {"coerce": "never"}, "'coerce' is about a model"),
        ("fake://h", {"nonsense": 1}, "unknown option 'nonsense'"),
        (b"fake://h", {}, "not by bytes"),
        (None, {}, "not by NoneType"),
    ],
)
def test_what_names_no_server_is_refused(
    plugin: Plugin, url: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidURL, match=message) as caught:
        ib.open_server(url, **options)
    assert "pw" not in str(caught.value)
    assert plugin.opened == []


@pytest.mark.parametrize("url", ["bare://h", "bare:digits.bin"])
def test_a_scheme_without_servers_says_so(url: str) -> None:
    with ib.register_backend("bare", lambda url, options: None):  # type: ignore[arg-type,return-value]
        with pytest.raises(UnsupportedOperation, match="'bare' has no server to control"):
            ib.open_server(url)


def test_what_a_plugin_returns_has_to_be_a_server(plugin: Plugin) -> None:
    plugin.server = object()
    with pytest.raises(PluginError, match="returned object, which is no ServerBackend"):
        ib.open_server("fake://h")


def test_a_stranger_s_exception_in_the_hook_is_contained(plugin: Plugin) -> None:
    class Broken(Plugin):
        @hookimpl
        def infer_backends_server(self, url: ModelURL, options: OpenOptions) -> ServerBackend:
            raise OSError("with a secret")

    with REGISTRY.register("broken", Broken(None), owner="the broken one"):
        with pytest.raises(PluginError, match="infer_backends_server raised OSError") as caught:
            ib.open_server("broken://h")
    assert "secret" not in str(caught.value)


def test_a_server_pickles_by_its_url(plugin: Plugin, fake: FakeServer) -> None:
    copy = pickle.loads(pickle.dumps(ib.open_server("fake://h", timeout=3, token="t")))
    assert [(str(url), options["token"]) for url, options in plugin.opened] == [
        ("fake://h", "t")
    ] * 2
    copy.load("m")
    assert fake.deadlines[0].remaining() <= 3
