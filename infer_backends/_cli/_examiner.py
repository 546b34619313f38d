"""The process that ``_examination`` starts: looks at one plugin after the other, and says so."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

from infer_backends._cli._examination import Row, Say, as_value, open_report
from infer_backends._cli._failures import INTERRUPTED
from infer_backends._entry_points import (
    DISABLE,
    Claim,
    installed,
    names_of,
    normal,
    written_names,
)
from infer_backends._errors import InferError, MissingDependency, PluginConflict
from infer_backends._installation import GROUPS, damages
from infer_backends._observer_plugins import INSTALLED, Observer, ObserverInfo
from infer_backends._registry import REGISTRY, PluginInfo

#: How long an import may take before it is remarked upon, in seconds.
_SLOW = 1.0


def main() -> None:
    """Look at every plugin. The faults that are known already come in by standard input."""
    known: dict[str, str] = json.load(sys.stdin)
    say = open_report()
    with tempfile.TemporaryFile() as printed:
        # What plugins print goes where it can be seen that they did.
        os.dup2(printed.fileno(), 1)
        try:
            _Examiner(known, say, printed).look_at_all()
        except KeyboardInterrupt:
            os._exit(INTERRUPTED)
    say("end", None)
    # Not even what plugins do at exit is of interest.
    os._exit(0)


class _Examiner:
    """Looks at plugins one after the other.

    Args:
        known: What is known already, by what is imported.
        say: Tells whoever started this process.
        printed: What was printed so far.
    """

    def __init__(self, known: dict[str, str], say: Say, printed: IO[bytes]) -> None:
        self._known = known
        self._say = say
        self._printed = printed

    def look_at_all(self) -> None:
        """Look at all that there is."""
        for info in REGISTRY.plugins():
            row = Row(info.scheme, info.distribution, info.version, module=info.module)
            self._look_at(replace(row, folder=info.folder), info.disabled, _scheme(info))
        for found in INSTALLED.plugins():
            row = Row("", found.distribution, found.version, observer=found.name)
            row = replace(row, module=found.claim.value, folder=found.claim.folder)
            self._look_at(row, found.disabled, _observer(found))
        for damage in damages():
            self._say("damage", as_value(damage))
        claims = [claim for group in GROUPS for claim in installed(group)]
        for name in written_names(os.environ):
            if not any(normal(name) in names_of(claim) for claim in claims):
                self._say("unmatched", name)

    def _look_at(self, row: Row, disabled: bool, load: Callable[[Row], Row]) -> None:
        if disabled:
            self._say("row", as_value(replace(row, state="disabled", reason=f"by {DISABLE}")))
            return
        fault = self._known.get(row.where)
        if fault is not None:
            owner = Claim(row.name, row.module, row.distribution, row.version).owner
            advice = f"install another version of {row.distribution}, or report this to its author"
            reason = f"{owner} cannot be used: {fault}; {advice}"
            self._say("row", as_value(replace(row, state="broken", reason=reason)))
            return
        self._say("looking", as_value(row))
        before = self._surroundings()
        row = load(row)
        remarks = [text for text, now in self._surroundings().items() if now != before[text]]
        if row.import_seconds is not None and row.import_seconds > _SLOW:
            remarks.insert(0, f"takes {row.import_seconds:.1f} s to be imported")
        self._say("row", as_value(replace(row, remarks=tuple(remarks))))

    def _surroundings(self) -> dict[str, object]:
        """What a plugin has no business to change, as it is now."""
        sys.stdout.flush()
        root = logging.getLogger()
        return {
            "prints when it is imported": os.fstat(self._printed.fileno()).st_size,
            "changes the current folder when it is imported": Path.cwd(),
            "configures logging when it is imported": (
                *(root.level, root.manager.disable),
                *root.handlers,
            ),
        }


def _scheme(info: PluginInfo) -> Callable[[Row], Row]:
    def load(row: Row) -> Row:
        error = REGISTRY.check(info)
        try:
            plugin = REGISTRY.find(info.scheme)
        except InferError:
            return _judged(row, error)
        return replace(
            _judged(row, error), api_version=plugin.version, import_seconds=plugin.seconds
        )

    return load


def _observer(info: ObserverInfo) -> Callable[[Row], Row]:
    def load(row: Row) -> Row:
        found = INSTALLED.check(info)
        if isinstance(found, Observer):
            return replace(row, api_version=found.version, import_seconds=found.seconds)
        return _judged(row, found)

    return load


def _judged(row: Row, error: InferError | None) -> Row:
    if error is None:
        return row
    state = "broken"
    if isinstance(error, PluginConflict):
        state = "conflict"
    elif isinstance(error, MissingDependency):
        state = "missing"
    return replace(row, state=state, reason=str(error))
