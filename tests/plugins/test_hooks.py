"""Hooks that cannot be called, or raise, or were written for another version of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from infer_backends import InferError, ModelURL, PluginError, _hooks
from infer_backends._contract_version import mismatch
from infer_backends._entry_points import installed
from infer_backends._loading import LoadedPlugin
from infer_backends._registry import GROUP, Registry
from infer_backends.plugin import OpenOptions
from tests.plugins.conftest import ANSWER, BACKEND, OPEN, WORKING, Install, outcomes


def registry(site: Path) -> Registry:
    return Registry(lambda: installed(GROUP, [str(site)]), {})


def hook(name: str, body: str, arguments: str = "") -> str:
    own = "" if name == "open" else OPEN
    return f"{BACKEND}{own}\n@hookimpl\ndef infer_backends_{name}({arguments}):\n    {body}\n"


def opening(definition: str, mark: str = "@hookimpl") -> str:
    return f"{BACKEND}\n{mark}\n{definition}\n"


MARK = "write @hookimpl above it, which is imported from infer_backends.plugin"
UNCALLABLE = {
    opening("def infer_backends_open(url, device): ..."): "'device'",
    opening("def infer_backends_open(url, *, more): ..."): (
        "wants 'more' by keyword, which nobody gives; the arguments of infer_backends_open are "
        "url, options"
    ),
    opening("def infer_backends_open(*args): ..."): "takes *args, which is given nothing",
    opening("def infer_backends_open(**kw): ..."): "takes **kw, which is given nothing",
    opening("def infer_backends_open(url, options=None): ..."): "has a default for 'options'",
    opening("async def infer_backends_open(url): ..."): "is an async function: hooks are called in",
    opening("def infer_backends_open(url): yield"): "is a generator, and a hook returns",
    opening("async def infer_backends_open(url): yield"): "is a generator, and a hook returns",
    opening("def infer_backends_open(url): ...", mark=""): f"but a function of that name: {MARK}",
    opening("class infer_backends_open: ..."): "is a class, and a hook is a function",
    opening("def infer_backends_open(url): yield", "@hookimpl(wrapper=True)"): "is a wrapper",
    opening("def infer_backends_open(url): yield", "@hookimpl(hookwrapper=True)"): "is a wrapper",
    WORKING + "@hookimpl(specname='infer_backends_open')\ndef other(url): ...": "open 2 times",
    WORKING + "def infer_backends_options(): ...": f"but a function of that name: {MARK}",
    WORKING.replace("_open", "_opne"): "opne",
    BACKEND + "import pluggy\nhookimpl = pluggy.HookimplMarker('other')\n" + OPEN: MARK,
    BACKEND: "has no infer_backends_open hook: define that function, marked with @hookimpl",
}


@pytest.mark.parametrize("source", UNCALLABLE)
def test_a_hook_that_cannot_be_called_is_refused_when_it_is_loaded(
    site: Path, install: Install, good: str, source: str
) -> None:
    install("bad-plugin", ["bad"], source)
    found = registry(site)
    with pytest.raises(PluginError) as caught:
        found.find("bad")
    assert str(caught.value).startswith("the plugin 'bad' of bad-plugin 1.0 ")
    assert UNCALLABLE[source] in str(caught.value)
    found.find("good")


@pytest.mark.parametrize(
    "source",
    [
        opening("def infer_backends_open(url, more=3): return Doubling(url)"),
        opening("def infer_backends_open(options, url): return Doubling(url)"),
        opening("def infer_backends_open(url): return Doubling(url)", "@hookimpl(tryfirst=True)"),
        WORKING + "@hookimpl(optionalhook=True)\ndef infer_backends_of_tomorrow(): ...",
    ],
)
def test_what_can_be_called_is_not_refused(site: Path, install: Install, source: str) -> None:
    install("good-plugin", ["good"], source)
    registry(site).find("good").open(ModelURL.parse("good://h/m"), OpenOptions())


OBJECTS = """
class Plugin:
    INFER_BACKENDS_API = 1

    @hookimpl
    def infer_backends_open(self, url):
        return Doubling(url)

plugin, nothing = Plugin(), None

class Hostile:
    def __getattr__(self, name):
        raise KeyError(name)

