"""The command as a program: what it needs, its exit codes, and how it ends."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infer_backends import Unavailable, _cli
from infer_backends._cli import _failures, _inspect
from infer_backends._cli._demo._digits import MODEL_PATH
from infer_backends._version import __version__
from tests.cli.conftest import PROGRAM, Invoke, start

_WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from infer_backends._cli import main
main()
"""


@pytest.mark.parametrize("package", ["click", "rich"])
def test_without_its_packages_the_command_says_which_extra_to_install(package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(package=package)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"error: the infer-backends command needs the package {package}: "
        "pip install 'infer-backends[cli]'\n"
    )


def test_importing_the_command_imports_neither_click_nor_rich() -> None:
    code = (
        "import sys, infer_backends._cli as c; assert c.main; "
        "sys.exit(bool({'click', 'rich'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_main_runs_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["infer-backends", "--version"])
    with pytest.raises(SystemExit) as caught:
        _cli.main()
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"infer-backends, version {__version__}\n"


def test_without_arguments_the_commands_are_listed(invoke: Invoke) -> None:
    result = invoke()
    assert result.exit_code == 0
    for name in ("check", "demo", "inspect", "plugins", "run", "serve"):
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["bogus"], 2, "No such command 'bogus' (see 'infer-backends --help')"),
        (["inspect"], 2, "Missing argument 'URL' (see 'infer-backends inspect --help')"),
        (["inspect", "--bogus", "x"], 2, "No such option"),
        (["inspect", "http://h:0/m"], 2, "the port in"),
        (["inspect", "bogus:x"], 2, "no installed plugin serves the scheme 'bogus'"),
        (["inspect", "http://127.0.0.1:9/m", "--timeout", "5"], 1, "connection refused"),
        (["inspect", "/nowhere/m.onnx"], 1, "/nowhere/m.onnx"),
        (["inspect", "x", "--timeout", "0"], 2, "--timeout"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    invoke: Invoke, arguments: list[str], code: int, message: str
) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--traceback", "inspect", "/nowhere/m.onnx"),
        ("inspect", "/nowhere/m.onnx", "--traceback"),
    ],
)
def test_traceback_shows_where_an_error_came_from(
    invoke: Invoke, arguments: tuple[str, ...]
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_no_error_shows_a_password(invoke: Invoke) -> None:
    result = invoke("--traceback", "inspect", "http://user:hunter2@127.0.0.1:9/m?timeout=5")
    assert result.exit_code == 1
    assert "hunter2" not in result.output


def test_the_text_of_an_unexpected_exception_is_not_shown(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("hunter2")

    monkeypatch.setattr(_inspect, "open_from_terminal", fail)
    result = invoke("inspect", "http://h/m")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: unexpected KeyError, a bug; the option --traceback shows where\n"
    )


def test_an_error_of_many_lines_shows_its_first(capsys: pytest.CaptureFixture[str]) -> None:
    code = _failures.report(_failures.Failure("one\ntwo\x1b[31m"), _failures.Settings())
    assert code == 1
    assert capsys.readouterr().err == "error: one (the option --traceback shows the rest)\n"


def test_a_reader_that_goes_away_ends_the_command_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from infer_backends._cli import main; main()",
             "inspect", "--json", str(MODEL_PATH)],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_reader_that_goes_away_is_no_error_of_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "stdout").open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert _failures.report(BrokenPipeError(32, "Broken pipe"), _failures.Settings()) == 1
        stdout.write("lost")
    assert (tmp_path / "stdout").read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == "error: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="closes file descriptors as a POSIX shell does")
@pytest.mark.parametrize("closed", [1, 2])
def test_a_stream_that_the_shell_closed_is_no_error(closed: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *PROGRAM, "plugins"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_ctrl_c_ends_a_call_that_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        running = start("inspect", f"http://127.0.0.1:{silent.getsockname()[1]}/m")
        connection, _ = silent.accept()
        with connection:
            running.send_signal(signal.SIGINT)
            stdout, stderr = running.communicate(timeout=30)
    assert (running.returncode, stdout, stderr.strip()) == (130, "", "")


def test_names_that_the_terminal_cannot_show_are_escaped(tmp_path: Path) -> None:
    running = start("inspect", tmp_path / "m\N{SNOWMAN}.onnx", PYTHONIOENCODING="ascii")
    _, stderr = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "Traceback" not in stderr


def test_warnings_of_the_library_are_lines_on_standard_error(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_: object) -> None:
        logging.getLogger("infer_backends").warning("%s differs\x1b[31m\nmuch", "a member")
        raise Unavailable("gone")

    monkeypatch.setattr(_inspect, "open_from_terminal", warn)
    result = invoke("inspect", "http://h/m")
    assert result.stderr == "warning: a member differs [31m much\nerror: gone\n"
