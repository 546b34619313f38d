"""What ``docs/reference/compatibility.md`` promises to those who use the doors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from infer_backends import __version__
from infer_backends.plugin import API_VERSION
from tests.architecture.doors import (
    Described,
    breaks,
    broken,
    describe,
    doors,
    recorded,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/compatibility.md").read_text()
WHAT_TO_DO = """
Plugins and applications that are out there use this. Either keep what was there (add a new name, an
argument with a default, or a protocol of its own beside it), or, for a new major version or before
1.0, raise API_VERSION in infer_backends/_hookspecs.py, see to it that plugins written for the
version before still work, and say in docs/reference/compatibility.md what changes for authors.
If it breaks nobody after all (an argument that takes more than before), record it as it is:
python -m tests.architecture.doors"""


def test_the_doors_still_have_all_that_the_last_release_promised() -> None:
    before = recorded()
    # A new version of the contract is what says that it breaks with the old one.
    if before["API_VERSION"] == API_VERSION:
        lost = breaks(before, doors())
        assert lost == [], "\n".join(["", *lost, WHAT_TO_DO])


def test_each_release_records_its_doors() -> None:
    assert recorded()["version"] == __version__, (
        "what this release adds is a promise from now on: python -m tests.architecture.doors"
    )


def test_a_new_version_of_the_contract_is_the_next_one() -> None:
    assert recorded()["API_VERSION"] in {API_VERSION, API_VERSION - 1}


# --- what is taken for a break -------------------------------------------------------------------

SOURCE = """
import enum
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

LIMIT = 3

@dataclass
class Request:
    name: str
    size: int = 0

    @property
    def empty(self) -> bool: ...

    @classmethod
    def read(cls, text: str) -> object: ...

@runtime_checkable
class Runs(Protocol):
    def run(self, request: Request) -> int: ...

class Color(enum.Enum):
    RED = "red"

class Wrong(ValueError):
    def __init__(self, message: str = "") -> None: ...

def double(number: int, *, times: int = 1) -> int: ...
"""


def made_up(source: str) -> Described:
    """The names of a module of that source, described."""
    names: dict[str, Any] = {"__name__": "tests.made_up"}
    exec(compile(source, "made_up", "exec", dont_inherit=True), names)  # noqa: S102 - our own text
    exported = ("LIMIT", "Request", "Runs", "Color", "Wrong", "double")
    return {name: describe(names[name]) for name in exported if name in names}


def broken_by(old: str, new: str) -> list[str]:
    """What a change of the source breaks."""
    assert SOURCE.count(old) == 1
    return broken(made_up(SOURCE), made_up(SOURCE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3\ndef other(): ..."),
        ("    size: int = 0", "    size: int = 0\n    more: str = ''"),
        ("    @property", "    def more(self): ...\n    @property"),
        ("text: str", "text: str, more: int = 0"),
        ("text: str", "text: str, **more: int"),
        ('RED = "red"', 'RED = "red"; BLUE = "blue"'),
        ("Wrong(ValueError)", "Wrong(ValueError, LookupError)"),
        ('message: str = ""', 'message: str = "", *, more: int = 0'),
        ("*, times: int = 1", "*, more: int = 0, times: int = 1"),
    ],
)
def test_what_is_added_breaks_nobody(old: str, new: str) -> None:
    assert broken_by(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("LIMIT = 3", "", "LIMIT has gone"),
        ("    size: int = 0", "", "the argument 'size' of Request has gone"),
        ("size: int = 0", "size: int", "the argument 'size' of Request has another type, default"),
        ("name: str", "name: bytes", "the argument 'name' of Request has another type"),
        ("name: str", "name: bytes", "Request.name is of another type: <class 'bytes'>"),
        ("name: str", "name: str\n    more: int", "'more' of Request is new and has no default"),
        ("name: str", "more: int\n    name: str", "'more' of Request is new and has no default"),
        ("    size:", "    more: int = 0\n    size:", "'more' of Request is new and not the last"),
        ("def empty", "def full", "Request.empty has gone"),
        ("-> bool", "-> int", "Request.empty is of another type"),
        ("-> object", "-> int", "Request.read is of another type"),
        ("class Request:", "class Request(Protocol):", "Request was a kind of class"),
        ("-> int: ...\n\nclass", "-> str: ...\n\nclass", "Runs.run has gone, or is called in"),
        (
            "def run(self, ",
            "def run(self, more, ",
            "Runs.run has gone, or is called in another way",
        ),
        ("    def run", "    async def run", "Runs.run has gone, or is called in another way"),
        ("    def run", "    more: int\n    def run", "Runs.more is new: backends that are out"),
        ('RED = "red"', 'BLUE = "blue"', "Color.RED has gone, or has another value"),
        ('RED = "red"', 'RED = "r"', "Color.RED has gone, or has another value"),
        ("Wrong(ValueError)", "Wrong(Exception)", "Wrong is no ValueError any more"),
        ("*, times: int = 1", "times: int = 1", "'times' of double has another type, default or k"),
        ("times: int = 1", "times: int = 2", "'times' of double has another type, default or kind"),
        ("times: int = 1", "times: int = 1, more: int", "'more' of double is new and has no def"),
        ("number: int, *, times: int = 1", "times: int = 1, number: int = 2", "in another order"),
    ],
)
def test_what_breaks_somebody_is_found(old: str, new: str, said: str) -> None:
    assert any(said in line for line in broken_by(old, new)), broken_by(old, new)


def test_a_hook_may_get_more_arguments_and_may_not_lose_one() -> None:
    def hook(*arguments: str, returns: str = "int") -> Described:
        named = [[name, "positional or keyword", "str"] for name in arguments]
        return {"h": {"kind": "hook", "arguments": named, "returns": returns}}

    assert broken(hook("url"), hook("url", "options")) == []
    assert broken(hook("url", "options"), hook("url")) == [
        "the argument 'options' of the hook h has gone, or changed"
    ]
    assert broken(hook("url"), hook("url", returns="str")) == [
        "the hook h has to return something else"
    ]


def test_a_name_that_goes_from_another_door_is_found() -> None:
    now = doors()
    before = {**now, "names": {**now["names"], "infer_backends": ["open_model", "open_sesame"]}}
    assert breaks(before, now) == ["infer_backends.open_sesame has gone"]


# --- what the page says --------------------------------------------------------------------------


def test_the_page_names_the_versions_that_the_project_declares() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    pythons = re.findall(r"Python :: (3\.\d+)", project)
    stated = re.search(r"Python (3\.\d+) to (3\.\d+)", PAGE)
    assert stated is not None
    assert [stated[1], stated[2]] == [pythons[0], pythons[-1]]
    assert f'requires-python = ">={pythons[0]}"' in project
    numpy = re.search(r'^dependencies = \["numpy>=([0-9.]+)",', project, re.MULTILINE)
    assert numpy is not None
    assert f"NumPy {numpy[1]} and later" in PAGE


def test_the_page_names_the_version_of_the_contract() -> None:
    assert re.findall(r"^INFER_BACKENDS_API = (\d+)$", PAGE, re.MULTILINE) == [str(API_VERSION)]
    assert f"is version {API_VERSION}" in PAGE