hostile = Hostile()
"""


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("bad_plugin:plugin", ""),
        ("bad_plugin : plugin [extra]", ""),
        ("bad_plugin:Plugin", "is named by a class, Plugin: its entry point has to name the mod"),
        ("bad_plugin:Doubling.close", "is named by a function, which has no hooks"),
        ("bad_plugin:nothing", "is named by a NoneType, which has no hooks"),
        ("bad_plugin:hostile", "cannot be used: checking it raised KeyError"),
        ("bad_plugin:gone", "has no attribute 'gone'; its entry point is 'bad_plugin:gone'"),
        ("os", "does not say which contract it was written for: it needs a line INFER_BACKENDS_"),
    ],
)
def test_an_entry_point_names_a_module_or_an_object_with_hooks(
    site: Path, install: Install, named: str, message: str
) -> None:
    install("bad-plugin", ["bad"], BACKEND + OBJECTS)
    (site / "bad_plugin-1.0.dist-info/entry_points.txt").write_text(f"[{GROUP}]\nbad = {named}\n")
    found = registry(site)
    if not message:
        found.find("bad")
        return
    with pytest.raises(PluginError, match="the plugin 'bad' of bad-plugin 1.0") as caught:
        found.find("bad")
    assert message in str(caught.value)


@pytest.mark.parametrize("raised", ["KeyError(url.password)", "SystemExit(3)", "GeneratorExit"])
@pytest.mark.parametrize("name", ["open", "metadata", "server", "options", "check"])
def test_whatever_a_hook_raises_is_an_error_that_names_the_plugin(
    site: Path, install: Install, name: str, raised: str
) -> None:
    with_url = name in {"open", "metadata", "server"}
    body = f"raise {raised if with_url else raised.replace('url.password', '3')}"
    install("bad-plugin", ["bad"], hook(name, body, "url" if with_url else "scheme"))
    plugin = registry(site).find("bad")
    with pytest.raises(
        PluginError, match=f"bad-plugin 1.0: infer_backends_{name} raised"
    ) as caught:
        use(plugin, name)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is not None


def use(plugin: LoadedPlugin, name: str) -> None:
    url = ModelURL.parse("bad://u:hunter2@h/m")
    options = OpenOptions(headers={"authorization": "Bearer hunter23"})
    if name == "server":
        plugin.open_server(url, options)
    elif name in {"open", "metadata"}:
        getattr(plugin, name)(url, options)
    else:
        getattr(plugin, name)("bad")


@pytest.mark.parametrize("name", ["open", "metadata", "server"])
def test_secrets_are_taken_out_of_the_errors_of_a_plugin(
    site: Path, install: Install, name: str
) -> None:
    body = "raise Unavailable(f'{url.password} {options.headers} at {url}')"
    install("bad-plugin", ["bad"], hook(name, body, "url, options"))
    with pytest.raises(InferError, match="at bad://") as caught:
        use(registry(site).find("bad"), name)
    assert "hunter2" not in str(caught.value)
    assert "*** {'authorization': 'Bearer ***'} at bad://***@h/m" in str(caught.value)


def test_an_error_class_of_its_own_passes_even_if_it_forgets_its_base(
    site: Path, install: Install, good: str
) -> None:
    source = BACKEND + "class Own(InferError):\n    def __init__(self, code): self.code = code\n"
    source += "@hookimpl\ndef infer_backends_open(url): raise Own('no money')\n"
    install("bad-plugin", ["bad"], source)
    assert outcomes(site, "bad://h/m", f"bad://h/m {good}") == ["Own: no money"] * 2


@pytest.mark.parametrize(
    ("written_for", "current", "message"),
    [
        (1, 1, ""),
        (1, 2, ""),
        (2, 2, ""),
        (1, 3, "was written for version 1 of the plugin contract, and this is version 3: update "
               "the plugin"),
        (3, 2, "was written for version 3 of the plugin contract, and this is version 2: update "
               "infer-backends"),
        (0, 1, "was written for version 0 of the plugin contract, and this is version 1"),
        (-1, 1, "update the plugin"),
        (10**30, 1, "update infer-backends"),
        (None, 2, "needs a line INFER_BACKENDS_API = 2"),
        (True, 1, "needs a line INFER_BACKENDS_API = 1, and has INFER_BACKENDS_API = True"),
        ("1", 1, "and has INFER_BACKENDS_API = '1'"),
        (1.0, 1, "and has INFER_BACKENDS_API = 1.0"),
    ],
)  # fmt: skip
def test_this_version_of_the_contract_and_the_one_before_are_loaded(
    written_for: object, current: int, message: str
) -> None:
    found = mismatch(written_for, current)
    assert message in found
    assert bool(message) == bool(found)


def test_plugins_of_today_are_loaded_on_the_day_of_version_two(
    site: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("old-plugin", ["old"], WORKING)
    install("new-plugin", ["new"], WORKING.replace("API = 1", "API = 2"))
    today = registry(site)
    today.find("old")
    with pytest.raises(PluginError, match="new-plugin 1.0 was written for version 2 .*infer-back"):
        today.find("new")
    monkeypatch.setattr(_hooks, "API_VERSION", 2)
    second = registry(site)
    assert [second.find(scheme).version for scheme in ("old", "new")] == [1, 2]
    monkeypatch.setattr(_hooks, "API_VERSION", 3)
    third = registry(site)
    third.find("new")
    with pytest.raises(PluginError, match="old-plugin 1.0 was written for version 1 .*the plugin"):
        third.find("old")


def test_a_broken_hook_leaves_others_alone(site: Path, install: Install, good: str) -> None:
    install("bad-plugin", ["bad"], hook("open", "raise SystemExit(3)"))
    found = outcomes(site, "bad://h/m", good)
    assert found[0].startswith("PluginError: the plugin 'bad' of bad-plugin 1.0: infer_backends_op")
    assert found[1] == ANSWER
