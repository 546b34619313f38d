"""The third door where pytest is not installed."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

NEED_PYTEST = ["BackendContract", "SequenceContract", "StreamingContract"]
NEED_NONE = ["REFERENCE_MODELS", "ReferenceModel"]


def without_pytest(statement: str) -> str:
    """What a statement prints in an interpreter of its own, where pytest is not installed."""
    program = f"import sys\nsys.modules['pytest'] = None\n{statement}"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("name", NEED_PYTEST)
def test_the_suites_without_pytest_are_an_error_that_says_what_to_install(name: str) -> None:
    message = without_pytest(
        "from infer_backends.plugin import MissingDependency\n"
        f"try:\n    from infer_backends.testing import {name}\n"
        "except MissingDependency as exc:\n    print(exc)"
    )
    assert "pip install 'infer-backends[testing]'" in message


@pytest.mark.parametrize("name", NEED_NONE)
def test_what_needs_no_pytest_is_there_without_it(name: str) -> None:
    assert without_pytest(f"from infer_backends.testing import {name}\nprint('there')") == "there"


def test_the_door_lists_its_names_without_importing_them() -> None:
    listed = without_pytest(
        "import infer_backends.testing as door\nprint(set(door.__all__) - set(dir(door)))"
    )
    assert listed == "set()"


def test_a_name_that_is_not_there_is_an_ordinary_error() -> None:
    import infer_backends.testing as door

    with pytest.raises(AttributeError, match="has no attribute 'NoSuchName'"):
        door.NoSuchName  # noqa: B018 - asking for it is the test


def test_the_asserts_of_the_suites_show_what_they_compared() -> None:
    """Rewritten, since a plugin's author learns from them what is wrong."""
    import infer_backends.testing as door

    assert [name for name in NEED_PYTEST if not inspect.isclass(getattr(door, name))] == []
    modules = [sys.modules[f"{door.__name__}.{name}"] for name in door._OF_TESTS]
    assert [module.__name__ for module in modules if "@pytest_ar" not in vars(module)] == []


def test_every_module_with_asserts_is_among_those_that_pytest_rewrites() -> None:
    import infer_backends.testing as door

    (folder,) = door.__path__
    asserting = {
        path.stem
        for path in Path(folder).glob("*.py")
        if any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert asserting <= set(door._OF_TESTS)
