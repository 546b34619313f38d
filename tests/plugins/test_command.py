"""The command, where plugins misbehave: it lists them all, and its output stays what it was."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from infer_backends._cli import _examination
from tests.plugins.conftest import BACKEND, WORKING, Install, command, run

LOUD = "import os\nprint('hello')\nos.write(1, b'from C')\n"
REPORT = "install another version of bad-plugin, or report this to its author"
PANIC = "class Panic(BaseException): pass\nraise Panic"
CRASH = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"


def rows(site: Path, **variables: str) -> dict[str, dict[str, Any]]:
    """What ``plugins --json`` has of schemes and observers, by name."""
    ran = command(site, "plugins", "--json", **variables)
    assert ran.returncode == 0, ran.stderr
    return {
        row["scheme"] or row["observer"] or row["distribution"]: row
        for row in json.loads(ran.stdout)
    }


BROKEN = {
    "import os, sys\nos._exit(5)": "cannot be used: it ended its process, with exit code 5; ",
    "raise RuntimeError('half upgraded')": "failed to import: RuntimeError: half upgraded",
    "raise SystemExit(3)": "it would have ended this program",
    "raise KeyboardInterrupt": "it ended its process, with exit code 130; ",
    "import os\nos._exit(5)": "cannot be used: it ended its process, with exit code 5; " + REPORT,
    PANIC: "failed to import: Panic",
    BACKEND: "has no infer_backends_open hook",
    WORKING + "@hookimpl\ndef infer_backends_check(): raise SystemExit": "check raised SystemExit",
    WORKING + "@hookimpl\ndef infer_backends_options(): return 3": "options returned int; a plugin",
    WORKING.replace("API = 1", "API = 2"): "update infer-backends",
}
if os.name != "nt":
    BROKEN[CRASH] = f"cannot be used: it crashed its process (SIGSEGV); {REPORT}"


def test_every_plugin_is_listed_whatever_some_of_them_do(
    site: Path, install: Install, good: str
) -> None:
    for number, source in enumerate(BROKEN):
        # The first and the last, too, are among those that end their process.
        install(f"bad-plugin{number}", [f"bad{number}", f"triton.bad{number}"], source)
    found = rows(site)
    for number, message in enumerate(BROKEN.values()):
        for scheme in (f"bad{number}", f"triton+bad{number}"):
            assert found[scheme]["state"] == "broken"
            assert message in found[scheme]["reason"].replace(f"plugin{number}", "plugin")
            assert f"bad-plugin{number} 1.0" in found[scheme]["reason"]
    assert found["good"]["state"] == found["onnx"]["state"] == "ready"


def test_what_is_known_of_a_plugin_is_in_the_list(site: Path, install: Install, good: str) -> None:
    source = f"{LOUD}os.chdir('/')\nimport logging, time\nlogging.disable(50)\ntime.sleep(1.1)\n"
    install("bad-plugin", ["bad"], source + WORKING)
    found = rows(site)
    bad, fine = found["bad"], found["good"]
    assert (bad["state"], bad["api_version"], bad["module"]) == ("ready", 1, "bad_plugin")
    assert bad["folder"] == str(site)
    assert bad["import_seconds"] > 1
    assert bad["remarks"][0].endswith(" s to be imported")
    assert bad["remarks"][1:] == [
        "prints when it is imported",
        "changes the current folder when it is imported",
        "configures logging when it is imported",
    ]
    # A machine that is busy may take long for any of them.
    assert [text for text in fine["remarks"] if not text.startswith("takes ")] == []
    shown = command(site, "plugins", "--verbose").stdout
    assert f"bad (ready): bad-plugin {bad['remarks'][1]}" in shown
    assert f"good (ready): good_plugin in {site}, contract 1, imported in " in shown


def test_one_that_hangs_is_given_up(
    site: Path, install: Install, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("bad-plugin", ["bad", "triton.bad"], "import time\ntime.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    began = time.monotonic()
    found = {row.name: row for row in _examination.examine(patience=8.0).rows}
    assert found["good"].state == found["onnx"].state == "ready"
    for scheme in ("bad", "triton+bad"):
        assert found[scheme].state == "broken"
        assert "it was not imported and checked within 8 s: does it hang?" in found[scheme].reason
    # Its second scheme was not waited for.
    assert time.monotonic() - began < 60


def test_a_process_that_cannot_even_begin_is_a_failure(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "sitecustomize.py").write_text("import os\nos._exit(9)")
    monkeypatch.setenv("PYTHONPATH", str(site))
    with pytest.raises(
        Exception, match="cannot be examined: it ended its process, with exit code 9"
    ):
        _examination.examine()


def test_observers_are_looked_at_the_same_way(site: Path, install: Install) -> None:
    group = "infer_backends.observers"
    install("bad-observer", ["watch"], "import os\nos._exit(3)", group=group)
    watching = "from infer_backends.plugin import hookimpl\nINFER_BACKENDS_API = 1\n"
    watching += "@hookimpl\ndef infer_backends_event(event): ...\n"
    install("good-observer", ["look"], watching, group=group)
    install("odd-observer", ["stare"], watching.replace("(event)", "(*events)"), group=group)
    found = rows(site)
    assert found["watch"]["state"] == found["stare"]["state"] == "broken"
    assert "bad-observer 1.0 cannot be used: it ended its process" in found["watch"]["reason"]
    assert "infer_backends_event takes *events" in found["stare"]["reason"]
    assert (found["look"]["state"], found["look"]["api_version"]) == ("ready", 1)


def test_damaged_distributions_are_listed(site: Path, install: Install, good: str) -> None:
    install("bad-plugin", ["bad"], WORKING)
    (site / "bad_plugin-1.0.dist-info/METADATA").unlink()
    install("old-plugin", ["old"], WORKING)
    install("old-plugin", ["old"], WORKING, version="2.0")
    found = rows(site)
    assert found["bad"]["state"] == found["old"]["state"] == "ready"
    assert found["bad_plugin"]["state"] == "broken"
    assert "its METADATA is missing, or cannot be read" in found["bad_plugin"]["reason"]
    assert "in several versions, 1.0 and 2.0" in found["old-plugin"]["reason"]
    assert "bad_plugin (broken): bad_plugin 1.0 is damaged" in command(site, "plugins").stdout


@pytest.mark.parametrize(
    ("disabled", "states"),
    [
        ("bad", "disabled disabled"),
        ("bad-plugin", "disabled ready"),
        ("Bad_Plugin", "disabled ready"),
        ("bad.plugin:bad", "disabled ready"),
        ("other-plugin bad-plugin", "disabled disabled"),
        ("other-plugin,", "ready disabled"),
        ("", "conflict conflict"),
        ("bad-plugin:", "conflict conflict"),
    ],
)
def test_a_conflict_is_settled_by_every_spelling(
    site: Path, install: Install, disabled: str, states: str
) -> None:
    install("bad-plugin", ["bad"], WORKING)
    install("other-plugin", ["bad"], WORKING)
    ran = command(site, "plugins", "--json", INFER_BACKENDS_DISABLE=disabled)
    found = [row["state"] for row in json.loads(ran.stdout) if row["scheme"] == "bad"]
    assert " ".join(found) == states
    if disabled == "bad-plugin:":
        assert "INFER_BACKENDS_DISABLE names 'bad-plugin:', which is no plugin that" in ran.stderr
    else:
        assert ran.stderr == ""


@pytest.mark.parametrize("when", ["import", "open", "infer", "close"])
def test_what_a_plugin_prints_is_not_in_the_output(site: Path, install: Install, when: str) -> None:
    loud = LOUD.replace("\n", "; ")
    source = WORKING
    if when == "open":
        source = source.replace("return Doubling(url)", f"{loud}return Doubling(url)")
    elif when == "infer":
        source = source.replace("return InferResponse", f"{loud}return InferResponse")
    elif when == "close":
        source = source.replace("        pass", f"        {loud}")
    install("bad-plugin", ["bad"], f"{LOUD}{source}" if when == "import" else source)
    ran = command(site, "run", "bad://h/m", "--input", "[[1,2,3]]", "--output", "-")
    assert json.loads(ran.stdout) == {"y": [[2, 4, 6]]}
    assert "hello" in ran.stderr
    assert "from C" in ran.stderr
    inspected = command(site, "inspect", "bad://h/m", "--json")
    assert json.loads(inspected.stdout)["name"] == "m"
    checked = command(site, "check", "bad://h/m", "--json")
    assert json.loads(checked.stdout)["agreed"] is True


@pytest.mark.parametrize("arguments", [["run"], ["inspect"], ["check"]])
def test_a_broken_plugin_is_one_line_on_standard_error(
    site: Path, install: Install, arguments: list[str]
) -> None:
    install("bad-plugin", ["bad"], "raise SystemExit(0)")
    ran = command(site, *arguments, "bad://h/m")
    assert ran.returncode == 1
    said = ran.stdout if arguments == ["check"] else ran.stderr
    assert "the plugin 'bad' of bad-plugin 1.0 failed to import: SystemExit: 0; it would" in said
    assert "Traceback" not in ran.stderr


def test_a_closed_standard_output_is_no_trouble(site: Path, install: Install) -> None:
    install("bad-plugin", ["bad"], LOUD.replace("os.write(1, b'from C')", "") + WORKING)
    program = "import os; os.close(1); import sys; sys.stdout = None\n"
    program += "from infer_backends._cli import main; main()"
    ran = run(site, program, "run", "bad://h/m", "--input", "[[1,2,3]]")
    assert ran.returncode == 0, ran.stderr
