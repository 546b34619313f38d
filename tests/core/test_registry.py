"""Which plugin serves a scheme, with real installed metadata in temporary site directories."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infer_backends import (
    InvalidURL,
    MissingDependency,
    ModelURL,
    PluginConflict,
    PluginError,
    UnknownScheme,
    open_model,
    register_backend,
)
from infer_backends._entry_points import installed
from infer_backends._registry import GROUP, REGISTRY, Registry
from infer_backends.plugin import OpenOptions, Option
from tests.core.conftest import Install
from tests.core.fakes import FakeBackend

WORKING = """
from infer_backends.plugin import hookimpl
from tests.core.fakes import FakeBackend

INFER_BACKENDS_API = 1

@hookimpl
def infer_backends_open(url):
    return FakeBackend(url=str(url))
"""


def registry(site: Path, **environ: str) -> Registry:
    return Registry(lambda: installed(GROUP, [str(site)]), environ)


def test_listing_imports_nothing(site: Path, install: Install) -> None:
    install("good-plugin", ["good", "triton.good"], "raise SystemExit('imported')")
    rows = registry(site).plugins()
    assert [(row.scheme, row.distribution, row.version) for row in rows] == [
        ("good", "good-plugin", "1.0"),
        ("triton+good", "good-plugin", "1.0"),
    ]
    assert "good_plugin" not in sys.modules


def test_one_module_is_loaded_once_for_all_its_schemes(site: Path, install: Install) -> None:
    install("good-plugin", ["good", "triton.good"], WORKING)
    install("other-plugin", ["other"], "raise SystemExit('imported')")
    found = registry(site)
    assert found.find("good") is found.find("triton+good")
    assert "other_plugin" not in sys.modules


def test_names_are_read_once(site: Path, install: Install) -> None:
    install("good-plugin", ["good"], WORKING)
    reads = []
    inner = registry(site)

    def read() -> Any:
        reads.append(1)
        return inner._installed()

    counted = Registry(read, {})
    counted.plugins()
    counted.find("good")
    counted.plugins()
    assert len(reads) == 1


def test_an_unknown_scheme_lists_what_there_is(site: Path, install: Install) -> None:
    install("good-plugin", ["good"], WORKING)
    found = registry(site)
    with pytest.raises(UnknownScheme, match=r"installed are: good\. Did you mean 'good'\?"):
        found.find("goood")
    with pytest.raises(UnknownScheme, match=r"pip install 'infer-backends-triton\[grpc\]'"):
        found.find("grpcs")
    with pytest.raises(UnknownScheme, match="as in http://host:8000/model"):
        found.find("xyzzy")
    with pytest.raises(UnknownScheme, match="installed are: none"):
        Registry(list, {}).find("zzz")


def test_two_distributions_that_claim_a_scheme_conflict_only_when_it_is_used(
    site: Path, install: Install
) -> None:
    install("first-plugin", ["shared", "mine"], WORKING)
    install("second-plugin", ["shared"], WORKING)
    found = registry(site)
    found.find("mine")
    assert [row.conflict for row in found.plugins()] == [False, True, True]
    with pytest.raises(PluginConflict, match=r"first-plugin 1\.0 and second-plugin 1\.0"):
        found.find("shared")


@pytest.mark.parametrize("name", ["second-plugin", "second_plugin", "Second.Plugin:shared"])
def test_disabling_one_of_two_distributions_settles_the_conflict(
    site: Path, install: Install, name: str
) -> None:
    install("first-plugin", ["shared"], WORKING)
    install("second-plugin", ["shared"], WORKING)
    found = registry(site, INFER_BACKENDS_DISABLE=f"nothing, {name}")
    assert "first-plugin" in found.find("shared").owner
    assert [(row.distribution, row.disabled) for row in found.plugins()] == [
        ("first-plugin", False),
        ("second-plugin", True),
    ]


@pytest.mark.parametrize("name", ["good", "good-plugin"])
def test_a_disabled_scheme_says_so(site: Path, install: Install, name: str) -> None:
    install("good-plugin", ["good"], WORKING)
    with pytest.raises(UnknownScheme, match="is disabled by INFER_BACKENDS_DISABLE"):
        registry(site, INFER_BACKENDS_DISABLE=name).find("good")


def test_a_distribution_found_twice_is_no_conflict(site: Path, install: Install) -> None:
    install("good-plugin", ["good"], WORKING)
    inner = registry(site)
    twice = Registry(lambda: [*inner._installed(), *inner._installed()], {})
    assert len(twice.plugins()) == 1
    twice.find("good")


BROKEN = {
    "raise RuntimeError('half upgraded')": (PluginError, "failed to import: RuntimeError: half"),
    "raise SystemExit(3)": (PluginError, "failed to import: SystemExit"),
    "import no_such_package_anywhere": (MissingDependency, "needs the module 'no_such_package_any"),
    "import bad_plugin.inner": (PluginError, "is broken: .*install it again: pip install --force"),
    "syntax error": (PluginError, "failed to import: SyntaxError"),
    "x = 1": (PluginError, "needs a line INFER_BACKENDS_API = 1"),
    "INFER_BACKENDS_API = True": (PluginError, "needs a line INFER_BACKENDS_API = 1"),
    "INFER_BACKENDS_API = 7": (PluginError, "for version 7 .* this is version 1: update infer-b"),
    "INFER_BACKENDS_API = 0": (PluginError, "for version 0 .* update the plugin"),
    "INFER_BACKENDS_API = 1": (PluginError, "has no infer_backends_open hook"),
    WORKING.replace("_open", "_opne"): (PluginError, "breaks the plugin contract: .*opne"),
    WORKING.replace("(url)", "(link)"): (PluginError, "breaks the plugin contract: .*link"),
}


@pytest.mark.parametrize("source", BROKEN)
def test_a_broken_plugin_breaks_only_its_own_scheme(
    site: Path, install: Install, source: str
) -> None:
    install("bad-plugin", ["bad"], source)
    install("good-plugin", ["good"], WORKING)
    found = registry(site)
    kind, message = BROKEN[source]
    with pytest.raises(kind, match=message) as caught:
        found.find("bad")
    assert "bad-plugin 1.0" in str(caught.value)
    bad, good = found.plugins()
    assert isinstance(found.check(bad), kind)
    assert found.check(good) is None


def test_a_name_that_is_no_scheme_is_an_error_of_the_plugin(site: Path, install: Install) -> None:
    install("loud-plugin", ["LOUD"], WORKING)
    with pytest.raises(
        PluginError, match="loud-plugin 1.0 has an entry point 'LOUD', which is no sch"
    ):
        registry(site).find("LOUD")


HOOKS = """
from infer_backends.plugin import MissingDependency, ModelURL, Option, hookimpl

