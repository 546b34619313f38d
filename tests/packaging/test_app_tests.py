"""The tests of an application, on fakes, from the core's wheel."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.packaging.conftest import Built, Environment

TESTS = """
import infer_backends as ib
from infer_backends import DataType, TensorSpec

X, Y = (TensorSpec(name, DataType.FP32, (-1, 3)) for name in "xy")

def test_fallback(fake_pair):
    pair = fake_pair("digits", [X], [Y])
    with ib.open_model(pair.url) as model:
        assert model.infer({"x": [[1, 2, 3]]}).backend_url == "fake:digits-server"
        with pair.server.down():
            assert model.infer({"x": [[1, 2, 3]]}).backend_url == "fake:digits-local"
"""
CONTRACT = """
from infer_backends.testing import BackendContract
import pytest

class TestFakes(BackendContract):
    @pytest.fixture
    def reference_url(self):
        return "fake:{}".format

def test_wrong():
    from infer_backends.testing._values import assert_same
    import numpy as np
    assert_same(np.zeros(2), np.zeros(3))
"""


@pytest.fixture(scope="module")
def with_pytest(
    built: Mapping[str, Built], new_environment: Callable[[str], Environment]
) -> Environment:
    """The core's wheel with the extra for tests, and no plugin."""
    environment = new_environment("with-pytest")
    environment.install(f"{built['infer_backends'].wheel}[testing]", "ml_dtypes")
    return environment


def test_the_fixtures_are_there_from_the_wheel(with_pytest: Environment, tmp_path: Path) -> None:
    (tmp_path / "test_app.py").write_text(TESTS)
    # An error for any warning: pytest has some for plugins that were imported too early.
    said = with_pytest.run("python", "-m", "pytest", "-W", "error", str(tmp_path)).stdout
    assert re.search(r"^plugins:.* infer-backends-\d", said, re.MULTILINE)
    assert "1 passed" in said


def test_the_library_may_be_imported_before_pytest_is(
    with_pytest: Environment, tmp_path: Path
) -> None:
    (tmp_path / "test_app.py").write_text(TESTS)
    said = with_pytest.python(
        "import infer_backends, infer_backends.testing, pytest\n"
        f"assert pytest.main(['-W', 'error', {str(tmp_path)!r}]) == 0"
    )
    assert "1 passed" in said


def test_the_suite_runs_from_the_wheel_and_its_asserts_show_what_they_compared(
    with_pytest: Environment, tmp_path: Path
) -> None:
    (tmp_path / "test_plugin.py").write_text(CONTRACT)
    # The whole of it runs on fakes elsewhere.
    some = ["-k", "metadata or test_wrong"]
    result = with_pytest.run("python", "-m", "pytest", *some, str(tmp_path), check=False)
    assert re.search(r"1 failed, \d+ passed", result.stdout), result.stdout
    assert re.search(r"^E +assert \(2,\) == \(3,\)", result.stdout, re.MULTILINE)


def test_fakes_need_no_pytest(core_alone: Environment) -> None:
    said = core_alone.python(
        "import infer_backends as ib, sys\n"
        "from infer_backends.testing import FakeModel, ManualClock, probe_now\n"
        "url = 'fake:m?inputs=x:FP32[-1,3]&outputs=y:FP32[-1,2]'\n"
        "with ib.open_model(url) as model: print(model([[1, 2, 3]]).shape)\n"
        "assert 'pytest' not in sys.modules"
    )
    assert said == "(1, 2)"
