"""Plugins that open something else than a backend, and backends that answer by something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from infer_backends import InferError, PluginError, ProtocolError, open_model, open_server
from infer_backends._entry_points import installed
from infer_backends._registry import GROUP, Registry
from tests.plugins.conftest import BACKEND, OPEN, WORKING, Install

OWNER = "the plugin 'bad' of bad-plugin 1.0"


@pytest.fixture
def registry(site: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry(lambda: installed(GROUP, [str(site)]), {})
    for module in ("_chosen", "_registry"):
        monkeypatch.setattr(f"infer_backends.{module}.REGISTRY", found)
    return found


def returning(expression: str) -> str:
    return WORKING.replace("return Doubling(url)", f"return {expression}")


def backend(*members: str) -> str:
    lines = "".join(f"    {line}\n" for member in members for line in member.splitlines())
    return f"{BACKEND}\nclass Odd(Doubling):\n{lines}{OPEN.replace('Doubling', 'Odd')}"


def described(**changes: str) -> str:
    fields = {
        "name": "'m'", "versions": "()", "platform": "''", "inputs": "(X,)", "outputs": "(Y,)",
    } | changes  # fmt: skip
    given = ", ".join(f"{name}={value}" for name, value in fields.items())
    return backend(f"metadata = ModelMetadata({given})")


def shaped(shape: str) -> str:
    return described(inputs=f"(TensorSpec('x', DataType.FP32, {shape}),)")


NO_BACKEND = {
    returning("None"): "returned NoneType, which is no Backend: it has no metadata",
    returning("'http://h'"): "returned str, which is no Backend: it has no metadata",
    returning("Doubling"): "returned the class Doubling: call it, to return an instance",
    backend("infer = None"): "Odd, which is no Backend: its infer is no method, but NoneType",
    backend("async def infer(self, request): ..."): "whose infer is async: it is called in threads",
    backend("def metadata(self): ..."): "whose metadata is a method: make it an attribute",
    backend("metadata = {}"): "whose metadata is dict; expected a ModelMetadata",
    backend("@property", "def metadata(self): raise ValueError"): (
        "Odd, which raised ValueError when it was looked at"
    ),
    backend("request_options = ['priority']"): "whose request_options are list; expected a frozens",
    backend("request_options = frozenset({3})"): "whose request_options are frozenset; expected",
    described(name="None"): "metadata name is NoneType; expected a str",
    described(platform="3"): "metadata platform is int; expected a str",
    described(versions="[1]"): "versions are list; expected a tuple of str",
    described(versions="(1,)"): "versions are tuple; expected a tuple of str",
    described(inputs="[X]"): "inputs are list; expected a tuple of TensorSpec",
    described(inputs="X"): "inputs are TensorSpec; expected a tuple of TensorSpec",
    described(inputs="(('x', 'FP32', (3,)),)"): "inputs are tuple; expected a tuple of TensorSpec",
    described(inputs="(X, X)"): "the input 'x' is there 2 times",
    described(outputs="(Y, X, Y)"): "the output 'y' is there 2 times",
    described(outputs="()"): "there are no outputs",
    described(max_batch_size="'8'"): "max_batch_size is '8'; expected 0, or a number of rows",
    described(max_batch_size="-1"): "max_batch_size is -1; expected 0, or a number of rows",
    described(decoupled="None"): "decoupled is NoneType; expected a bool",
    described(parameters="None"): "parameters are NoneType; expected a mapping",
    described(inputs="(TensorSpec('x', 'FP32', (3,)),)"): "has the dtype 'FP32'; expected a DataT",
    described(inputs="(TensorSpec('', DataType.FP32, (3,)),)"): "the input '' has no name",
    described(
        inputs="(TensorSpec('x', DataType.FP32, ()),)", max_batch_size="8"
    ): "the input 'x' has no axis, and the first one is that of the batch",
    shaped("[3]"): "the input 'x' has a shape that is list; expected a tuple of int",
    shaped("(-2, 3)"): "has -2 in its shape; expected an int of 0 or more, or -1 for one that var",
    shaped("(None, 3)"): "has None in its shape; expected an int",
    shaped("('n', 3)"): "has 'n' in its shape; expected an int",
    shaped("(True, 3)"): "has True in its shape; expected an int",
    shaped("(np.int64(3),)"): "in its shape; expected an int",
}


@pytest.mark.parametrize("source", NO_BACKEND)
def test_what_is_no_backend_is_refused_when_it_is_opened(
    install: Install, good: str, source: str, registry: Registry
) -> None:
    install("bad-plugin", ["bad"], source)
    with pytest.raises(PluginError) as caught:
        open_model("bad://h/m")
    assert str(caught.value).startswith(f"{OWNER}: infer_backends_open returned ")
    assert NO_BACKEND[source] in str(caught.value)
    with open_model(good) as model:
        assert model([[1, 2, 3]]).tolist() == [[2, 4, 6]]


def test_metadata_that_raises_later_is_laid_at_its_door(
    install: Install, registry: Registry
) -> None:
    property_ = "def metadata(self):\n    Odd.asked = getattr(Odd, 'asked', 0) + 1\n"
    property_ += "    if Odd.asked > 2: raise ValueError\n    return METADATA"
    install("bad-plugin", ["bad"], backend("@property", property_))
    with pytest.raises(PluginError, match="the metadata of .* raised ValueError") as caught:
        open_model("bad://h/m")
    assert "a backend reads it when it is opened" in str(caught.value)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("{}", "returned dict; expected a ModelMetadata, or None"),
        ("ModelMetadata('m', (), '', (X, X), (Y,))", "in which the input 'x' is there 2 times"),
    ],
)
def test_what_a_plugin_says_of_a_model_is_looked_at_too(
    install: Install, good: str, told: str, message: str, registry: Registry
) -> None:
    source = f"{WORKING}\n@hookimpl\ndef infer_backends_metadata(url): return {told}\n"
    install("bad-plugin", ["bad"], source)
    with pytest.raises(PluginError, match=message) as caught:
        open_model(f"{good} bad://h/m")
    assert str(caught.value).startswith(f"{OWNER}: infer_backends_metadata returned ")


def test_a_server_has_to_be_one(install: Install, registry: Registry) -> None:
    source = f"{WORKING}\nclass Server: ...\n@hookimpl\ndef infer_backends_server(): return Server"
    install("bad-plugin", ["bad"], source)
    with pytest.raises(PluginError, match=f"{OWNER}: infer_backends_server returned the class Ser"):
        open_server("bad://h")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "Option('Device')",
            "'Device': it is no name: expected lower-case letters, digits and '_'",
        ),
        ("Option('')", "'': it is no name"),
        ("Option(3)", "3: it is no name"),
        ("Option('n', list)", "'n': it is of the type <class 'list'>; expected str, int, float or"),
        (
            "Option('n', choices=['a'])",
            "'n': it has choices that are list; expected a tuple of str",
        ),
        ("Option('timeout')", "'timeout': it is taken"),
    ],
)
def test_an_option_has_to_be_one(
    install: Install, registry: Registry, option: str, message: str
) -> None:
    source = f"{WORKING}\n@hookimpl\ndef infer_backends_options(): return [{option}]"
    install("bad-plugin", ["bad"], source)
    with pytest.raises(PluginError) as caught:
        open_model("bad://h/m")
    assert f"{OWNER} declares the option {message}" in str(caught.value)


def infer(body: str) -> str:
    return backend(f"def infer(self, request):\n    {body}")


def answering(expression: str) -> str:
    return infer(f"return InferResponse({expression}, backend_url=self.url)")


FALSE = {
    infer("return None"): (PluginError, "returned NoneType; a backend returns an InferResponse"),
    infer("return {'y': 1}"): (PluginError, "returned dict; a backend returns an InferResponse"),
    infer("raise KeyError('hunter2')"): (PluginError, "raised KeyError; a backend raises only"),
    infer("raise SystemExit(3)"): (PluginError, "raised SystemExit; a backend raises only the"),
    backend("def infer(self): ..."): (PluginError, "raised TypeError; a backend raises only the"),
    answering("None"): (ProtocolError, "has a NoneType for its outputs; expected a dict"),
    answering("[1]"): (ProtocolError, "has a list for its outputs; expected a dict"),
    answering("{'z': request.inputs['x']}"): (ProtocolError, "has no output 'y'; it has z"),
    answering("{'y': [[1.0, 2.0, 3.0]]}"): (ProtocolError, "has the output 'y' as list"),
    answering("{'y': np.ones((1, 3))}"): (ProtocolError, "has the output 'y' as float64"),
    answering("{'y': np.ones((1, 3), '>f4')}"): (ProtocolError, "has the output 'y' as >f4"),
    infer("return InferResponse({})"): (ProtocolError, "has no output 'y'; it has none"),
}


@pytest.mark.parametrize("urls", ["bad://h/m", "bad://h/m good://h/m"], ids=["alone", "first"])
@pytest.mark.parametrize("source", FALSE)
def test_an_answer_that_is_none_names_the_plugin(
    install: Install, good: str, source: str, urls: str, registry: Registry
) -> None:
    install("bad-plugin", ["bad"], source)
    kind, message = FALSE[source]
    with open_model(urls) as model:
        with pytest.raises(kind) as caught:
            model([[1, 2, 3]])
        assert message in str(caught.value)
        assert f"({OWNER})" in str(caught.value)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("raised", ["ValueError('hunter2')", "SystemExit(4)"])
@pytest.mark.parametrize("urls", ["bad://h/m", "good://h/m bad://h/m"], ids=["alone", "second"])
def test_a_close_that_raises_names_the_plugin(
    install: Install, good: str, raised: str, urls: str, registry: Registry
) -> None:
    install("bad-plugin", ["bad"], backend(f"def close(self): raise {raised}"))
    model = open_model(urls)
    with pytest.raises(InferError, match="raised (ValueError|SystemExit)") as caught:
        model.close()
    assert OWNER in str(caught.value)
    assert "hunter2" not in str(caught.value)
