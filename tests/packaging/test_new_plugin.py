"""What ``infer-backends new-plugin`` writes: built, installed and tested as a stranger does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.conftest import ROOT, Built, Environment

#: Usual names, and what is just allowed: the longest, digits first, another scheme.
WRITTEN = {
    "usual": ("my-runtime",),
    "told": ("Foo_2 Bar", "--author", 'É. "Q" <e@example.org>', "--description", 'Of "a" \\ $b.'),
    "longest": ("3" * 30, "--scheme", "d+" + "3" * 28),
    "client": ("my-server", "--kind", "server"),
    "longest client": ("4" * 30, "--kind", "server", "--scheme", "e+" + "4" * 28),
}
#: One of each kind runs the contract, too: hundreds of tests that no name makes different.
WHOLE = {"infer_backends_my_runtime", "infer_backends_my_server"}

# A plugin is built, installed and tested by programs of their own.
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Plugin:
    """A plugin that was written, built and installed; with what its source archive holds."""

    source: Path
    unpacked: Path
    package: str
    scheme: str
    environment: Environment

    def command(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.environment.run("infer-backends", name, *arguments)


@pytest.fixture(scope="module")
def environment(
    built: Mapping[str, Built], new_environment: Callable[[str], Environment]
) -> Environment:
    """The core's wheel, with what the command and the tests of plugins need."""
    made = new_environment("new-plugin")
    made.install(f"{built['infer_backends'].wheel}[cli,testing]", "ml_dtypes>=0.3")
    return made


@pytest.fixture(scope="module", params=WRITTEN.values(), ids=list(WRITTEN))
def plugin(
    request: pytest.FixtureRequest,
    environment: Environment,
    tmp_path_factory: pytest.TempPathFactory,
) -> Plugin:
    """Each of the plugins, in one environment."""
    folder = tmp_path_factory.mktemp("written")
    source, dist = folder / "source", folder / "dist"
    said = environment.run(
        "infer-backends", "new-plugin", *request.param, "--folder", str(source), "--json"
    )
    names: dict[str, Any] = json.loads(said.stdout)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source],
        check=True,
        capture_output=True,
    )
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(dist)  # noqa: S202 - it was made here
    (wheel,) = dist.glob("*.whl")
    environment.install("--no-deps", str(wheel))
    unpacked = dist / sdist.name.removesuffix(".tar.gz")
    return Plugin(source, unpacked, names["package"], names["scheme"], environment)


@pytest.fixture(scope="module")
def url(plugin: Plugin) -> Iterator[str]:
    """The URL of the plugin's example; of a client, with its server."""
    examples = plugin.unpacked / "examples"
    if (examples / "double.py").exists():
        yield f"{plugin.scheme}:{examples / 'double.py'}"
        return
    program = [str(plugin.environment.path / "bin/python"), str(examples / "server.py"), "0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"{plugin.scheme}://127.0.0.1:{server.stdout.readline().strip()}/double"
        server.kill()


def check(plugin: Plugin, *command: str) -> None:
    """Run one of this environment's checks over the source."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=plugin.source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_tests_pass_as_written_without_skips_or_warnings(plugin: Plugin) -> None:
    tests = plugin.unpacked if plugin.package in WHOLE else plugin.unpacked / "tests/test_plugin.py"
    done = plugin.environment.run("pytest", "-p", "no:cacheprovider", str(tests))
    assert re.search(r"^=+ \d+ passed in [^,]*$", done.stdout.splitlines()[-1]), done.stdout


def test_its_scheme_is_ready(plugin: Plugin) -> None:
    rows = json.loads(plugin.command("plugins", "--json").stdout)
    (row,) = [row for row in rows if row["scheme"] == plugin.scheme]
    assert row["state"] == "ready"
    assert row["distribution"] == plugin.package.replace("_", "-")


def test_an_application_opens_its_url(plugin: Plugin, url: str) -> None:
    said = plugin.environment.python(
        "import infer_backends as ib\n"
        f"with ib.open_model({url!r}) as model:\n"
        "    print(model([[1, 2, 3]]).tolist())"
    )
    assert said == "[[2.0, 4.0, 6.0]]"


def test_the_command_opens_its_url(plugin: Plugin, url: str) -> None:
    metadata = json.loads(plugin.command("inspect", url, "--json").stdout)
    assert (metadata["name"], metadata["inputs"][0]["shape"]) == ("double", [-1, 3])
    ran = plugin.command("run", url, "--input", "x=[[1, 2, 3]]", "--output", "-")
    assert json.loads(ran.stdout) == {"y": [[2.0, 4.0, 6.0]]}
    plugin.command("check", url)


def test_its_name_is_not_given_again(plugin: Plugin) -> None:
    again = plugin.environment.run(
        "infer-backends", "new-plugin", "other", "--scheme", plugin.scheme, check=False
    )
    assert again.returncode == 2
    assert f"is taken by {plugin.package.replace('_', '-')}" in again.stderr


def test_its_wheel_holds_its_package_and_is_typed(plugin: Plugin) -> None:
    (wheel,) = plugin.unpacked.parent.glob("*.whl")
    listed = plugin.environment.python(
        f"import zipfile; print(*zipfile.ZipFile({str(wheel)!r}).namelist())"
    ).split()
    assert {name.split("/")[0] for name in listed} == {
        plugin.package,
        f"{plugin.package}-0.1.0.dist-info",
    }
    assert f"{plugin.package}/py.typed" in listed


@pytest.mark.parametrize(
    "settings",
    [(), ("--isolated", "--config", "line-length=100"), ("--config", str(ROOT / "pyproject.toml"))],
    ids=["its own", "the default", "ours"],
)
def test_ruff_finds_nothing_in_it(plugin: Plugin, settings: tuple[str, ...]) -> None:
    check(plugin, "ruff", "check", "--no-cache", *settings)
    check(plugin, "ruff", "format", "--no-cache", "--check", *settings)


def test_mypy_finds_nothing_in_it(plugin: Plugin) -> None:
    # One cache for all plugins, which import the same packages.
    cache, python = plugin.environment.path / "mypy", plugin.environment.path / "bin/python"
    check(plugin, "mypy", "--python-executable", str(python), "--cache-dir", str(cache))
