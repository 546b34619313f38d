"""A plugin that cannot be imported: whose fault it is, and what to do."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from infer_backends import MissingDependency, PluginError, _importing
from infer_backends._entry_points import installed
from infer_backends._registry import GROUP, Registry
from tests.plugins.conftest import ANSWER, WORKING, Install, outcomes, run

LIBRARY = "libfoo.so.1: cannot open shared object file: No such file or directory"
REPORT = "install another version of bad-plugin, or report this to its author"

FAULTS = {
    "raise RuntimeError('half upgraded')": ("RuntimeError: half upgraded", REPORT),
    "raise RuntimeError": ("failed to import: RuntimeError; ", REPORT),
    "raise RuntimeError('a\\nb\\x1b[31m' + 'c' * 9999)": ("RuntimeError: a b?[31mccc", "c...; "),
    "class Odd(Exception):\n def __str__(self): raise OSError\nraise Odd": (
        "Odd: (it cannot",
        REPORT,
    ),
    "class Panic(BaseException): pass\nraise Panic('in Rust')": ("Panic: in Rust", REPORT),
    "raise GeneratorExit": ("GeneratorExit", REPORT),
    "import sys\nsys.exit(3)": ("SystemExit: 3", "it would have ended this program"),
    "def f(): f()\nf()": ("RecursionError", REPORT),
    "from bad_plugin import later": ("partially initialized module", REPORT),
    "from infer_backends.plugin import NoSuchName": (
        "was made for another version of infer-backends than this",
        "pip install --upgrade infer-backends bad-plugin",
    ),
    "import infer_backends.plugins_of_tomorrow": (
        "was made for another version of infer-backends than this",
        "pip install --upgrade infer-backends bad-plugin",
    ),
    "import bad_plugin.inner": ("is broken", "pip install --force-reinstall bad-plugin"),
    f"raise OSError({LIBRARY!r})": (LIBRARY, "a shared library that it needs is missing"),
    f"raise ImportError({LIBRARY!r})": (LIBRARY, "a shared library that it needs is missing"),
    "raise ImportError('DLL load failed while importing x')": ("DLL", "a shared library"),
    "raise DeprecationWarning('old')": ("old", "warnings are errors in this process"),
    "from infer_backends import open_model\nopen_model('bad://h/m')": (
        "opens a URL of its own scheme while it is imported",
        REPORT,
    ),
    "syntax error": ("SyntaxError", REPORT),
}


def registry(site: Path) -> Registry:
    return Registry(lambda: installed(GROUP, [str(site)]), {})


@pytest.mark.parametrize("source", FAULTS)
def test_what_a_module_raises_says_whose_fault_it_is_and_what_to_do(
    site: Path, install: Install, source: str, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("bad-plugin", ["bad"], source)
    found = registry(site)
    monkeypatch.setattr("infer_backends._chosen.REGISTRY", found)
    with pytest.raises(PluginError) as caught:
        found.find("bad")
    message = str(caught.value)
    assert message.startswith("the plugin 'bad' of bad-plugin 1.0 ")
    for part in FAULTS[source]:
        assert part in message
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 700
    assert caught.value.__cause__ is not None
    found.find("good")


def test_a_package_that_is_missing_is_named(site: Path, install: Install) -> None:
    install("bad-plugin", ["bad"], "import no_such_package.inner")
    with pytest.raises(MissingDependency, match=r"needs the module 'no_such_package'") as caught:
        registry(site).find("bad")
    assert "pip install bad-plugin brings what it says that it needs" in str(caught.value)


def test_an_interruption_goes_through_and_the_next_one_may_try_again(
    site: Path, install: Install
) -> None:
    source = "import sys\nif not hasattr(sys, 'again'):\n sys.again = 1\n raise KeyboardInterrupt\n"
    install("bad-plugin", ["bad"], source + WORKING)
    found = registry(site)
    with pytest.raises(KeyboardInterrupt):
        found.find("bad")
    found.find("bad")


def test_a_warning_that_is_an_error_is_said_to_be_one(site: Path, install: Install) -> None:
    source = f"import warnings\nwarnings.warn('old', DeprecationWarning)\n{WORKING}"
    install("bad-plugin", ["bad"], source)
    # Warnings are errors in these tests.
    with pytest.raises(PluginError, match="DeprecationWarning: old; warnings are errors in this"):
        registry(site).find("bad")


STOPPED = """
import os, signal, sys
import infer_backends as ib

{handler}
signal.signal(signal.SIGTERM, {name})
ib.open_model("bad://h/m")
"""
HANDLERS = {
    "stop": "def stop(*_): sys.exit(7)",
    "Service().stop": "class Service:\n def stop(self, *_): sys.exit(7)",
    "partial(stop, 7)": "from functools import partial\ndef stop(code, *_): sys.exit(code)",
    "Stop()": "class Stop:\n def __call__(self, *_): sys.exit(7)",
}


@pytest.mark.skipif(os.name == "nt", reason="signals of other systems")
@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("where", ["import", "hook"])
def test_a_service_that_is_told_to_stop_stops(
    site: Path, install: Install, name: str, where: str
) -> None:
    kill = "os.kill(os.getpid(), signal.SIGTERM)"
    source = f"import os, signal\n{WORKING}"
    source += kill if where == "import" else ""
    if where == "hook":
        source = source.replace("return Doubling(url)", f"{kill}; return Doubling(url)")
    install("bad-plugin", ["bad"], source)
    ran = run(site, STOPPED.format(name=name, handler=HANDLERS[name]))
    assert ran.returncode == 7, ran.stderr


HANGING = """
import threading
import infer_backends as ib

