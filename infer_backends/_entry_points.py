"""The entry points of installed plugins: whose they are, and which of them are disabled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

DISABLE = "INFER_BACKENDS_DISABLE"


def installed(group: str) -> Iterable[EntryPoint]:
    """The entry points of a group; imports none of what they name."""
    # Costs a fifth of importing NumPy, and is needed by the first open only.
    from importlib.metadata import entry_points

    return entry_points(group=group)


def distribution(entry_point: EntryPoint) -> str:
    """The normal name of the distribution behind an entry point."""
    dist = entry_point.dist
    return _normal(dist.name) if dist is not None else entry_point.value


def disabled_names(environ: Mapping[str, str]) -> frozenset[str]:
    """What the variable that disables plugins names, for :func:`is_disabled`."""
    names = environ.get(DISABLE, "").replace(",", " ").split()
    return frozenset(_normal(name) for name in names)


def is_disabled(entry_point: EntryPoint, disabled: frozenset[str]) -> bool:
    """Whether an entry point is disabled: by its name, scheme, distribution, or both of them."""
    scheme = entry_point.name.replace(".", "+")
    dist = distribution(entry_point)
    names = {_normal(entry_point.name), _normal(scheme), dist, f"{dist}:{_normal(scheme)}"}
    return not names.isdisjoint(disabled)


def _normal(name: str) -> str:
    """A distribution's name as the packaging specifications compare it; leaves schemes alone."""
    return re.sub(r"[-_.]+", "-", name).lower()
