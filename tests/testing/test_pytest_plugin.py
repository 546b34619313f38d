"""The fixtures, as the tests of an application use them: pytest runs pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

APP = """
import os
import infer_backends as ib

def classify(x):
    with ib.open_model(os.environ["MODEL_URL"]) as model:
        return model.infer({"x": x}).backend_url
"""
TESTS = """
import numpy as np
import pytest
import infer_backends as ib
from app import classify

FP32 = ib.DataType.FP32
X, Y = ib.TensorSpec("x", FP32, (-1, 3)), ib.TensorSpec("y", FP32, (-1, 2))
ROWS = {"inputs": [X], "outputs": [Y]}
ONES = np.ones((1, 3))

def test_one(fake_model, monkeypatch):
    fake = fake_model("digits", **ROWS)
    monkeypatch.setenv("MODEL_URL", fake.url)
    assert classify(ONES) == "fake:digits"
    assert fake.calls[0].answered

@pytest.mark.parametrize("again", range(2))
def test_the_same_name_again(fake_model, again):
    fake = fake_model("digits", **ROWS)
    assert fake.calls == []
    assert fake_model.like(fake, "copy").metadata.outputs == fake.metadata.outputs

def test_fallback(fake_pair, monkeypatch):
    pair = fake_pair("digits", **ROWS)
    monkeypatch.setenv("MODEL_URL", pair.url)
    with pair.server.down():
        assert classify(ONES) == pair.local.url
    assert classify(ONES) == pair.server.url

def test_nothing_is_left():
    with pytest.raises(ib.ModelNotFound):
        ib.open_model("fake:digits")
"""


@pytest.fixture
def app(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(app=APP, test_app=TESTS)
    return pytester


def test_an_application_tests_its_own_fallback(app: pytest.Pytester) -> None:
    result = app.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-W", "error")
    result.assert_outcomes(passed=5)


def test_the_fixtures_are_documented(app: pytest.Pytester) -> None:
    shown = app.runpytest_subprocess("--fixtures").stdout.str()
    for name in ("fake_model", "fake_pair", "only_fake_models"):
        assert re.search(rf"^{name} -- .*\n {{4}}[A-Z]", shown, re.MULTILINE)


def test_the_plugin_can_be_left_out(app: pytest.Pytester) -> None:
    result = app.runpytest_subprocess("-p", "no:infer_backends")
    result.assert_outcomes(passed=1, errors=4)
    result.stdout.fnmatch_lines(["*fixture 'fake_model' not found*"])


OPENING = """
import os, subprocess, sys
import pytest
import infer_backends as ib

def is_forbidden(url):
    with pytest.raises(ib.InferError) as found:
        ib.open_model(url, timeout=5.0)
    return isinstance(found.value, ib.UnknownScheme)

def test_real():
    assert is_forbidden("http://127.0.0.1:9/m") is {http}
    assert is_forbidden("onnx:gone.onnx") is {onnx}
    assert not is_forbidden("fake:gone")

def test_in_a_program_of_its_own():
    program = "import infer_backends as ib; ib.open_model('http://127.0.0.1:9/m', timeout=5.0)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ("UnknownScheme" in said.stderr) is {http}
"""


def test_real_backends_can_be_forbidden_in_all_tests(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ninfer_backends_allow = onnx\n")
    text = OPENING.format(http=True, onnx=False)
    pytester.makepyfile(text)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["infer-backends: only fake, onnx may be opened (*DISABLE)"])


def test_real_backends_can_be_forbidden_in_one_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFER_BACKENDS_DISABLE", "my-observer")
    text = OPENING.format(http=True, onnx=True)
    pytester.makepyfile(
        f"{text}\nimport pytest\npytestmark = pytest.mark.usefixtures('only_fake_models')\n"
        "def test_what_was_disabled_stays_so():\n"
        "    assert os.environ['INFER_BACKENDS_DISABLE'].startswith('my-observer,grpc,')\n"
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=3)


def test_nothing_is_forbidden_unless_somebody_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(OPENING.format(http=False, onnx=False))
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=2)
    assert "may be opened" not in result.stdout.str()


def test_the_environment_is_what_it_was_when_pytest_ends(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ninfer_backends_allow = fake\n")
    pytester.makepyfile("def test_it(): pass")
    before = os.environ.get("INFER_BACKENDS_DISABLE")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert os.environ.get("INFER_BACKENDS_DISABLE") == before


def test_pytest_without_fakes_loads_nothing_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert '_infer_backends_pytest' in sys.modules\n"
        "    assert not {'infer_backends', 'numpy'} & set(sys.modules)\n"
    )
    # The plugins of the tests' own environment are left out: one of them may load NumPy.
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "_infer_backends_pytest", str(tmp_path)],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