threading.Thread(target=lambda: ib.open_model("bad://h/m"), daemon=True).start()
import hanging_gate
hanging_gate.begun.wait(60)
with ib.open_model("good://h/m") as model:
    print(model([[1, 2, 3]]).tolist())
"""
GATE = "import threading\nbegun = threading.Event()"


def test_one_that_hangs_holds_up_nobody_who_wants_another(
    site: Path, install: Install, good: str
) -> None:
    (site / "hanging_gate.py").write_text(GATE)
    install(
        "bad-plugin",
        ["bad"],
        "import hanging_gate, time\nhanging_gate.begun.set()\ntime.sleep(600)",
    )
    ran = run(site, HANGING)
    assert ran.stdout.strip() == ANSWER, ran.stderr


RESPONSIVE = """
import asyncio
import infer_backends as ib

async def main():
    opening = asyncio.ensure_future(ib.open_async_model("bad://h/m"))
    ticks = 0
    import hanging_gate
    while not hanging_gate.begun.is_set() or ticks < 5:
        await asyncio.sleep(0.01)
        ticks += 1
    async with await ib.open_async_model("good://h/m") as model:
        print((await model([[1, 2, 3]])).tolist())
    opening.cancel()
    try:
        await opening
    except asyncio.CancelledError:
        print("cancelled")

asyncio.run(main())
"""


@pytest.mark.parametrize("where", ["import", "hook"])
def test_an_event_loop_goes_on_while_one_hangs(
    site: Path, install: Install, good: str, where: str
) -> None:
    (site / "hanging_gate.py").write_text(GATE)
    hang = "hanging_gate.begun.set(); time.sleep(600)"
    source = f"import hanging_gate, time\n{WORKING}"
    source += hang if where == "import" else ""
    if where == "hook":
        source = source.replace("return Doubling(url)", hang)
    install("bad-plugin", ["bad"], source)
    ran = run(site, RESPONSIVE)
    assert ran.stdout.splitlines() == [ANSWER, "cancelled"], ran.stderr


IMPATIENT = """
import asyncio
import infer_backends as ib

async def main():
    try:
        await ib.open_async_model("bad://h/m", timeout=0.5)
    except ib.DeadlineExceeded as exc:
        print(exc)

asyncio.run(main())
"""


def test_an_event_loop_does_not_wait_longer_than_was_said(site: Path, install: Install) -> None:
    source = WORKING.replace("return Doubling(url)", "time.sleep(600)")
    install("bad-plugin", ["bad"], f"import time\n{source}")
    ran = run(site, IMPATIENT)
    assert "the deadline passed while bad://h/m (the plugin 'bad' of bad-plugin 1.0" in ran.stdout
    assert "by a plugin that did not mind it" in ran.stdout


def test_threads_that_come_at_once_get_the_same_plugin(site: Path, install: Install) -> None:
    install("good-plugin", ["good"], WORKING)
    found = registry(site)
    barrier = threading.Barrier(8)
    got = []

    def find() -> None:
        barrier.wait(30)
        got.append(found.find("good"))

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 8
    assert all(plugin is got[0] for plugin in got)


FORK = """
import os, sys, threading
import infer_backends as ib
import hanging_gate

threading.Thread(target=lambda: ib.open_model("bad://h/m"), daemon=True).start()
hanging_gate.begun.wait(60)
child = os.fork()
if child == 0:
    with ib.open_model("good://h/m") as model:
        os._exit(0 if model([[1, 2, 3]]).tolist() == [[2, 4, 6]] else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_while_one_is_imported_opens_others(
    site: Path, install: Install, good: str
) -> None:
    (site / "hanging_gate.py").write_text(GATE)
    install(
        "bad-plugin",
        ["bad"],
        "import hanging_gate, time\nhanging_gate.begun.set()\ntime.sleep(600)",
    )
    ran = run(site, FORK)
    assert ran.stdout.strip() == "0", ran.stderr


def test_one_that_takes_long_is_told_of_in_the_log(
    site: Path, install: Install, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_importing, "SLOW", -1.0)
    install("bad-plugin", ["bad"], WORKING)
    found = registry(site)
    assert found.find("bad").seconds >= 0
    found.find("bad")
    (record,) = [record for record in caplog.records if record.name == "infer_backends"]
    assert record.levelno == logging.WARNING
    assert "importing the plugin 'bad' of bad-plugin 1.0 took 0.0 s" in record.message


def test_in_a_list_of_urls_a_broken_plugin_is_an_error_wherever_it_stands(
    site: Path, install: Install, good: str
) -> None:
    # Not an outage, which a fallback is for: it would last until somebody needs the fallback.
    install("bad-plugin", ["bad"], "raise RuntimeError('half upgraded')")
    found = outcomes(site, f"{good} bad://h/m", f"bad://h/m {good}", good)
    assert found[0] == found[1]
    assert found[0].startswith("PluginError: the plugin 'bad' of bad-plugin 1.0 failed to import")
    assert found[2] == ANSWER
