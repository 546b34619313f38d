"""``infer-backends plugins``: which schemes there are, and whether they work here."""

from __future__ import annotations

import json
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infer_backends._cli import _plugins
from infer_backends._observer_plugins import ObserverPlugins
from infer_backends._registry import Registry
from infer_backends.plugin import MissingDependency, hookimpl
from tests.cli.conftest import Invoke


class Plugin:
    INFER_BACKENDS_API = 1

    @hookimpl
    def infer_backends_open(self) -> Any: ...


class Lacking(Plugin):
    @hookimpl
    def infer_backends_check(self) -> None:
        raise MissingDependency("needs the package x: pip install x")


PLUGINS = SimpleNamespace(good=Plugin(), lacking=Lacking())


class Installed(Distribution):
    """A distribution that is installed nowhere."""

    def __init__(self, name: str) -> None:
        self._name = name

    def read_text(self, filename: str) -> str | None:
        return f"Metadata-Version: 2.1\nName: {self._name}\nVersion: 1.2\n"

    def locate_file(self, path: Any) -> Any:
        return Path(path)


def entry_point(scheme: str, value: str, distribution: str) -> EntryPoint:
    point = EntryPoint(scheme, value, "infer_backends")
    vars(point)["dist"] = Installed(distribution)
    return point


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """One plugin of every state."""
    points = [
        entry_point("good", f"{__name__}:PLUGINS.good", "good-one"),
        entry_point("lacking", f"{__name__}:PLUGINS.lacking", "lacking-one"),
        entry_point("broken", "no.such.module", "broken-one"),
        entry_point("broken.too", "no.such.module", "broken-one"),
        entry_point("off", f"{__name__}:PLUGINS.good", "off-one"),
        entry_point("twice", f"{__name__}:PLUGINS.good", "first"),
        entry_point("twice", f"{__name__}:PLUGINS.good", "second"),
    ]
    found = Registry(lambda: points, {"INFER_BACKENDS_DISABLE": "off-one"})
    found.register("here", Plugin(), owner="this test")
    monkeypatch.setattr(_plugins, "REGISTRY", found)
    return found


@pytest.mark.usefixtures("registry")
def test_every_scheme_is_listed_with_its_state(invoke: Invoke) -> None:
    result = invoke("plugins", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    states = [(row["scheme"], row["distribution"], row["version"], row["state"]) for row in rows]
    assert states == [
        ("broken", "broken-one", "1.2", "broken"),
        ("broken+too", "broken-one", "1.2", "broken"),
        ("good", "good-one", "1.2", "ready"),
        ("here", "", "", "ready"),
        ("lacking", "lacking-one", "1.2", "missing"),
        ("off", "off-one", "1.2", "disabled"),
        ("twice", "first", "1.2", "conflict"),
        ("twice", "second", "1.2", "conflict"),
    ]
    reasons = {row["scheme"]: row["reason"] for row in rows}
    assert "broken-one 1.2 is broken: No module named 'no'" in reasons["broken"]
    assert reasons["lacking"] == "needs the package x: pip install x"
    assert reasons["off"] == "by INFER_BACKENDS_DISABLE"
    assert "first and second" in reasons["twice"]
    assert reasons["good"] == ""


@pytest.mark.usefixtures("registry")
def test_the_table_gives_each_reason_once(invoke: Invoke) -> None:
    result = invoke("plugins")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert ["good", "good-one", "1.2", "ready"] in [line.split() for line in lines]
    assert ["here", "(this", "program)", "-", "ready"] in [line.split() for line in lines]
    assert sum("claimed by" in line for line in lines) == 1
    assert "lacking (missing): needs the package x: pip install x" in lines


def test_no_plugins_at_all_is_said(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plugins, "REGISTRY", Registry(lambda: (), {}))
    assert "pip install 'infer-backends[demo]'" in invoke("plugins").stdout


def test_fakes_alone_are_no_plugin_that_runs_models(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = entry_point("fake", f"{__name__}:PLUGINS.good", "infer-backends")
    monkeypatch.setattr(_plugins, "REGISTRY", Registry(lambda: [point], {}))
    shown = invoke("plugins").stdout
    assert ["fake", "infer-backends", "1.2", "ready"] in [
        line.split() for line in shown.splitlines()
    ]
    assert "pip install 'infer-backends[demo]'" in shown


def test_the_plugins_of_the_project_are_ready(invoke: Invoke) -> None:
    rows = json.loads(invoke("plugins", "--json").stdout)
    found = {row["scheme"]: row["state"] for row in rows}
    assert found.items() >= dict.fromkeys(("fake", "grpc", "http", "onnx"), "ready").items()


class Watching:
    INFER_BACKENDS_API = 1

    @hookimpl
    def infer_backends_event(self) -> None: ...


WATCHING = Watching()


@pytest.fixture
def observers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One observer of every state."""
    points = [
        entry_point("good", f"{__name__}:WATCHING", "good-one"),
        entry_point("broken", f"{__name__}:PLUGINS.good", "broken-one"),
        entry_point("off", "no.such.module", "off-one"),
    ]
    found = ObserverPlugins(lambda: points, {"INFER_BACKENDS_DISABLE": "off-one"})
    monkeypatch.setattr(_plugins, "INSTALLED", found)


@pytest.mark.usefixtures("registry", "observers")
def test_observers_are_listed_in_a_table_of_their_own(invoke: Invoke) -> None:
    rows = [row for row in json.loads(invoke("plugins", "--json").stdout) if row["observer"]]
    assert [(row["observer"], row["distribution"], row["state"]) for row in rows] == [
        ("broken", "broken-one", "broken"),
        ("good", "good-one", "ready"),
        ("off", "off-one", "disabled"),
    ]
    assert {row["scheme"] for row in rows} == {""}
    lines = [line.split() for line in invoke("plugins").stdout.splitlines()]
    heading = lines.index(["observer", "distribution", "version", "state"])
    assert lines.index(["scheme", "distribution", "version", "state"]) < heading
    assert ["good", "good-one", "1.2", "ready"] in lines[heading:]


@pytest.mark.usefixtures("registry")
def test_where_nobody_observes_there_is_no_table_of_observers(invoke: Invoke) -> None:
    assert "observer" not in invoke("plugins").stdout
