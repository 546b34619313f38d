"""Who may import whom: the layers of the table in ``docs/explanation/architecture.md``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "infer_backends"
PLUGINS = {
    "infer_backends_triton": ROOT / "plugins/triton/infer_backends_triton",
    "infer_backends_onnxruntime": ROOT / "plugins/onnxruntime/infer_backends_onnxruntime",
    "infer_backends_openvino": ROOT / "plugins/openvino/infer_backends_openvino",
}
RUNTIMES = {"aiohttp", "gevent", "grpc", "onnxruntime", "openvino", "torch", "tritonclient"}


def layers() -> dict[str, int]:
    """The rank of each module of the core, by its name in the package."""
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", text, re.MULTILINE)
    return {name: int(rank) for rank, names in rows for name in re.findall(r"`(\w+)`", names)}


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, anywhere in it: in functions, and for types only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def unit(dotted: str) -> str:
    """The part of the core that ``infer_backends.unit.name`` belongs to."""
    parts = dotted.split(".")
    if len(parts) == 1 or not ((CORE / parts[1]).is_dir() or (CORE / f"{parts[1]}.py").exists()):
        return "__init__"
    return parts[1]


def core_units() -> dict[str, set[str]]:
    """What each part of the core imports of the core."""
    found: dict[str, set[str]] = {}
    for path in CORE.rglob("*.py"):
        name = path.relative_to(CORE).parts[0].removesuffix(".py")
        mine = {unit(dotted) for dotted in imports(path) if dotted.split(".")[0] == CORE.name}
        found.setdefault(name, set()).update(mine - {name})
    return found


def test_every_part_of_the_core_has_a_layer() -> None:
    assert set(core_units()) == set(layers())


def test_the_core_imports_downwards_only() -> None:
    rank = layers()
    upwards = [
        f"{name} imports {other}"
        for name, others in core_units().items()
        for other in others
        if rank[other] > rank[name]
    ]
    assert upwards == []


def test_no_parts_of_the_core_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(core_units()).prepare()
    except CycleError as exc:
        pytest.fail(f"a circle of imports: {exc.args[1]}")


def test_the_errors_import_nothing_of_the_core() -> None:
    assert core_units()["_errors"] == set()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_nothing_of_the_core_but_its_door(plugin: str) -> None:
    wrong = {
        f"{path.name} imports {dotted}"
        for path in PLUGINS[plugin].rglob("*.py")
        for dotted in imports(path)
        if dotted.split(".")[0] == CORE.name and not dotted.startswith("infer_backends.plugin")
    }
    assert wrong == set()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_no_other_plugin(plugin: str) -> None:
    imported = {d.split(".")[0] for path in PLUGINS[plugin].rglob("*.py") for d in imports(path)}
    assert not imported & (set(PLUGINS) - {plugin})


def test_the_core_imports_no_plugin_and_no_runtime() -> None:
    wrong = {
        f"{path.name} imports {dotted}"
        for path in CORE.rglob("*.py")
        for dotted in imports(path)
        if dotted.split(".")[0] in {*PLUGINS, *RUNTIMES}
    }
    assert wrong == set()


def test_only_the_command_and_progress_bars_use_what_the_extra_of_the_command_installs() -> None:
    users = {
        path.relative_to(CORE).parts[0]
        for path in CORE.rglob("*.py")
        for dotted in imports(path)
        if dotted.split(".")[0] in {"click", "rich"}
    }
    assert users <= {"_cli", "_progress.py"}


def test_fakes_are_a_plugin_that_uses_its_door_alone() -> None:
    """What ``fake:`` opens is written as anybody's plugin: the models of the suite beside it."""
    siblings = ("_fake", "_clock", "_reference")
    wrong = {
        f"{path.name} imports {dotted}"
        for path in (CORE / "testing").glob("_fake*.py")
        for dotted in imports(path)
        if dotted.split(".")[0] == CORE.name
        and not dotted.startswith("infer_backends.plugin.")
        and not dotted.startswith(tuple(f"infer_backends.testing.{name}" for name in siblings))
    }
    # A real model that a fake is like is opened as an application opens it.
    assert wrong == {"_fake_model.py imports infer_backends"}


def test_the_plugin_of_pytest_imports_nothing_of_the_core_before_a_fixture_is_used() -> None:
    tree = ast.parse((ROOT / "_infer_backends_pytest.py").read_text())
    at_import = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {
        name
        for node in at_import
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert names == {"__future__", "os", "typing", "pytest"}
