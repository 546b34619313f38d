"""What is wrong with how plugins are installed. Asked only where an error is to be explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infer_backends._entry_points import (
    FILE,
    described,
    distributions,
    first_of_each,
    folder_of,
    identity,
    normal,
    place,
    raw,
    read,
)

if TYPE_CHECKING:
    from importlib.metadata import Distribution

GROUPS = ("infer_backends", "infer_backends.observers")


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with one installed distribution.

    Attributes:
        distribution: Its name.
        version: Its version; empty if it does not say.
        folder: Where it is installed.
        problem: What is wrong, and what to do.
    """

    distribution: str
    version: str
    folder: str
    problem: str


def damages(path: Sequence[str] | None = None) -> list[Damage]:
    """What is wrong with distributions that have plugins, or may have.

    Args:
        path: Where to look; None for where Python looks for modules.
    """
    found = [(dist, *identity(dist)) for dist in distributions(path)]
    names = {id(dist): (title, version) for dist, title, version in found}
    damaged = []
    for dist in first_of_each(dist for dist, _, _ in found):
        title, version = names[id(dist)]
        again = f"install it again: pip install --force-reinstall {title}"
        problems = [f"{problem}; {again}" for problem in _problems(dist)]
        if _has_plugins(dist):
            same = [(v, place(other)) for other, t, v in found if normal(t) == normal(title)]
            problems += _twice(title, place(dist), same)
        damaged += [Damage(title, version, place(dist), problem) for problem in problems]
    return damaged


def _has_plugins(dist: Distribution) -> bool:
    text = read(dist) or ""
    return any(f"[{group}]" in text.replace(" ", "") for group in GROUPS)


def _problems(dist: Distribution) -> Iterator[str]:
    if _unreadable(dist):
        yield f"its {FILE} may not be read, so that it is not known which plugins it has"
    content = raw(dist)
    # In UTF-16, there is a NUL in every character.
    if b"infer_backends" in content.replace(b"\0", b""):
        try:
            content.decode()
        except UnicodeDecodeError:
            yield f"its {FILE} is no UTF-8 text, so that plugins may be missing"
        if not described(dist):
            yield "its METADATA is missing, or cannot be read"
        elif "Name" not in described(dist) or "Version" not in described(dist):
            yield "its METADATA does not say its name and its version"


def _unreadable(dist: Distribution) -> bool:
    folder = folder_of(dist)
    try:
        return folder is not None and (folder / FILE).exists() and dist.read_text(FILE) is None
    except Exception:  # noqa: BLE001 - the text is there; whether it can be decoded is asked above
        return False


def _twice(title: str, folder: str, same: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Whether one folder has two versions: one was not removed when the other came.

    In two folders they are no mistake: the first hides the second.
    """
    versions = sorted({version for version, where in same if where == folder})
    if len(versions) > 1:
        yield (
            f"{folder} has {title} in several versions, {' and '.join(versions)}: run pip "
            f"uninstall {title} until none is left, and install it again"
        )