INFER_BACKENDS_API = 1

@hookimpl
def infer_backends_open(url, options):
    {opened}

@hookimpl
def infer_backends_options(scheme):
    {options}

@hookimpl
def infer_backends_check():
    {check}
"""


def hooks(
    opened: str = "return None", options: str = "return ()", check: str = "return None"
) -> str:
    return HOOKS.format(opened=opened, options=options, check=check)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (hooks("return None"), "returned NoneType, which is no Backend"),
        (hooks("return 'http'"), "returned str, which is no Backend"),
        (hooks("raise KeyError(url.password)"), "infer_backends_open raised KeyError"),
        (hooks("raise MissingDependency('pip install it')"), "pip install it"),
        (hooks(options="return 3"), "returns a list of Option"),
        (hooks(options="return ['device']"), "returns a list of Option"),
        (hooks(options="return [Option('auth')]"), "declares the option 'auth': it is taken"),
        (hooks(options="return [Option('a'), Option('a')]"), "declares the option 'a'"),
        (hooks(options="raise OSError"), "infer_backends_options raised OSError"),
    ],
)
def test_what_a_plugin_does_wrong_is_laid_at_its_door(
    site: Path, install: Install, source: str, message: str
) -> None:
    install("bad-plugin", ["bad"], source)
    plugin = registry(site).find("bad")

    def use() -> None:
        plugin.options("bad")
        plugin.open(ModelURL.parse("bad://u:hunter2@h/m"), OpenOptions())

    with pytest.raises(PluginError, match=message) as caught:
        use()
    assert "hunter2" not in str(caught.value)


TOLD = """
@hookimpl
def infer_backends_metadata(url):
    {told}
