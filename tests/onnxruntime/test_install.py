"""What is installed, and what to type when it is not right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infer_backends.plugin import MissingDependency
from infer_backends_onnxruntime import _install


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the whole environment."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "onnxruntime")
    return tmp_path


@pytest.fixture(autouse=True)
def imported() -> None:
    _install.import_runtime()


def distribution(folder: Path, name: str) -> None:
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def package(folder: Path, code: str = "") -> None:
    (folder / "onnxruntime").mkdir(parents=True)
    (folder / "onnxruntime" / "__init__.py").write_text(code)


def test_the_environment_of_these_tests_has_one_whole_runtime() -> None:
    _install.require_installed()
    assert _install.distribution_name() in {"onnxruntime", "onnxruntime-gpu"}


def test_without_a_runtime_the_lines_to_type_are_shown(packages: Path) -> None:
    with pytest.raises(MissingDependency) as caught:
        _install.require_installed()
    assert str(caught.value) == (
        "the scheme 'onnx' needs onnxruntime: pip install 'infer-backends-onnxruntime[cpu]', "
        "or with an NVIDIA GPU: pip install 'infer-backends-onnxruntime[gpu]'"
    )


def test_an_empty_folder_of_that_name_is_no_runtime(packages: Path) -> None:
    (packages / "onnxruntime").mkdir()
    with pytest.raises(MissingDependency, match="needs onnxruntime"):
        _install.require_installed()


def test_two_runtimes_over_each_other_are_an_error_with_the_line_that_repairs_it(
    packages: Path,
) -> None:
    package(packages)
    distribution(packages, "onnxruntime")
    distribution(packages, "onnxruntime-gpu")
    with pytest.raises(MissingDependency) as caught:
        _install.import_runtime()
    assert str(caught.value) == (
        "onnxruntime and onnxruntime-gpu are installed over each other, which breaks both: "
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )


def test_one_in_an_environment_over_one_outside_of_it_is_fine(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = packages / "inside", packages / "outside"
    for folder, name in ((inside, "onnxruntime-gpu"), (outside, "onnxruntime")):
        package(folder)
        distribution(folder, name)
    monkeypatch.setattr(sys, "path", [str(inside), str(outside)])
    _install.require_installed()


def test_files_that_went_with_another_distribution_are_to_be_installed_again(
    packages: Path,
) -> None:
    distribution(packages, "onnxruntime-gpu")
    with pytest.raises(
        MissingDependency, match="pip install --force-reinstall --no-deps onnxruntime-gpu"
    ):
        _install.require_installed()


@pytest.mark.parametrize("code", ["raise RuntimeError('no such symbol')", ""])
def test_a_runtime_that_does_not_import_is_to_be_installed_again(packages: Path, code: str) -> None:
    package(packages, code)
    distribution(packages, "onnxruntime")
    with pytest.raises(
        MissingDependency, match="does not import .*pip install --force-reinstall onnxruntime"
    ) as caught:
        _install.import_runtime()
    assert caught.value.__cause__ is not None


def test_a_runtime_without_metadata_is_taken(packages: Path) -> None:
    package(packages)
    _install.require_installed()
    assert _install.distribution_name() == "onnxruntime"
