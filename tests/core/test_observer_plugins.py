"""Which observers are installed, with real metadata in temporary site directories."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infer_backends import _observers
from infer_backends._entry_points import installed
from infer_backends._observer_plugins import GROUP, Observer, ObserverPlugins
from infer_backends._observers import open_observers
from infer_backends.plugin import Event
from tests.core.conftest import Install
from tests.core.test_observers import event

WORKING = """
from infer_backends.plugin import hookimpl

INFER_BACKENDS_API = 1
seen = []

@hookimpl
def infer_backends_event(event):
    seen.append(event)
"""


def plugins(site: Path, **environ: str) -> ObserverPlugins:
    return ObserverPlugins(lambda: installed(GROUP, [str(site)]), environ)


def test_listing_imports_nothing(site: Path, install: Install) -> None:
    install("good-observer", ["good"], "raise SystemExit('imported')", group=GROUP)
    (row,) = plugins(site).plugins()
    assert (row.name, row.distribution, row.version, row.disabled) == (
        "good",
        "good-observer",
        "1.0",
        False,
    )
    assert "good_observer" not in sys.modules


def test_an_installed_observer_is_told_what_happens(
    site: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("good-observer", ["good", "good-again"], WORKING, group=GROUP)
    monkeypatch.setattr(_observers, "INSTALLED", plugins(site))
    observers = open_observers()
    first: Event = event(1)
    observers.notify(first)
    observers.close(10)
    # Once, although two entry points name it.
    assert sys.modules["good_observer"].seen == [first]


def test_the_installed_distributions_of_this_process_are_asked(
    site: Path, install: Install
) -> None:
    install("good-observer", ["good"], WORKING, group=GROUP)
    assert site.exists()
    assert "good" in {row.name for row in ObserverPlugins().plugins()}


BROKEN = {
    "raise RuntimeError('half upgraded')": "failed to import: RuntimeError: half",
    "raise SystemExit(3)": "failed to import: SystemExit",
    "import no_such_package_anywhere": "needs the module 'no_such_package_anywhere'",
    "x = 1": "needs a line INFER_BACKENDS_API = 1",
    "INFER_BACKENDS_API = 7": "for version 7 of the plugin contract",
    "INFER_BACKENDS_API = 1": "has no infer_backends_event hook",
    WORKING.replace("_event", "_evnet"): "breaks the plugin contract: ",
    WORKING.replace("_event(event)", "_event(happening)"): "breaks the plugin contract: ",
    "def __getattr__(name): raise KeyError(name)": "raised KeyError",
}


@pytest.mark.parametrize("source", BROKEN)
def test_a_broken_observer_is_one_warning_and_stops_nobody(
    site: Path, install: Install, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    install("bad-observer", ["bad"], source, group=GROUP)
    install("good-observer", ["good"], WORKING, group=GROUP)
    found = plugins(site)
    assert [observer.name for observer in found.load()] == [
        "the plugin 'good' of good-observer 1.0"
    ]
    found.load()
    # What other threads may log has nothing to do with it.
    (record,) = [record for record in caplog.records if "observer" in record.message]
    assert (record.levelno, record.name) == (logging.WARNING, "infer_backends")
    assert "an observer is ignored: the plugin 'bad' of bad-observer 1.0" in record.message
    assert BROKEN[source] in record.message
    bad, good = found.plugins()
    assert BROKEN[source] in str(found.check(bad))
    assert isinstance(found.check(good), Observer)


@pytest.mark.parametrize("name", ["good", "good-observer", "Good_Observer", "good-observer:good"])
def test_a_disabled_observer_is_not_even_imported(site: Path, install: Install, name: str) -> None:
    install("good-observer", ["good"], WORKING, group=GROUP)
    found = plugins(site, INFER_BACKENDS_DISABLE=f"other,{name}")
    assert found.load() == []
    assert [row.disabled for row in found.plugins()] == [True]
    assert "good_observer" not in sys.modules


def test_observers_that_cannot_be_read_stop_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def no_file_left() -> Iterator[Any]:
        raise OSError(24, "Too many open files")

    assert ObserverPlugins(no_file_left, {}).load() == []
    assert "cannot be read: Too many open files" in caplog.text


def test_a_forked_child_can_look_observers_up(site: Path, install: Install) -> None:
    install("good-observer", ["good"], WORKING, group=GROUP)
    found = plugins(site)
    (row,) = found.plugins()
    # As left behind by a thread of the parent that is not there in the child.
    assert found._begin(row.claim)._begun.acquire(blocking=False)
    found.reset_in_child()
    assert len(found.load()) == 1


SLOW = (
    """
import time
import slow_observer_gate

slow_observer_gate.begun.set()
assert slow_observer_gate.opened.wait(60)
"""
    + WORKING
)


def test_one_that_is_not_imported_in_time_is_reported_and_joins_later(
    site: Path,
    install: Install,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = SimpleNamespace(begun=threading.Event(), opened=threading.Event())
    monkeypatch.setitem(sys.modules, "slow_observer_gate", gate)
    install("slow-observer", ["slow"], SLOW, group=GROUP)
    install("good-observer", ["good"], WORKING, group=GROUP)
    found = ObserverPlugins(lambda: installed(GROUP, [str(site)]), {}, patience=1.0)
    try:
        assert len(found.load()) == 1
        assert gate.begun.wait(60)
        assert "slow-observer 1.0 is still being imported" in caplog.text
        assert len(found.load()) == 1
        assert caplog.text.count("still being imported") == 1
    finally:
        gate.opened.set()
    found.check(found.plugins()[1])
    assert len(found.load()) == 2
