"""What may be served is checked, with names, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from infer_backends.plugin import InvalidInput
from infer_backends_triton._serve.models import Repository, Sources, parse_models


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: two ONNX files, a repository with a model, an empty repository."""
    (tmp_path / "a.onnx").touch()
    (tmp_path / "b.onnx").touch()
    (tmp_path / "repository" / "m" / "1").mkdir(parents=True)
    (tmp_path / "repository" / "m" / "config.pbtxt").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_repository_is_served_as_it_is(folder: Path) -> None:
    assert parse_models("repository") == Repository(folder / "repository")
    assert parse_models(Path("repository")) == Repository(folder / "repository")


def test_an_onnx_file_is_served_under_its_own_name(folder: Path) -> None:
    assert parse_models("a.onnx") == Sources({"a": folder / "a.onnx"})


def test_a_list_takes_names_from_files_and_folders(folder: Path) -> None:
    expected = Sources({"a": folder / "a.onnx", "m": folder / "repository" / "m"})
    assert parse_models(["a.onnx", Path("repository/m")]) == expected


def test_a_mapping_gives_the_names(folder: Path) -> None:
    expected = Sources({"x.1": folder / "a.onnx", "y": folder / "repository" / "m"})
    assert parse_models({"x.1": "a.onnx", "y": "repository/m"}) == expected


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("missing", r"repository 'missing' does not exist: expected a folder"),
        ("missing.onnx", r"'missing' cannot be served: 'missing.onnx' does not exist"),
        ("empty", r"'empty' has no models: expected a folder for each"),
        ("repository/m", r"is a model, not a model repository: pass \['repository/m'\]"),
        ("repository/m/config.pbtxt", r"is not a folder"),
        ([], "there is no model to serve"),
        ({}, "there is no model to serve"),
        (["empty"], "is a folder without config.pbtxt"),
        ({"x": "repository/m/config.pbtxt"}, "is not an .onnx file"),
        (["a.onnx", "./a.onnx"], "two models would be served as 'a': name them"),
        ({"": "a.onnx"}, "'' cannot be a model's name"),
        ({"a/b": "a.onnx"}, "'a/b' cannot be a model's name"),
        ({"..": "a.onnx"}, r"'\.\.' cannot be a model's name"),
        ({"a\n": "a.onnx"}, r"cannot be a model's name"),
        ({"ä": "a.onnx"}, "cannot be a model's name: expected letters, digits"),
        ({1: "a.onnx"}, "1 cannot be a model's name"),
    ],
)
def test_what_cannot_be_served_is_named(models: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_models(models)  # type: ignore[arg-type]
