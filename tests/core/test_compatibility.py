"""Plugins as ``docs/reference/compatibility.md`` says that they may be written go on to work."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from infer_backends import Model, ModelURL, PluginError
from infer_backends._registry import Registry
from infer_backends.plugin import InferResponse, OpenOptions, ServerBackend, Unavailable
from tests.core.conftest import Install
from tests.core.fakes import FakeBackend

MINIMAL = """
from infer_backends.plugin import Option, hookimpl
from tests.core.fakes import FakeBackend
from tests.core.server_fakes import FakeServer

INFER_BACKENDS_API = {version}

@hookimpl
def infer_backends_open({arguments}):
    return FakeBackend()

@hookimpl
def infer_backends_metadata({arguments}):
    return FakeBackend().metadata

@hookimpl
def infer_backends_server({arguments}):
    return FakeServer()

@hookimpl
def infer_backends_options():
    return [Option("depth", int, 1)]

@hookimpl
def infer_backends_check():
    pass
"""


@pytest.mark.parametrize("arguments", ["", "url", "options", "url, options", "options, url"])
def test_hooks_may_leave_out_any_of_their_arguments(install: Install, arguments: str) -> None:
    install("small-plugin", ["small"], MINIMAL.format(version=1, arguments=arguments))
    plugin = Registry(environ={}).find("small")
    url, options = ModelURL.parse("small:m"), OpenOptions()
    plugin.check("small")
    assert [option.name for option in plugin.options("small")] == ["depth"]
    assert plugin.open(url, options).metadata == plugin.metadata(url, options)
    assert isinstance(plugin.open_server(url, options), ServerBackend)


@pytest.mark.parametrize(
    ("version", "update"),
    [(1, "the plugin"), (2, None), (3, None), (4, "infer-backends")],
)
def test_plugins_of_this_version_of_the_contract_and_of_the_one_before_are_loaded(
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    update: str | None,
) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("infer_backends.") and "API_VERSION" in vars(module):
            monkeypatch.setattr(module, "API_VERSION", 3)
    install("a-plugin", ["ab"], MINIMAL.format(version=version, arguments="url"))
    if update is None:
        Registry(environ={}).find("ab").open(ModelURL.parse("ab:m"), OpenOptions()).close()
        return
    with pytest.raises(PluginError) as caught:
        Registry(environ={}).find("ab")
    assert "a-plugin 1.0" in str(caught.value)
    assert f"written for version {version}" in str(caught.value)
    assert f"this is version 3: update {update}" in str(caught.value)


def test_a_response_needs_nothing_but_its_outputs() -> None:
    backend = FakeBackend()
    backend.infer = lambda request: InferResponse({"y": request.inputs["x"].copy()})  # type: ignore[method-assign]
    with Model(backend) as model:
        assert model(np.ones((1, 3), np.float32)).tolist() == [[1, 1, 1]]


def test_an_error_that_a_plugin_made_more_special_is_raised_as_it_is() -> None:
    class Rebooting(Unavailable):
        pass

    backend = FakeBackend()
    backend.error = Rebooting("the board reboots; try again in a minute")
    with Model(backend) as model, pytest.raises(Unavailable) as caught:
        model(np.ones((1, 3), np.float32))
    assert type(caught.value) is Rebooting
