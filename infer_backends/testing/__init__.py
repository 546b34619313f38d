"""Door 3: for those who test a plugin. The suites need pytest, which the extra ``testing`` brings.

A plugin's tests subclass :class:`BackendContract`, and say where its models are::

    class TestMyRuntime(BackendContract):
        @pytest.fixture
        def reference_url(self) -> Callable[[str], str]:
            return lambda name: f"myruntime:models/{name}.bin"
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infer_backends.testing._contract import BackendContract
    from infer_backends.testing._further import SequenceContract, StreamingContract
    from infer_backends.testing._reference import REFERENCE_MODELS, ReferenceModel

__all__ = [
    "REFERENCE_MODELS",
    "BackendContract",
    "ReferenceModel",
    "SequenceContract",
    "StreamingContract",
]

# Nothing is imported before it is asked for: what needs no pytest is there without it.
_HOMES = {
    "BackendContract": "_contract",
    "REFERENCE_MODELS": "_reference",
    "ReferenceModel": "_reference",
    "SequenceContract": "_further",
    "StreamingContract": "_further",
}
# The modules that are made of tests. pytest rewrites their asserts, so that a failing one shows
# what it compared.
_OF_TESTS = ("_contract", "_further", "_in_loops", "_values")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] in _OF_TESTS:
        _rewrite_asserts()
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _rewrite_asserts() -> None:
    """Ask pytest to rewrite the suites, before any of them is imported."""
    try:
        import pytest
    except ModuleNotFoundError as exc:
        if exc.name != "pytest":
            raise
        from infer_backends._errors import MissingDependency

        raise MissingDependency(
            "the suites of infer_backends.testing need the package pytest: "
            "pip install 'infer-backends[testing]'"
        ) from exc
    pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _OF_TESTS))
