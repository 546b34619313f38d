"""Door 3: for those who test an application, or a plugin.

An application's tests run on models in memory, :class:`FakeModel`, by themselves or by the fixtures
of the pytest plugin that comes with the distribution.

A plugin's tests subclass :class:`BackendContract`, and say where its models are. The suites need
pytest, which the extra ``testing`` brings::

    class TestMyRuntime(BackendContract):
        @pytest.fixture
        def reference_url(self) -> Callable[[str], str]:
            return lambda name: f"myruntime:models/{name}.bin"
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infer_backends.testing._clock import ManualClock
    from infer_backends.testing._contract import BackendContract
    from infer_backends.testing._fake_calls import FakeCall
    from infer_backends.testing._fake_model import FakeModel
    from infer_backends.testing._fake_outcomes import (
        Answer,
        Down,
        ExtraOutput,
        Hang,
        MissingOutput,
        Slow,
        WrongDtype,
        WrongShape,
    )
    from infer_backends.testing._fake_pair import FakePair
    from infer_backends.testing._fixtures import FakeModels
    from infer_backends.testing._further import SequenceContract, StreamingContract
    from infer_backends.testing._probing import probe_now
    from infer_backends.testing._reference import (
        REFERENCE_MODELS,
        ReferenceModel,
        adding,
        counting,
    )

__all__ = [
    "REFERENCE_MODELS",
    "Answer",
    "BackendContract",
    "Down",
    "ExtraOutput",
    "FakeCall",
    "FakeModel",
    "FakeModels",
    "FakePair",
    "Hang",
    "ManualClock",
    "MissingOutput",
    "ReferenceModel",
    "SequenceContract",
    "Slow",
    "StreamingContract",
    "WrongDtype",
    "WrongShape",
    "adding",
    "counting",
    "probe_now",
]

# Nothing is imported before it is asked for: what needs no pytest is there without it.
_HOMES = {
    "Answer": "_fake_outcomes",
    "BackendContract": "_contract",
    "Down": "_fake_outcomes",
    "ExtraOutput": "_fake_outcomes",
    "FakeCall": "_fake_calls",
    "FakeModel": "_fake_model",
    "FakeModels": "_fixtures",
    "FakePair": "_fake_pair",
    "Hang": "_fake_outcomes",
    "ManualClock": "_clock",
    "MissingOutput": "_fake_outcomes",
    "REFERENCE_MODELS": "_reference",
    "ReferenceModel": "_reference",
    "SequenceContract": "_further",
    "Slow": "_fake_outcomes",
    "StreamingContract": "_further",
    "WrongDtype": "_fake_outcomes",
    "WrongShape": "_fake_outcomes",
    "adding": "_reference",
    "counting": "_reference",
    "probe_now": "_probing",
}
# The modules that are made of tests. pytest rewrites their asserts, so that a failing one shows
# what it compared.
_OF_TESTS = (
    "_contract",
    "_further",
    "_in_loops",
    "_of_answers",
    "_of_calls",
    "_of_errors",
    "_of_life",
    "_of_members",
    "_of_random",
    "_of_sharing",
    "_of_time",
    "_subject",
    "_values",
)


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


if sys.modules.get("pytest") is not None:
    # Whichever of the modules comes to be imported first.
    _rewrite_asserts()