"""


def told(returned: str) -> str:
    return WORKING + TOLD.format(told=returned)


def test_a_plugin_can_tell_what_a_model_is_without_opening_it(site: Path, install: Install) -> None:
    install("a-plugin", ["told"], told("return FakeBackend(url=str(url)).metadata"))
    install("b-plugin", ["doubtful"], told("return None"))
    install("c-plugin", ["silent"], WORKING)
    found, options = registry(site), OpenOptions()
    metadata = found.find("told").metadata(ModelURL.parse("told://h/m"), options)
    assert metadata == FakeBackend().metadata
    for scheme in ("doubtful", "silent"):
        url = ModelURL.parse(f"{scheme}://h/m")
        assert found.find(scheme).metadata(url, options) is None


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("return {'name': 'm'}", "infer_backends_metadata returned dict; expected a ModelMetadata"),
        ("raise KeyError(url.password)", "infer_backends_metadata raised KeyError"),
        ("raise OSError", "infer_backends_metadata raised OSError"),
    ],
)
def test_a_plugin_that_tells_nonsense_is_named(
    site: Path, install: Install, returned: str, message: str
) -> None:
    install("bad-plugin", ["bad"], told(returned))
    plugin = registry(site).find("bad")
    with pytest.raises(PluginError, match=f"bad-plugin 1.0: {message}") as caught:
        plugin.metadata(ModelURL.parse("bad://u:hunter2@h/m"), OpenOptions())
    assert "hunter2" not in str(caught.value)


def test_a_plugin_can_say_what_it_lacks(site: Path, install: Install) -> None:
    install("poor-plugin", ["poor"], hooks(check="raise MissingDependency('pip install money')"))
    found = registry(site)
    error = found.check(found.plugins()[0])
    assert isinstance(error, MissingDependency)


def test_a_registered_backend_serves_as_long_as_it_is_registered() -> None:
    options = [Option("size", int, 3)]

    def opener(url: ModelURL, options: OpenOptions) -> FakeBackend:
        assert options["size"] == 4
        return FakeBackend(url=str(url))

    with register_backend("memory", opener, options=options) as registration:
        assert "memory" in {row.scheme for row in REGISTRY.plugins()}
        with open_model("memory://h/m?size=4") as model:
            assert model([[1, 2, 3]]).tolist() == [[2, 4, 6]]
        with pytest.raises(PluginConflict, match="registered already"):
            register_backend("memory", opener)
        registration.unregister()
        with register_backend("memory", opener):
            registration.unregister()
            REGISTRY.find("memory")
    with pytest.raises(UnknownScheme):
        REGISTRY.find("memory")


@pytest.mark.parametrize("scheme", ["Memory", "a.b", "1a", "", "a b"])
def test_a_registered_scheme_has_to_be_one(scheme: str) -> None:
    with pytest.raises(InvalidURL, match="is no scheme"):
        register_backend(scheme, lambda url, options: FakeBackend())


def test_only_a_function_can_be_registered() -> None:
    with pytest.raises(PluginError, match="pass a function"):
        register_backend("memory", FakeBackend().metadata)  # type: ignore[arg-type]


def test_a_scheme_in_use_is_found_again_without_reading_files(site: Path, install: Install) -> None:
    install("fake-one", ["fakeone"], WORKING)
    found = registry(site)
    plugin = found.find("fakeone")
    for file in site.glob("*.dist-info/*"):
        file.unlink()
    assert found.find("fakeone") is plugin


def test_plugins_that_cannot_be_read_are_an_error_of_the_library() -> None:
    def no_file_left() -> Iterator[Any]:
        raise OSError(24, "Too many open files")

    with pytest.raises(PluginError, match="cannot be read: Too many open files"):
        Registry(no_file_left).find("http")
