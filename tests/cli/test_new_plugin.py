"""``infer-backends new-plugin``: names, refusals, and a folder that is whole or not there."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest

from infer_backends._cli import _new_plugin
from infer_backends._cli._new_plugin._names import BadName, make_names, parse_author
from infer_backends._entry_points import Claim
from infer_backends._registry import Registry
from infer_backends._version import __version__
from tests.cli.conftest import Invoke


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of these tests, where plugins are written."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "stem"),
    [
        ("foo", "foo"),
        ("infer-backends-foo", "foo"),
        ("infer_backends_foo", "foo"),
        ("Infer.Backends.Foo", "foo"),
        ("Foo Bar", "foo-bar"),
        ("foo_bar", "foo-bar"),
        ("foo--.bar", "foo-bar"),
        (" foo ", "foo"),
        ("v8", "v8"),
        # What Python, or its library, has a word for: the package's name begins otherwise.
        ("class", "class"),
        ("json", "json"),
        ("a" * 30, "a" * 30),
    ],
)
def test_a_name_is_taken_in_any_spelling(given: str, stem: str) -> None:
    names = make_names(given)
    assert names.distribution == f"infer-backends-{stem}"
    assert names.package == f"infer_backends_{stem.replace('-', '_')}"
    assert names.package.isidentifier()
    assert names.scheme == stem


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "no name for a plugin"),
        ("-", "no name for a plugin"),
        ("foo-", "no name for a plugin"),
        ("infer-backends", "the name of the library"),
        ("Infer_Backends", "the name of the library"),
        ("naïve", "ASCII letters and digits"),
        ("foo/bar", "no name for a plugin"),
        ("../foo", "no name for a plugin"),
        ("foo[bar]", "no name for a plugin"),
        ("foo\0", "no name for a plugin"),
        ("a" * 31, "at most 30"),
        ("3d", "no scheme for URLs: give one with --scheme"),
        ("x", "no scheme for URLs: give one with --scheme"),
        ("localhost", "the name of a host"),
    ],
)
def test_a_name_that_cannot_be_is_refused(given: str, message: str) -> None:
    with pytest.raises(BadName, match=message):
        make_names(given)


@pytest.mark.parametrize("scheme", ["ab", "foo+bar", "foo-2", "a+"])
def test_a_scheme_can_be_chosen(scheme: str) -> None:
    names = make_names("3d", scheme)
    assert (names.distribution, names.scheme) == ("infer-backends-3d", scheme)
    assert names.entry_point == scheme.replace("+", ".")


@pytest.mark.parametrize(
    "scheme", ["", "a", "Foo", "foo:", "foo.bar", "foo_bar", "2d", "+a", "é2", "a" * 31, "ab\n"]
)
def test_a_scheme_that_no_url_has_is_refused(scheme: str) -> None:
    with pytest.raises(BadName, match="no scheme for URLs; expected"):
        make_names("foo", scheme)


@pytest.mark.parametrize(
    ("text", "author"),
    [
        ("Ada Lovelace", {"name": "Ada Lovelace"}),
        ("Ada <ada@example.org>", {"name": "Ada", "email": "ada@example.org"}),
        ("<ada@example.org>", {"email": "ada@example.org"}),
        ('Ada "the \\ first"', {"name": 'Ada "the \\ first"'}),
    ],
)
def test_an_author_has_a_name_or_an_address(text: str, author: dict[str, str]) -> None:
    assert parse_author(text) == author


@pytest.mark.parametrize("text", ["", " ", "A, B", "Ada <ada>", "a@b.org", "Ada\nLovelace"])
def test_an_author_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(BadName, match="--author"):
        parse_author(text)


#: What the package of each kind has beside ``plugin.py``, and the examples.
OWN = {
    "in-process": {"_backend.py", "_errors.py", "_runtime.py", "examples/double.py"},
    "server": {
        "_backend.py",
        "_client.py",
        "_connections.py",
        "_protocol.py",
        "_server.py",
        "examples/server.py",
    },
}
every_kind = pytest.mark.parametrize("kind", OWN)


@every_kind
def test_a_distribution_is_written(invoke: Invoke, folder: Path, kind: str) -> None:
    result = invoke("new-plugin", "Foo Bar", "--kind", kind)
    assert (result.exit_code, result.stderr) == (0, "")
    written = folder / "infer-backends-foo-bar"
    assert list(folder.iterdir()) == [written]
    assert {path.relative_to(written).as_posix() for path in written.rglob("*.*")} == {
        ".gitignore",
        "README.md",
        *(name if "/" in name else f"infer_backends_foo_bar/{name}" for name in OWN[kind]),
        "infer_backends_foo_bar/__init__.py",
        "infer_backends_foo_bar/plugin.py",
        "infer_backends_foo_bar/py.typed",
        "pyproject.toml",
        "tests/conftest.py",
        "tests/test_contract.py",
        "tests/test_plugin.py",
    }
    for path in written.rglob("*.py"):
        compile(path.read_text(), path, "exec")
    assert not [path for path in written.rglob("*.*") if "${" in path.read_text()]


def test_what_to_do_next_is_said_in_commands_for_a_shell(invoke: Invoke, folder: Path) -> None:
    (folder / "my plugins").mkdir()
    result = invoke("new-plugin", "foo", "--folder", "my plugins/foo")
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0].startswith("infer-backends-foo is in my plugins/foo")
    for command in (
        "python -m pip install -e 'my plugins/foo[testing]'",
        "python -m pytest 'my plugins/foo'",
        "infer-backends run 'foo:my plugins/foo/examples/double.py' --input 'x=[[1, 2, 3]]'",
        "grep -rn YOURS: 'my plugins/foo'",
    ):
        assert command in lines
    assert (folder / "my plugins/foo/examples/double.py").is_file()


def test_of_a_client_the_server_is_started_before_its_url_is_tried(invoke: Invoke) -> None:
    steps = json.loads(invoke("new-plugin", "foo", "--kind", "server", "--json").stdout)["next"]
    assert steps[2:] == [
        "python infer-backends-foo/examples/server.py &",
        "infer-backends run foo://localhost:9000/double --input 'x=[[1, 2, 3]]'",
    ]


def test_json_has_all_names_and_steps(invoke: Invoke, folder: Path) -> None:
    result = invoke("new-plugin", "foo", "--scheme", "foo+bar", "--json")
    found = json.loads(result.stdout)
    assert found["distribution"] == found["folder"] == "infer-backends-foo"
    assert (found["package"], found["scheme"]) == ("infer_backends_foo", "foo+bar")
    assert all((folder / found["folder"] / path).is_file() for path in found["files"])
    assert found["next"][2].startswith("infer-backends run foo+bar:infer-backends-foo/")


def test_the_project_says_what_was_asked_for(invoke: Invoke, folder: Path) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    author, description = 'Ada "A" \\ é <ada@example.org>', 'Models of "Foo" \\ $name, on 🦜.'
    invoke("new-plugin", "foo", "--scheme", "fo+o", "--author", author,
           "--description", description)  # fmt: skip
    project = tomllib.loads((folder / "infer-backends-foo/pyproject.toml").read_text())["project"]
    assert project["authors"] == [{"name": 'Ada "A" \\ é', "email": "ada@example.org"}]
    assert project["description"] == description
    assert project["entry-points"] == {"infer_backends": {"fo.o": "infer_backends_foo.plugin"}}
    assert f"infer-backends>={__version__}" in project["dependencies"]
    # Nothing is decided for the author, and a stand-in is not published by accident.
    assert "license" not in project
    assert "Private :: Do Not Upload" in project["classifiers"]
    assert description in (folder / "infer-backends-foo/README.md").read_text()


@every_kind
def test_every_file_with_a_place_for_the_author_is_in_the_list_of_the_readme(
    invoke: Invoke, folder: Path, kind: str
) -> None:
    invoke("new-plugin", "foo", "--kind", kind)
    written = folder / "infer-backends-foo"
    steps = re.findall(r"^\d\. (.*)", (written / "README.md").read_text(), re.MULTILINE)
    listed = {name for step in steps for name in re.findall(r"`([^`]+\.\w+)`", step)}
    marked = {
        path.relative_to(written).as_posix()
        for path in written.rglob("*.*")
        if path.name != "README.md" and "YOURS:" in path.read_text()
    }
    assert marked == {name for name in listed if (written / name).exists()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["naïve"], "'naïve' is no name for a plugin"),
        (["triton"], "the name infer-backends-triton is taken: it comes with infer-backends"),
        (["onnxruntime", "--scheme", "ort"], "the name infer-backends-onnxruntime is taken"),
        (["http"], "the scheme 'http' is taken by infer-backends-triton: choose another"),
        (["foo", "--scheme", "onnx"], "the scheme 'onnx' is taken by infer-backends-onnxruntime"),
        (["foo", "--author", "A, B"], "--author 'A, B'"),
        (["foo", "--description", "two\nlines"], "expected one line"),
        (["foo", "--folder", "gone/foo"], "'gone' is no folder: make it first"),
        (["foo", "--folder", "."], "'.' is the working directory"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_line_and_writes_nothing(
    invoke: Invoke, folder: Path, arguments: list[str], message: str
) -> None:
    result = invoke("new-plugin", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert list(folder.iterdir()) == []


def test_a_scheme_of_an_installed_plugin_is_taken(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [Claim("good", "no.such:plugin", "Good.One")]
    monkeypatch.setattr(_new_plugin, "REGISTRY", Registry(lambda: points, {}))
    result = invoke("new-plugin", "good")
    assert result.exit_code == 2
    assert "the scheme 'good' is taken by good-one" in result.stderr


def test_a_package_that_is_installed_is_not_shadowed(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "infer_backends_mine").mkdir()
    (folder / "infer_backends_mine/__init__.py").touch()
    monkeypatch.syspath_prepend(folder)
    result = invoke("new-plugin", "mine")
    assert result.exit_code == 2
    assert "a package infer_backends_mine is installed here" in result.stderr


def test_nothing_is_written_over(invoke: Invoke, folder: Path) -> None:
    assert invoke("new-plugin", "foo").exit_code == 0
    mine = folder / "infer-backends-foo/infer_backends_foo/plugin.py"
    mine.write_text("mine")
    result = invoke("new-plugin", "foo")
    assert result.exit_code == 2
    assert "'infer-backends-foo' exists, and is not empty" in result.stderr
    assert mine.read_text() == "mine"


def test_neither_a_file_nor_a_link_is_written_over(invoke: Invoke, folder: Path) -> None:
    (folder / "file").write_text("mine")
    (folder / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        result = invoke("new-plugin", "foo", "--folder", name)
        assert result.exit_code == 2
        assert f"{name!r} exists, and is no folder" in result.stderr
    assert (folder / "file").read_text() == "mine"
    assert sorted(folder.iterdir()) == [folder / "file", folder / "link"]


def test_an_empty_folder_is_filled(invoke: Invoke, folder: Path) -> None:
    (folder / "empty").mkdir()
    assert invoke("new-plugin", "foo", "--folder", "empty").exit_code == 0
    assert (folder / "empty/pyproject.toml").is_file()
    assert list(folder.iterdir()) == [folder / "empty"]


@pytest.mark.skipif(os.name == "nt", reason="this system has other permissions")
def test_what_is_written_has_the_permissions_of_any_new_folder(
    invoke: Invoke, folder: Path
) -> None:
    (folder / "usual").mkdir()
    invoke("new-plugin", "foo")
    mode = stat.S_IMODE((folder / "infer-backends-foo").stat().st_mode)
    assert mode == stat.S_IMODE((folder / "usual").stat().st_mode)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_cannot_be_written_whole_is_not_written(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    write = Path.write_text

    def fail_late(path: Path, text: str, **options: str) -> int:
        if path.name == "test_plugin.py":
            raise error
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", fail_late)
    result = invoke("new-plugin", "foo")
    assert list(folder.iterdir()) == []
    if isinstance(error, OSError):
        assert result.exit_code == 1
        assert "infer-backends-foo' was not written: No space left on device" in result.stderr
    else:
        assert result.exit_code == 130


def test_what_another_puts_there_meanwhile_stays(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def be_late(path: Path, target: Path) -> Path:
        target.mkdir()
        (target / "theirs").touch()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", be_late)
    result = invoke("new-plugin", "foo")
    assert result.exit_code == 1
    assert "something else was put there meanwhile" in result.stderr
    (found,) = folder.iterdir()
    assert list(found.iterdir()) == [folder / "infer-backends-foo/theirs"]
