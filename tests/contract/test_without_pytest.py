"""The suite for plugins where pytest is not installed."""

from __future__ import annotations

import importlib
import sys

import pytest

from infer_backends.plugin import MissingDependency


def test_the_suite_without_pytest_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "infer_backends.testing", raising=False)
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(MissingDependency, match=r"pip install 'infer-backends\[testing\]'"):
        importlib.import_module("infer_backends.testing")
