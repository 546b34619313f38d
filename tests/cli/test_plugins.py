"""``infer-backends plugins``: how what was found is shown. ``tests/plugins`` has what is found."""

from __future__ import annotations

import json

import pytest

from infer_backends._cli import _plugins
from infer_backends._cli._examination import Found, Row
from infer_backends._installation import Damage
from tests.cli.conftest import Invoke

CONFLICT = "the scheme 'twice' is claimed by first 1.2 and second 1.2: uninstall one"
TWICE = "/site has damaged-one in several versions, 1.2 and 1.3"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    """One plugin of every state."""
    rows = [
        Row("broken", "broken-one", "1.2", "broken", "No module named 'no'"),
        Row("broken+too", "broken-one", "1.2", "broken", "No module named 'no'"),
        Row("good", "good-one", "1.2", api_version=1, import_seconds=0.0123, module="good_module"),
        Row("lacking", "lacking-one", "1.2", "missing", "needs the package x: pip install x"),
        Row(
            "loud",
            "loud-one",
            "",
            remarks=("prints when it is imported",),
            module="loud_module",
            folder="/site",
        ),
        Row("off", "off-one", "1.2", "disabled", "by INFER_BACKENDS_DISABLE"),
        Row("twice", "first", "1.2", "conflict", CONFLICT),
        Row("twice", "second", "1.2", "conflict", CONFLICT),
    ]
    damage = Damage("damaged-one", "1.2", "/site", TWICE)
    result = Found(rows, [damage], ["typo"])
    monkeypatch.setattr(_plugins, "examine", lambda: result)
    return result


@pytest.mark.usefixtures("found")
def test_every_scheme_is_listed_with_its_state(invoke: Invoke) -> None:
    result = invoke("plugins", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    states = [(row["scheme"], row["distribution"], row["version"], row["state"]) for row in rows]
    assert states == [
        ("broken", "broken-one", "1.2", "broken"),
        ("broken+too", "broken-one", "1.2", "broken"),
        ("good", "good-one", "1.2", "ready"),
        ("lacking", "lacking-one", "1.2", "missing"),
        ("loud", "loud-one", "", "ready"),
        ("off", "off-one", "1.2", "disabled"),
        ("twice", "first", "1.2", "conflict"),
        ("twice", "second", "1.2", "conflict"),
        ("", "damaged-one", "1.2", "broken"),
    ]
    assert rows[2] == {
        "scheme": "good",
        "distribution": "good-one",
        "version": "1.2",
        "state": "ready",
        "reason": "",
        "observer": "",
        "module": "good_module",
        "folder": "",
        "api_version": 1,
        "import_seconds": 0.0123,
        "remarks": [],
    }
    assert rows[4]["remarks"] == ["prints when it is imported"]
    assert rows[-1]["reason"] == f"damaged-one 1.2 is damaged: {TWICE}"
    assert "INFER_BACKENDS_DISABLE names 'typo', which is no plugin" in result.stderr


@pytest.mark.usefixtures("found")
def test_the_table_gives_each_reason_once(invoke: Invoke) -> None:
    result = invoke("plugins")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert ["good", "good-one", "1.2", "ready"] in [line.split() for line in lines]
    assert ["loud", "loud-one", "-", "ready"] in [line.split() for line in lines]
    assert sum("claimed by" in line for line in lines) == 1
    assert "broken, broken+too (broken): No module named 'no'" in lines
    assert "lacking (missing): needs the package x: pip install x" in lines
    assert "loud (ready): loud-one prints when it is imported" in lines
    assert f"damaged-one (broken): damaged-one 1.2 is damaged: {TWICE}" in lines


@pytest.mark.usefixtures("found")
def test_verbose_shows_where_each_comes_from(invoke: Invoke) -> None:
    lines = invoke("plugins", "--verbose").stdout.splitlines()
    assert "good (ready): good_module, contract 1, imported in 12 ms" in lines
    assert "loud (ready): loud_module in /site" in lines


def test_no_plugins_at_all_is_said(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plugins, "examine", lambda: Found([], [], []))
    assert "pip install 'infer-backends[demo]'" in invoke("plugins").stdout


def test_fakes_alone_are_no_plugin_that_runs_models(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Found([Row("fake", "infer-backends", "1.2")], [], [])
    monkeypatch.setattr(_plugins, "examine", lambda: fake)
    shown = invoke("plugins").stdout
    assert ["fake", "infer-backends", "1.2", "ready"] in [
        line.split() for line in shown.splitlines()
    ]
    assert "pip install 'infer-backends[demo]'" in shown


def test_the_plugins_of_the_project_are_ready(invoke: Invoke) -> None:
    rows = json.loads(invoke("plugins", "--json").stdout)
    found = {row["scheme"]: row["state"] for row in rows}
    assert found.items() >= dict.fromkeys(("fake", "grpc", "http", "onnx"), "ready").items()
    # A machine that is busy may take long for any of them.
    assert {
        text for row in rows for text in row["remarks"] if not text.startswith("takes")
    } == set()


def test_observers_are_listed_in_a_table_of_their_own(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        Row("scheme", "good-one", "1.2"),
        Row("", "good-one", "1.2", observer="watch"),
        Row("", "bad-one", "1.2", "broken", "it hangs", observer="stare"),
    ]
    monkeypatch.setattr(_plugins, "examine", lambda: Found(rows, [], []))
    lines = [line.split() for line in invoke("plugins").stdout.splitlines()]
    heading = lines.index(["observer", "distribution", "version", "state"])
    assert lines.index(["scheme", "distribution", "version", "state"]) < heading
    assert ["watch", "good-one", "1.2", "ready"] in lines[heading:]
    assert ["stare", "(broken):", "it", "hangs"] in lines[heading:]


@pytest.mark.usefixtures("found")
def test_where_nobody_observes_there_is_no_table_of_observers(invoke: Invoke) -> None:
    assert "observer" not in invoke("plugins").stdout
