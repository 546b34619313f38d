"""Pure: the names of a new plugin, made from the one that its author gives, and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "infer-backends-"

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_AUTHOR = re.compile(r"([^<>,@]*?) *(?:<([^<>,@\s]+@[^<>,@\s]+)>)?")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: The lines of what is written stay below 100 columns with names of so many characters.
_LONGEST = 30
#: Not taken by a plugin, but understood otherwise where a URL is expected.
_NOT_SCHEMES = {"localhost": "the name of a host"}


class BadName(Exception):
    """A name, or another text, cannot be used. The message says what to give instead."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a plugin is called.

    Attributes:
        distribution: The name on PyPI, and of the folder: ``infer-backends-my-runtime``.
        package: What is imported: ``infer_backends_my_runtime``.
        scheme: The scheme of its URLs.
    """

    distribution: str
    package: str
    scheme: str

    @property
    def entry_point(self) -> str:
        """The name of the entry point of the scheme."""
        return self.scheme.replace("+", ".")


def make_names(name: str, scheme: str | None = None) -> Names:
    """The names for a plugin that its author calls ``name``.

    Args:
        name: With or without the prefix ``infer-backends-``; in any spelling that the packaging
            specifications take for the same, or with spaces.
        scheme: The scheme of its URLs; None for one like the name.

    Raises:
        BadName: There can be no distribution, or no scheme, of this name.
    """
    stem = re.sub(r"[-_.\s]+", "-", name.strip()).lower()
    if f"{stem}-" == PREFIX:
        raise BadName(f"{name!r} is the name of the library: give that of a runtime, as my-runtime")
    stem = stem.removeprefix(PREFIX)
    if not _NAME.fullmatch(stem) or len(stem) > _LONGEST:
        raise BadName(
            f"{name!r} is no name for a plugin: expected at most {_LONGEST} ASCII letters and "
            "digits, with '-' between them, as in my-runtime"
        )
    package = (PREFIX + stem).replace("-", "_")
    return Names(PREFIX + stem, package, _checked_scheme(scheme, stem))


def _checked_scheme(scheme: str | None, stem: str) -> str:
    found = stem if scheme is None else scheme
    if found in _NOT_SCHEMES:
        raise BadName(f"{found!r} is {_NOT_SCHEMES[found]}: choose another scheme with --scheme")
    if re.fullmatch(r"[a-z][a-z0-9+-]+", found) and len(found) <= _LONGEST:
        return found
    advice = ": give one with --scheme" if scheme is None else ""
    raise BadName(
        f"{found!r} is no scheme for URLs{advice}; expected a lower-case letter, and then at least "
        f"one letter, digit, '+' or '-', at most {_LONGEST} in all"
    )


def require_free(
    names: Names, schemes: Mapping[str, str], distributions: Mapping[str, str]
) -> None:
    """Refuse names that others have.

    Args:
        names: The names of the new plugin.
        schemes: Who serves which scheme: distributions by scheme.
        distributions: Why a distribution's name is taken, by name.

    Raises:
        BadName: With who has it.
    """
    if names.distribution in distributions:
        raise BadName(
            f"the name {names.distribution} is taken: {distributions[names.distribution]}; choose "
            "another"
        )
    if names.scheme in schemes:
        raise BadName(
            f"the scheme {names.scheme!r} is taken by {schemes[names.scheme]}: choose another with "
            "--scheme"
        )


def parse_author(text: str) -> dict[str, str]:
    """``NAME``, ``NAME <MAIL>`` or ``<MAIL>`` as an author of ``pyproject.toml``.

    Raises:
        BadName: It is none of these.
    """
    found = _AUTHOR.fullmatch(require_line("--author", text))
    if found is None:
        raise BadName(f"--author {text!r}: expected NAME, or 'NAME <MAIL>', without commas")
    name, mail = found.groups()
    return {key: value for key, value in (("name", name), ("email", mail)) if value}


def require_line(option: str, text: str) -> str:
    """A text that fits a line of any file.

    Raises:
        BadName: It is empty, or has line breaks or other control characters.
    """
    line = text.strip()
    if not line or _UNPRINTABLE.search(line):
        raise BadName(f"{option} {text!r}: expected one line of text")
    return line
