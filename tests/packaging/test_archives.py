"""What is in the sdists and the wheels."""

from __future__ import annotations

import email
import tarfile
import zipfile
from collections.abc import Mapping
from email.message import Message

import pytest

from infer_backends import __version__
from tests.packaging.conftest import SOURCES, Built

#: The plugin of pytest is imported whenever pytest runs: so it is no part of the package.
BESIDE = {"infer_backends": ["_infer_backends_pytest.py"]}
every_distribution = pytest.mark.parametrize("name", SOURCES)


def metadata(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        (path,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(wheel.read(path))


def files(built: Built) -> set[str]:
    with zipfile.ZipFile(built.wheel) as wheel:
        return set(wheel.namelist())


@every_distribution
def test_all_distributions_have_the_one_version(built: Mapping[str, Built], name: str) -> None:
    assert metadata(built[name])["Version"] == __version__
    assert f"-{__version__}.tar.gz" in built[name].sdist.name


@every_distribution
def test_a_wheel_holds_its_package_and_nothing_else(built: Mapping[str, Built], name: str) -> None:
    tops = {path.split("/")[0] for path in files(built[name])}
    assert tops == {name, f"{name}-{__version__}.dist-info", *BESIDE.get(name, ())}


@every_distribution
def test_a_wheel_holds_every_module_of_the_repository(
    built: Mapping[str, Built], name: str
) -> None:
    folder = SOURCES[name] / name
    modules = {path.relative_to(folder.parent).as_posix() for path in folder.rglob("*.py")}
    assert modules <= files(built[name])


def test_the_core_carries_the_templates_of_new_plugins(built: Mapping[str, Built]) -> None:
    folder = SOURCES["infer_backends"] / "infer_backends"
    templates = {p.relative_to(folder.parent).as_posix() for p in folder.rglob("*.tmpl")}
    assert templates
    assert templates <= files(built["infer_backends"])
    with tarfile.open(built["infer_backends"].sdist) as archive:
        assert templates <= {path.partition("/")[2] for path in archive.getnames()}


@every_distribution
def test_a_wheel_is_marked_as_typed(built: Mapping[str, Built], name: str) -> None:
    assert f"{name}/py.typed" in files(built[name])


@every_distribution
def test_a_wheel_carries_its_licence(built: Mapping[str, Built], name: str) -> None:
    licences = f"{name}-{__version__}.dist-info/licenses"
    assert {f"{licences}/LICENSE", f"{licences}/NOTICE"} <= files(built[name])
    assert metadata(built[name])["License-Expression"] == "Apache-2.0"


@every_distribution
def test_a_wheel_has_the_readme_as_its_description(built: Mapping[str, Built], name: str) -> None:
    readme = (SOURCES[name] / "README.md").read_text()
    assert str(metadata(built[name]).get_payload()).strip() == readme.strip()


@every_distribution
def test_an_sdist_holds_no_tests_and_no_other_distribution(
    built: Mapping[str, Built], name: str
) -> None:
    with tarfile.open(built[name].sdist) as archive:
        tops = {path.split("/")[1] for path in archive.getnames() if "/" in path}
    assert tops == {
        name,
        *BESIDE.get(name, ()),
        "LICENSE",
        "NOTICE",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        ".gitignore",
    }


def test_the_core_needs_numpy_and_pluggy_and_nothing_else(built: Mapping[str, Built]) -> None:
    requirements = metadata(built["infer_backends"]).get_all("Requires-Dist", [])
    assert {r.split(">")[0] for r in requirements if "extra ==" not in r} == {"numpy", "pluggy"}


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("infer_backends", {"cli", "demo", "testing"}),
        ("infer_backends_triton", {"http", "grpc", "server"}),
        ("infer_backends_onnxruntime", {"cpu", "gpu"}),
        ("infer_backends_openvino", set()),
    ],
)
def test_the_extras_are_these(built: Mapping[str, Built], name: str, extras: set[str]) -> None:
    assert set(metadata(built[name]).get_all("Provides-Extra", [])) == extras
