"""What an entry point names, imported; and when that fails, whose fault it is and what to do.

Nothing of ours is locked meanwhile: Python lets one thread import a module, others that want the
same one wait for it, and nobody else does. So a plugin that hangs holds up its own schemes only.
"""

from __future__ import annotations

import functools
import importlib
import re
import threading
import time
from typing import NamedTuple

from infer_backends._entry_points import Claim
from infer_backends._errors import MissingDependency, PluginError
from infer_backends._interruptions import from_outside
from infer_backends._masking import CONTROL
from infer_backends._version import __version__

#: How long an import may take before it is worth a line in the log, in seconds.
SLOW = 5.0

_CORE = "infer_backends"
_VALUE = re.compile(r"(?P<module>\w+(\.\w+)*)\s*(:\s*(?P<path>\w+(\.\w+)*)\s*)?(\[.*\]\s*)?\Z")
#: What the loaders of shared libraries say, on Linux, macOS and Windows.
_LIBRARY = re.compile(
    r"cannot open shared object|undefined symbol|dlopen\(|DLL load failed|Library not loaded|"
    r"GLIBC|wrong ELF class|invalid ELF|incompatible architecture"
)
_LONGEST_SHOWN = 300

_importing: set[tuple[int, str]] = set()


class Imported(NamedTuple):
    """What was imported.

    Attributes:
        plugin: What the entry point names.
        seconds: How long it took.
    """

    plugin: object
    seconds: float


def import_claim(claim: Claim) -> Imported:
    """What an entry point names, imported.

    Raises:
        PluginError: It cannot be imported; the message names its distribution.
    """
    found = _VALUE.match(claim.value) if claim.complete else None
    if found is None:
        written = f"{claim.name} = {claim.value}" if claim.complete else claim.name
        raise PluginError(
            f"{claim.owner} has an entry point that names no module: expected "
            f"'scheme = package.module', got {shown(written)!r}; {reinstall(claim)}"
        )
    module, path = found["module"], found["path"]
    key = (threading.get_ident(), module)
    if key in _importing:
        raise PluginError(
            f"{claim.owner} opens a URL of its own scheme while it is imported: do that in a "
            f"function that is called later; {report(claim)}"
        )
    _importing.add(key)
    began = time.monotonic()
    try:
        imported = importlib.import_module(module)
        seconds = time.monotonic() - began
        plugin = functools.reduce(getattr, path.split("."), imported) if path else imported
    except BaseException as exc:
        if from_outside(exc):
            raise
        raise _failure(claim, module, path, exc) from exc
    finally:
        _importing.discard(key)
    if seconds > SLOW:
        _warn(claim, seconds)
    return Imported(plugin, seconds)


def _failure(claim: Claim, module: str, path: str | None, exc: BaseException) -> PluginError:
    if isinstance(exc, ImportError) and (exc.name or "").partition(".")[0] == _CORE:
        return PluginError(
            f"{claim.owner} was made for another version of infer-backends than this, "
            f"{__version__}: {_said(exc)}; update both: pip install --upgrade infer-backends "
            f"{claim.title}"
        )
    if isinstance(exc, ModuleNotFoundError):
        if exc.name is None or exc.name.partition(".")[0] == module.partition(".")[0]:
            return PluginError(f"{claim.owner} is broken: {_said(exc)}; {reinstall(claim)}")
        return MissingDependency(
            f"{claim.owner} needs the module {exc.name!r}, which is not installed; "
            f"pip install {claim.title} brings what it says that it needs"
        )
    if path and isinstance(exc, AttributeError):
        # Raised by the module itself, or by looking up what it lacks: the text says which.
        advice = f"its entry point is {claim.value!r}; {reinstall(claim)}"
    else:
        advice = _advice(claim, exc)
    said = ": ".join(filter(None, [type(exc).__name__, _said(exc)]))
    return PluginError(f"{claim.owner} failed to import: {said}; {advice}")


def _advice(claim: Claim, exc: BaseException) -> str:
    if isinstance(exc, Warning):
        return (
            "warnings are errors in this process (python -W, PYTHONWARNINGS, or "
            f"warnings.simplefilter): make an exception for this one, or update {claim.title}"
        )
    if isinstance(exc, SystemExit):
        return f"it would have ended this program; {report(claim)}"
    if isinstance(exc, (ImportError, OSError)) and _LIBRARY.search(str(exc)):
        return (
            "a shared library that it needs is missing, or made for another machine: install "
            f"that library, or another build of what {claim.title} needs"
        )
    return report(claim)


def reinstall(claim: Claim) -> str:
    """What to do about a distribution of which parts are missing."""
    return f"install it again: pip install --force-reinstall {claim.title}"


def report(claim: Claim) -> str:
    """What to do about a distribution that is wrong."""
    return f"install another version of {claim.title}, or report this to its author"


def shown(text: str) -> str:
    """The text of a stranger as one line, without what a terminal would obey, and not too long."""
    line = CONTROL.sub("?", " ".join(text.split()))
    return line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}..."


def _said(exc: BaseException) -> str:
    try:
        return shown(str(exc))
    except Exception:  # noqa: BLE001 - an exception that cannot even be printed
        return "(it cannot be shown)"


def _warn(claim: Claim, seconds: float) -> None:
    # Imported where it is used: importing the library has to stay cheap.
    import logging

    logging.getLogger("infer_backends").warning(
        "importing %s took %.1f s: a plugin had better import its runtime when a model is opened",
        claim.owner,
        seconds,
    )
