"""Distributions whose metadata is damaged, doubled or gone, and what that does to the others."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from infer_backends import PluginConflict, PluginError, UnknownScheme
from infer_backends._entry_points import installed
from infer_backends._installation import damages
from infer_backends._registry import GROUP, Registry
from tests.plugins.conftest import ANSWER, WORKING, Install, outcomes

Damage = Callable[[Path], object]


def registry(site: Path, **environ: str) -> Registry:
    return Registry(lambda: installed(GROUP, [str(site)]), environ)


def entry_points(content: str | bytes) -> Damage:
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / "entry_points.txt").write_bytes(raw)


def described(content: str | bytes) -> Damage:
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / "METADATA").write_bytes(raw)


def _folder_in_its_place(folder: Path) -> None:
    # As good as one that may not be read: tests run as root, too.
    (folder / "entry_points.txt").unlink()
    (folder / "entry_points.txt").mkdir()


NO_MODULE = "has an entry point that names no module: expected 'scheme = package.module', got "
#: What is done to the metadata -> what comes of opening bad://h/m; empty for an answer.
DAMAGES: dict[str, tuple[Damage, str]] = {
    "no METADATA": (lambda folder: (folder / "METADATA").unlink(), ""),
    "METADATA that is no text": (described(b"\xff\xfeName: \x80\n"), ""),
    "METADATA without a name": (described("Metadata-Version: 2.1\nVersion: 1.0\n"), ""),
    "METADATA without a version": (described("Metadata-Version: 2.1\nName: bad-plugin\n"), ""),
    "an empty METADATA": (described(""), ""),
    "no entry points": (lambda folder: (folder / "entry_points.txt").unlink(), "UnknownScheme: "),
    "a group twice": (
        entry_points("[infer_backends]\nbad = bad_plugin\n[infer_backends]\nworse = bad_plugin\n"),
        "",
    ),
    "comments and blanks": (
        entry_points("# ours\n\n[ infer_backends ]\n; here\n  bad=bad_plugin\n"),
        "",
    ),
    "bytes that are no text": (
        entry_points(b"[infer_backends]\nbad = bad_plugin\n\xff\xfe = \x80\n"),
        "",
    ),
    "UTF-16": (
        entry_points("[infer_backends]\nbad = bad_plugin\n".encode("utf-16")),
        "Besides, bad-plugin 1.0 is damaged: its entry_points.txt is no UTF-8 text",
    ),
    "a line without =": (entry_points("[infer_backends]\nbad\n"), f"{NO_MODULE}'bad'"),
    "nothing after =": (entry_points("[infer_backends]\nbad =\n"), f"{NO_MODULE}'bad ='"),
    "a module with a blank": (
        entry_points("[infer_backends]\nbad = bad plugin\n"),
        f"{NO_MODULE}'bad = bad plugin'",
    ),
    "a NUL": (
        entry_points("[infer_backends]\nbad = bad\0plugin\n"),
        f"{NO_MODULE}'bad = bad?plugin'",
    ),
    "a file that may not be read": (
        _folder_in_its_place,
        "Besides, bad-plugin 1.0 is damaged: its entry_points.txt may not be read",
    ),
    "no module": (
        lambda folder: (folder.parent / "bad_plugin.py").unlink(),
        "is broken: No module named 'bad_plugin'; install it again: pip install --force-reinstall",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_says_so_and_damages_no_other(
    site: Path, install: Install, good: str, damage: str
) -> None:
    install("bad-plugin", ["bad"], WORKING)
    do, message = DAMAGES[damage]
    do(site / "bad_plugin-1.0.dist-info")
    bad, fine = outcomes(site, "bad://h/m", good)
    assert message in bad
    assert bool(message) == (bad != ANSWER)
    assert fine == ANSWER


def test_a_stranger_that_is_damaged_is_none_of_our_business(
    site: Path, install: Install, good: str
) -> None:
    for number, name in enumerate(["METADATA", "entry_points.txt", "RECORD"]):
        folder = site / f"stranger{number}-1.0.dist-info"
        folder.mkdir()
        (folder / name).write_bytes(b"\xff\xfe[console_scripts\nx")
    (site / "empty-1.0.dist-info").mkdir()
    assert outcomes(site, good) == [ANSWER]
    assert damages([str(site)]) == []


def test_a_distribution_of_another_kind_that_cannot_be_read_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Odd(metadata.Distribution):
        def read_text(self, filename: str) -> str | None:
            if filename == "entry_points.txt":
                return "[infer_backends]\nodd = odd_plugin\n"
            raise LookupError

        def locate_file(self, path: object) -> Path:
            raise LookupError

    monkeypatch.setattr(metadata, "distributions", lambda **_: iter([Odd()]))
    (claim,) = installed(GROUP)
    assert claim.owner == "the plugin 'odd' of a distribution without a name"
    assert [damage.distribution for damage in damages()] == []


def test_a_finder_that_raises_is_an_error_of_the_library() -> None:
    def raises() -> list[object]:
        raise ZeroDivisionError

    with pytest.raises(PluginError, match="cannot be read: ZeroDivisionError, raised by what Pyth"):
        Registry(raises, {}).find("http")  # type: ignore[arg-type]  # as a stranger's finder may do


def test_what_pip_left_half_removed_does_not_count(site: Path, install: Install) -> None:
    install("bad-plugin", ["bad"], WORKING)
    (site / "bad_plugin-1.0.dist-info").rename(site / "~ad_plugin-1.0.dist-info")
    with pytest.raises(UnknownScheme):
        registry(site).find("bad")


NAMES = ["b", "Bad", "bad it", "bad_it", "bäd", "", "1bad", "bad/x"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_scheme_is_listed_as_broken_and_not_offered(
    site: Path, install: Install, name: str
) -> None:
    install("bad-plugin", [name, "fine"], WORKING)
    found = registry(site)
    (row,) = [row for row in found.plugins() if row.scheme == name]
    error = found.check(row)
    assert f"bad-plugin 1.0 has an entry point {name!r}, which is no scheme: expected" in str(error)
    found.find("fine")
    with pytest.raises(UnknownScheme, match=r"installed are: fine\."):
        found.find("nothing")


def test_one_distribution_that_claims_a_scheme_twice_is_told_so(
    site: Path, install: Install
) -> None:
    install("bad-plugin", ["x.y", "fine"], WORKING)
    file = site / "bad_plugin-1.0.dist-info/entry_points.txt"
    file.write_text(file.read_text() + "x+y = bad_plugin.other\n")
    found = registry(site)
    with pytest.raises(PluginConflict) as caught:
        found.find("x+y")
    assert str(caught.value) == (
        "the scheme 'x+y' is claimed twice by bad-plugin 1.0, as x+y = bad_plugin.other and "
        "x.y = bad_plugin: install another version of it, or report this to its author"
    )
    found.find("fine")
    registry(site, INFER_BACKENDS_DISABLE="bad-plugin:nothing x+y").plugins()


def test_overriding_a_scheme_of_the_project_is_a_conflict_with_every_way_out(
    site: Path, install: Install, good: str
) -> None:
    install("bad-plugin", ["http", "bad"], WORKING)
    conflict, bad, fine = outcomes(site, "http://h/m", "bad://h/m", good)
    assert conflict.startswith(
        "PluginConflict: the scheme 'http' is claimed by bad-plugin 1.0 and infer-backends-triton "
    )
    ways = {"infer-backends-triton:http": "bad-plugin", "bad-plugin:http": "infer-backends-triton"}
    for disabled, used in ways.items():
        assert f"set INFER_BACKENDS_DISABLE={disabled} to use {used}" in conflict
    assert bad == fine == ANSWER
    disabled = "infer-backends-triton:http"
    assert outcomes(site, "http://h/m", INFER_BACKENDS_DISABLE=disabled) == [ANSWER]
    (without,) = outcomes(
        site, "http://127.0.0.1:9/m?timeout=5", INFER_BACKENDS_DISABLE="bad-plugin:http"
    )
    assert without.startswith("Unavailable")


@pytest.mark.parametrize("version", ["2.0", "10.0"])
def test_half_an_upgrade_is_recognised(
    site: Path, install: Install, good: str, version: str
) -> None:
    install("bad-plugin", ["bad"], WORKING)
    newer = site / f"bad_plugin-{version}.dist-info"
    shutil.copytree(site / "bad_plugin-1.0.dist-info", newer)
    (newer / "METADATA").write_text(f"Name: bad-plugin\nVersion: {version}\n")
    # It works as long as its module does, whichever of the two says where that is.
    assert outcomes(site, "bad://h/m", good) == [ANSWER, ANSWER]
    (site / "bad_plugin.py").unlink()
    bad, fine = outcomes(site, "bad://h/m", good)
    assert "has bad-plugin in several versions, " in bad
    assert "run pip uninstall bad-plugin until none is left, and install it again" in bad
    assert fine == ANSWER


def test_of_two_folders_the_first_hides_the_second(
    site: Path, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> None:
    install("bad-plugin", ["bad"], WORKING)
    second = tmp_path_factory.mktemp("second")
    shutil.copytree(site / "bad_plugin-1.0.dist-info", second / "Bad.Plugin-0.9.dist-info")
    (second / "Bad.Plugin-0.9.dist-info/METADATA").write_text("Name: Bad.Plugin\nVersion: 0.9\n")
    (claim,) = installed(GROUP, [str(site), str(second)])
    assert claim.release == "bad-plugin 1.0"
    assert damages([str(site), str(second)]) == []


def test_what_is_installed_while_the_process_runs_is_found(site: Path, install: Install) -> None:
    found = registry(site)
    with pytest.raises(UnknownScheme):
        found.find("late")
    install("late-plugin", ["late"], WORKING)
    found.find("late")


def test_what_is_uninstalled_while_the_process_runs_works_if_it_was_used(
    site: Path, install: Install
) -> None:
    install("used-plugin", ["used"], WORKING)
    install("idle-plugin", ["idle"], WORKING)
    found = registry(site)
    plugin = found.find("used")
    for name in ("used", "idle"):
        shutil.rmtree(site / f"{name}_plugin-1.0.dist-info")
        (site / f"{name}_plugin.py").unlink()
    importlib.invalidate_caches()
    assert found.find("used") is plugin
    with pytest.raises(UnknownScheme, match="was changed while this process runs: start it again"):
        found.find("idle")


def test_what_is_upgraded_before_it_was_used_is_the_new_one(site: Path, install: Install) -> None:
    install("bad-plugin", ["bad"], "raise RuntimeError('bug')")
    found = registry(site)
    with pytest.raises(PluginError, match=r"bad-plugin 1\.0 failed to import"):
        found.find("bad")
    shutil.rmtree(site / "bad_plugin-1.0.dist-info")
    install("bad-plugin", ["bad"], WORKING, version="2.0")
    # Of another length, in case that the file system's clock is coarse.
    assert found.find("bad").owner == "the plugin 'bad' of bad-plugin 2.0"
