"""The pytest plugin of infer_backends: fakes for the tests of applications.

pytest imports this module whenever it runs in an environment that has infer_backends, so it imports
nothing of the library: a fixture does that when a test first asks for it. ``-p no:infer_backends``
leaves it out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infer_backends.testing import FakeModels, FakePair

_ALLOW = "infer_backends_allow"
_DISABLE = "INFER_BACKENDS_DISABLE"


@pytest.fixture
def fake_model() -> Iterator[FakeModels]:
    """Makes models in memory, which end with the test: infer_backends.testing.FakeModel.

    ``fake = fake_model("digits", inputs=[...], outputs=[...])`` is started, under ``fake.url``;
    ``fake_model.like("onnx:digits.onnx")`` has the inputs and outputs of a real model.
    """
    from infer_backends.testing import FakeModels

    with FakeModels() as models:
        yield models


@pytest.fixture
def fake_pair(fake_model: FakeModels) -> Callable[..., FakePair]:
    """Makes a fake server and a fake local model at a time: infer_backends.testing.FakePair.

    ``pair = fake_pair("digits", inputs=[...], outputs=[...])`` is started, under ``pair.url``, the
    server first: ``with pair.server.down(): ...`` shows whether the application falls back.
    """
    return fake_model.pair


@pytest.fixture
def only_fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but ``fake:`` models can be opened during the test, in programs that it starts, too.

    The ini option ``infer_backends_allow = fake onnx`` does that for all tests, and allows schemes.
    """
    monkeypatch.setenv(_DISABLE, _all_but(["fake"]))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini(
        _ALLOW,
        "URL schemes that tests may open models of, as in `fake onnx`: infer_backends refuses all "
        "others (fake is always allowed; not set: all schemes are)",
        type="args",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Disable the schemes that are not allowed, if any are named."""
    allowed = config.getini(_ALLOW)
    if allowed:
        patch = pytest.MonkeyPatch()
        patch.setenv(_DISABLE, _all_but([*allowed, "fake"]))
        config.add_cleanup(patch.undo)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say so, since an error only names the variable."""
    allowed = config.getini(_ALLOW)
    if not allowed:
        return None
    schemes = ", ".join(dict.fromkeys(["fake", *allowed]))
    return f"infer-backends: only {schemes} may be opened ({_ALLOW}, by {_DISABLE})"


def _all_but(allowed: list[str]) -> str:
    """A value of the variable that disables all installed schemes but some."""
    from importlib.metadata import entry_points

    schemes = {point.name.replace(".", "+") for point in entry_points(group="infer_backends")}
    disabled = os.environ.get(_DISABLE, "").replace(",", " ").split()
    return ",".join([*disabled, *sorted(schemes - set(allowed))])
