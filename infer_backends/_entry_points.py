"""The entry points of installed plugins: whose they are, and which of them are disabled.

``importlib.metadata.entry_points`` raises for all of them when one distribution, of whomever, is
damaged. So each is read here by itself: what can be read of it counts, and the rest is for
``_installation`` to explain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import Distribution

DISABLE = "INFER_BACKENDS_DISABLE"
FILE = "entry_points.txt"


@dataclass(frozen=True, slots=True)
class Claim:
    """One entry point of one installed distribution; nothing that it names was imported.

    Attributes:
        name: Its name; that of a backend is its scheme, with ``.`` for ``+``.
        value: What it names: a module, or ``module:object``.
        title: The distribution's name, as its author writes it.
        version: The distribution's version; empty if it does not say.
        folder: Where the distribution is installed; empty if that is no folder.
        complete: Whether the line has an ``=``.
    """

    name: str
    value: str
    title: str
    version: str = ""
    folder: str = ""
    complete: bool = True

    @property
    def scheme(self) -> str:
        """The scheme that its name stands for."""
        return self.name.replace(".", "+")

    @property
    def distribution(self) -> str:
        """The normal name of the distribution."""
        return normal(self.title)

    @property
    def release(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.title} {self.version}".rstrip()

    @property
    def owner(self) -> str:
        """The plugin, for messages."""
        return f"the plugin {self.name!r} of {self.release}"


def installed(group: str, path: Sequence[str] | None = None) -> list[Claim]:
    """The entry points of a group; imports none of what they name.

    Args:
        group: Its name.
        path: Where to look; None for where Python looks for modules.
    """
    claims: dict[tuple[str, str, str], Claim] = {}
    for dist in first_of_each(distributions(path)):
        text = read(dist) or ""
        if f"[{group}]" in text.replace(" ", ""):
            title, version = identity(dist)
            folder = place(dist)
            for name, value, complete in _lines(text, group):
                claim = Claim(name, value, title, version, folder, complete)
                # Without a name by which to tell it apart, one may be found twice on the path.
                claims.setdefault((claim.distribution, name, value), claim)
    return list(claims.values())


def distributions(path: Sequence[str] | None = None) -> Iterator[Distribution]:
    """Every installed distribution, some of them several times; not what pip left half removed."""
    # Costs a fifth of importing NumPy, and is needed by the first open only.
    from importlib import metadata

    found = metadata.distributions() if path is None else metadata.distributions(path=list(path))
    return (dist for dist in found if not _stem(dist).startswith("~"))


def first_of_each(found: Iterable[Distribution]) -> Iterator[Distribution]:
    """Of those with one name only the first, whose modules are those that are imported."""
    seen = set()
    for dist in found:
        # By the name of its folder: reading what is in it takes much longer.
        name = normal(_stem(dist).partition("-")[0]) or id(dist)
        if name not in seen:
            seen.add(name)
            yield dist


def read(dist: Distribution) -> str | None:
    """Its file of entry points, as far as it is text; None if it has none, or none to be read."""
    try:
        return dist.read_text(FILE)
    except UnicodeDecodeError:
        return raw(dist).decode("utf-8", "replace")
    except Exception:  # noqa: BLE001 - whose distribution this is, is not known
        return None


def raw(dist: Distribution) -> bytes:
    """The bytes of that file; none if they cannot be read."""
    try:
        content: bytes = (folder_of(dist) / FILE).read_bytes()
    except Exception:  # noqa: BLE001 - no folder, or nothing in it
        return b""
    return content


def folder_of(dist: Distribution) -> Any:
    """The folder of its metadata; None for one that has none."""
    return getattr(dist, "_path", None)


def place(dist: Distribution) -> str:
    """Where it is installed; empty if that is no folder."""
    folder = folder_of(dist)
    return "" if folder is None else str(folder.parent)


def identity(dist: Distribution) -> tuple[str, str]:
    """Its name and its version; as its folder has them, if its metadata does not say."""
    name, _, version = _stem(dist).partition("-")
    found = described(dist)
    return found.get("Name") or name or "a distribution without a name", (
        found.get("Version") or version
    )


def described(dist: Distribution) -> dict[str, str]:
    """Its metadata by header; empty if it cannot be read."""
    try:
        found: Any = dist.metadata
        return {name: str(found[name]) for name in found.keys()}  # noqa: SIM118 - it is no dict
    except Exception:  # noqa: BLE001 - missing, or no text: the names of files will do
        return {}


def _stem(dist: Distribution) -> str:
    folder = folder_of(dist)
    name = "" if folder is None else str(folder.name)
    stem, dot, ending = name.rpartition(".")
    return stem if dot and ending in {"dist-info", "egg-info"} else ""


def _lines(text: str, group: str) -> Iterator[tuple[str, str, bool]]:
    """The entries of a group: name, value, and whether the line is a whole one."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            section = line[1:-1].strip()
        elif section == group:
            name, separator, value = line.partition("=")
            yield name.strip(), value.strip(), bool(separator)


def disabled_names(environ: Mapping[str, str]) -> frozenset[str]:
    """What the variable that disables plugins names, for :func:`is_disabled`."""
    return frozenset(normal(name) for name in written_names(environ))


def written_names(environ: Mapping[str, str]) -> list[str]:
    """The names in the variable that disables plugins, as they are written."""
    return environ.get(DISABLE, "").replace(",", " ").split()


def is_disabled(claim: Claim, disabled: frozenset[str]) -> bool:
    """Whether an entry point is disabled: by its name, scheme, distribution, or both of them."""
    return not names_of(claim).isdisjoint(disabled)


def names_of(claim: Claim) -> frozenset[str]:
    """All that an entry point can be disabled by."""
    own, dist = {normal(claim.name), normal(claim.scheme)}, claim.distribution
    return frozenset({dist, *own, *(f"{dist}:{name}" for name in own)})


def normal(name: str) -> str:
    """A distribution's name as the packaging specifications compare it; leaves schemes alone."""
    return re.sub(r"[-_.]+", "-", name).lower()
