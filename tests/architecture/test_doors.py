"""What the packages export."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

from infer_backends import plugin

ROOT = Path(__file__).parents[2]

DOORS = [
    "infer_backends",
    "infer_backends.plugin",
    "infer_backends.testing",
    "infer_backends_triton",
]


def reading_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("door", DOORS)
def test_all_names_of_a_door_are_sorted_and_exist(door: str) -> None:
    module = importlib.import_module(door)
    assert module.__all__ == sorted(set(module.__all__), key=reading_order)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("door", DOORS)
def test_a_door_shows_no_name_that_it_does_not_export(door: str) -> None:
    module = importlib.import_module(door)
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and str(getattr(value, "__module__", "")).startswith("infer_backends")
    }
    assert public - set(module.__all__) == set()


@pytest.mark.parametrize("door", DOORS)
def test_what_a_door_exports_is_documented(door: str) -> None:
    module = importlib.import_module(door)
    exported = [getattr(module, name) for name in module.__all__]
    classes_and_functions = [v for v in exported if inspect.isclass(v) or inspect.isfunction(v)]
    assert [v.__name__ for v in classes_and_functions if not (v.__doc__ or "").strip()] == []


def test_the_reference_has_an_entry_for_every_name_of_the_door_for_plugins() -> None:
    page = (ROOT / "docs/reference/plugin-api.md").read_text()
    table, _, entries = page.partition("\n## ")
    described = set(
        re.findall(r"^\.\. (?:\w+:: infer_backends\.plugin\.|data:: )(\w+)", entries, re.MULTILINE)
    )
    # What applications use, too, is described there, and linked to.
    described |= set(re.findall(r"`~infer_backends\.(\w+)`", page))
    assert set(plugin.__all__) - described == set()
    listed = set(re.findall(r"`~infer_backends\.(?:plugin\.)?(\w+)`", table))
    errors = {
        name
        for name in plugin.__all__
        if inspect.isclass(error := vars(plugin)[name]) and issubclass(error, plugin.InferError)
    }
    assert set(plugin.__all__) - errors - listed == set()


@pytest.mark.parametrize(
    "package",
    [
        "infer_backends",
        "infer_backends_triton",
        "infer_backends_onnxruntime",
        "infer_backends_openvino",
    ],
)
def test_each_package_is_marked_as_typed(package: str) -> None:
    (folder,) = importlib.import_module(package).__path__
    assert (Path(folder) / "py.typed").is_file()
