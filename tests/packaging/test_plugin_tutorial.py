"""The tutorial for authors of plugins, followed as written, and the package that comes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, Built, Environment
from tests.packaging.following import Block, Reader, blocks, changed

PAGE = (ROOT / "docs/plugin-tutorial.md").read_text()
(CHECKLIST,) = [
    block.text
    for block in blocks((ROOT / "docs/how-to/publish-a-plugin.md").read_text())
    if block.language == "python"
]
PACKAGE = ROOT / "examples/infer-backends-linear"


def files(folder: Path) -> dict[str, str]:
    """The files that make up the package, by path."""
    suffixes = {".py", ".toml", ".md", ".typed"}
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.suffix in suffixes and not path.relative_to(folder).parts[0].startswith(".")
    }


@pytest.mark.timeout(900)
def test_a_reader_who_follows_the_page_ends_with_the_package(
    tmp_path: Path, built: Mapping[str, Built]
) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COVERAGE_"))}
    wheels = built["infer_backends"].wheel.parent
    environ = {
        **clean,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}",
        # As if the wheels were published.
        "PIP_FIND_LINKS": f"{wheels} {clean.get('PIP_FIND_LINKS', '')}",
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }
    with Reader(tmp_path, environ) as reader:
        for block in blocks(PAGE):
            reader.follow(block)
    assert files(tmp_path / PACKAGE.name) == files(PACKAGE)


@pytest.mark.timeout(600)
def test_the_package_of_the_page_builds_installs_and_passes_its_tests(
    tmp_path: Path,
    built: Mapping[str, Built],
    new_environment: Callable[[str], Environment],
) -> None:
    source = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, source],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    environment = new_environment("tutorial-plugin")
    environment.install(f"{built['infer_backends'].wheel}[cli,testing]", str(wheel))
    rows = json.loads(environment.run("infer-backends", "plugins", "--json").stdout)
    assert {row["scheme"]: row["state"] for row in rows} == {"fake": "ready", "linear": "ready"}
    # What the checklist for publishing looks for is there.
    assert environment.python(CHECKLIST.replace("infer-backends-onnxruntime", PACKAGE.name)) == ""
    # The tests alone: what they import is what was installed.
    shutil.copytree(source / "tests", tmp_path / "installed/tests")
    shutil.copy(source / "pyproject.toml", tmp_path / "installed")
    said = environment.run("python", "-m", "pytest", "-q", str(tmp_path / "installed")).stdout
    assert " passed" in said


def test_a_block_is_read_with_its_language_and_file() -> None:
    page = "a\n```console\n$ ls\n```\n````{code-block} python\n:caption: a/b.py\n\nx = 1\n````\n"
    assert blocks(page) == [Block("console", "", "$ ls\n"), Block("python", "a/b.py", "x = 1\n")]


def test_a_diff_changes_the_lines_that_it_shows() -> None:
    assert changed("a\nb\nc\n", " a\n-b\n+x\n+y\n") == "a\nx\ny\nc\n"
    with pytest.raises(AssertionError, match="stands there 0 times"):
        changed("a\nb\n", "-c\n+d\n")
    with pytest.raises(AssertionError, match="stands there 2 times"):
        changed("a\na\n", "-a\n+d\n")
