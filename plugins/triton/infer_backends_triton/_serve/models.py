"""The ``models`` argument of ``LocalTriton``: what may be served, and under which names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infer_backends.plugin import InvalidInput

StrPath = str | os.PathLike[str]
Models = StrPath | Iterable[StrPath] | Mapping[str, StrPath]

# Triton makes a folder, a URL path and a metric label of the name.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")


@dataclass(frozen=True, slots=True)
class Repository:
    """A model repository of Triton's own form, served as it is."""

    path: Path


@dataclass(frozen=True, slots=True)
class Sources:
    """Single models, by the name under which each is served: ONNX files and model folders."""

    paths: Mapping[str, Path]

    @property
    def onnx(self) -> dict[str, Path]:
        """The ONNX files among them."""
        return {name: path for name, path in self.paths.items() if path.suffix == ".onnx"}


def parse_models(models: Models) -> Repository | Sources:
    """Say what ``models`` stands for; every path in the answer is absolute, and exists.

    Args:
        models: A model repository; an ``.onnx`` file; several ``.onnx`` files or model folders
            (each named after its file or folder); or a mapping of names to those.

    Raises:
        InvalidInput: A path that is missing or neither of the two, or a name that cannot be used.
    """
    if isinstance(models, Mapping):
        named = [(name, Path(path)) for name, path in models.items()]
    elif isinstance(models, (str, os.PathLike)):
        path = Path(models)
        if path.suffix != ".onnx":
            return Repository(_check_repository(path))
        named = [(path.stem, path)]
    else:
        paths = [Path(path) for path in models]
        named = [(path.stem if path.suffix == ".onnx" else path.name, path) for path in paths]
    if not named:
        raise InvalidInput("there is no model to serve: expected at least one")
    sources: dict[str, Path] = {}
    for name, path in named:
        _check_name(name)
        if name in sources:
            raise InvalidInput(
                f"two models would be served as {name!r}: name them, as in "
                f"{{{name!r}: {str(path)!r}, ...}}"
            )
        sources[name] = _check_source(name, path)
    return Sources(sources)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be a model's name: expected letters, digits, '_', '-', '+' and '.', "
            "beginning with a letter, digit or '_'"
        )


def _check_source(name: str, path: Path) -> Path:
    if path.suffix == ".onnx" and path.is_file():
        return path.absolute()
    if (path / "config.pbtxt").is_file():
        return path.absolute()
    wrong = "does not exist"
    if path.is_dir():
        wrong = "is a folder without config.pbtxt"
    elif path.exists():
        wrong = "is not an .onnx file"
    raise InvalidInput(
        f"the model {name!r} cannot be served: {str(path)!r} {wrong}; expected an .onnx file or "
        "a Triton model's folder"
    )


def _check_repository(path: Path) -> Path:
    if not path.is_dir():
        wrong = "is not a folder" if path.exists() else "does not exist"
        raise InvalidInput(
            f"the model repository {str(path)!r} {wrong}: expected a folder of Triton models, or "
            "an .onnx file"
        )
    if (path / "config.pbtxt").exists():
        raise InvalidInput(
            f"{str(path)!r} is a model, not a model repository: pass [{str(path)!r}], or the "
            "folder that it lies in"
        )
    if not any(entry.is_dir() for entry in path.iterdir()):
        raise InvalidInput(
            f"the model repository {str(path)!r} has no models: expected a folder for each, with "
            "config.pbtxt and numbered versions; .onnx files go into a list or a mapping"
        )
    return path.absolute()
