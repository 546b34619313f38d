"""The files of a new plugin, made from the templates beside this module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from infer_backends._cli._new_plugin._names import Names
from infer_backends._version import __version__

if TYPE_CHECKING:
    # Where Python 3.10 has it; later ones have it elsewhere.
    from importlib.abc import Traversable

#: The folders of templates that one is chosen of.
KINDS = ("in-process", "server")

_SUFFIX = ".tmpl"
#: What is called otherwise here than in the distribution.
_RENAMED = {"gitignore": ".gitignore"}


def fill(
    names: Names, kind: str, *, description: str, author: dict[str, str] | None
) -> dict[str, str]:
    """The text of every file, by its path in the distribution, sorted.

    Args:
        names: What the plugin is called.
        kind: Where its models run: one of :data:`KINDS`.
        description: One line of what it is.
        author: The author's name, mail address, or both; None for a reminder.
    """
    values = {
        "distribution": names.distribution,
        "package": names.package,
        "scheme": names.scheme,
        "entry_point": f'"{names.entry_point}"' if "." in names.entry_point else names.entry_point,
        "description": description,
        "description_toml": _quote(description),
        "authors": _authors(author),
        "core_version": __version__,
    }
    renamed = {**_RENAMED, "package": names.package}
    folder = files(__package__) / "template"
    templates = [*_templates(folder / "common"), *_templates(folder / kind)]
    return {
        "/".join(renamed.get(part, part) for part in path.split("/")): text.substitute(values)
        for path, text in sorted(templates)
    }


def _templates(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Template]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            text = Template(entry.read_text(encoding="utf-8"))
            yield prefix + entry.name.removesuffix(_SUFFIX), text


def _authors(author: dict[str, str] | None) -> str:
    if author is None:
        return (
            '# YOURS: who wrote it, as in authors = [{ name = "Ada", email = "ada@example.org" }]'
        )
    pairs = ", ".join(f"{key} = {_quote(value)}" for key, value in author.items())
    return f"authors = [{{ {pairs} }}]"


def _quote(text: str) -> str:
    # Without control characters, a string of JSON is one of TOML.
    return json.dumps(text, ensure_ascii=False)
