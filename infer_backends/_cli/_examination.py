"""Loads every plugin, in a process of its own: whatever one of them does there is seen from here.

A plugin may end its process, crash it, hang, print, or change what all of it shares. So the process
says what it is about to look at, and what it found, a line of JSON each; when it falls silent, or
ends, the plugin that it was looking at is to blame, and another process goes on with the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from infer_backends._cli._failures import Failure
from infer_backends._installation import Damage

#: How long one plugin may take to be imported and checked, in seconds.
PATIENCE = 30.0

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from infer_backends._cli._examiner import main; main()"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One scheme, one observer, or one damaged distribution, and how it fares.

    Attributes:
        scheme: The scheme, as in a URL; empty for an observer, and for a damaged distribution.
        distribution: What was installed.
        version: Its version.
        state: ``ready``, ``disabled``, ``conflict``, ``missing`` (a package) or ``broken``.
        reason: Why it is not ready, and what to do; empty when it is.
        observer: The observer's name; empty for a scheme.
        module: What the entry point names.
        folder: Where the distribution is installed.
        api_version: The version of the contract that it was written for; None if that is not known.
        import_seconds: How long importing it took; None if it was not imported.
        remarks: What works, and should not be as it is.
    """

    scheme: str
    distribution: str
    version: str
    state: str = "ready"
    reason: str = ""
    observer: str = ""
    module: str = ""
    folder: str = ""
    api_version: int | None = None
    import_seconds: float | None = None
    remarks: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """What it is called: its scheme, or its name."""
        return self.scheme or self.observer

    @property
    def where(self) -> str:
        """What is imported for it: rows that share it share its faults."""
        return f"{self.distribution}:{self.module}"


@dataclass(frozen=True, slots=True)
class Found:
    """All that was found.

    Attributes:
        rows: Schemes and observers.
        damages: What is wrong with how distributions are installed.
        unmatched: Names in ``INFER_BACKENDS_DISABLE`` that are nothing here.
    """

    rows: list[Row]
    damages: list[Damage]
    unmatched: list[str]


def examine(patience: float = PATIENCE) -> Found:
    """Load every installed plugin, and say how each fares.

    Args:
        patience: How long one of them may take, in seconds.

    Raises:
        Failure: Nothing can be found out at all.
    """
    found = Found([], [], [])
    faults: dict[str, str] = {}
    while True:
        ended = _run(found, faults, patience)
        if ended is None:
            return found
        row, what = ended
        faults[row.where] = what
        # It begins anew, and leaves out what is known to end it.
        found = Found([], [], [])


def _run(found: Found, faults: dict[str, str], patience: float) -> tuple[Row, str] | None:
    """Collect what one process finds; what was its end, and why, or None if it ended well."""
    looking: Row | None = None
    with _start() as process:
        for message in _messages(process, faults, patience):
            if message is None:
                process.kill()
                what = f"it was not imported and checked within {patience:g} s: does it hang?"
                break
            kind, value = message
            if kind == "looking":
                looking = _row(value)
            elif kind == "row":
                looking = None
                found.rows.append(_row(value))
            elif kind == "damage":
                found.damages.append(Damage(**value))
            elif kind == "unmatched":
                found.unmatched.append(value)
            else:
                return None
        else:
            what = _ending(process.wait())
    if looking is None:
        raise Failure(f"the plugins cannot be examined: {what}")
    return looking, what


def _row(value: dict[str, Any]) -> Row:
    return Row(**{**value, "remarks": tuple(value["remarks"])})


def _start() -> subprocess.Popen[str]:
    warnings = [argument for option in sys.warnoptions for argument in ("-W", option)]
    command = [sys.executable, *warnings, "-c", _PROGRAM, json.dumps(sys.path)]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
    except OSError as exc:
        raise Failure(f"the plugins cannot be examined: {exc.strerror}") from exc


def _messages(
    process: subprocess.Popen[str], faults: dict[str, str], patience: float
) -> Iterator[tuple[str, Any] | None]:
    """What the process says when it has been told the faults; None after too long a silence."""
    told, said = process.stdin, process.stdout
    if told is None or said is None:
        raise RuntimeError("the process was started without pipes")
    # One that has ended by now is found out by what it says.
    with contextlib.suppress(BrokenPipeError), told:
        json.dump(faults, told)
    lines: SimpleQueue[str | None] = SimpleQueue()

    def read() -> None:
        for line in said:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, name="infer-backends-examination", daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=patience)
        except Empty:
            yield None
            return
        if line is None:
            return
        kind, value = json.loads(line)
        yield kind, value


def _ending(code: int) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"it crashed its process ({name})"
    return f"it ended its process, with exit code {code}"


Say = Callable[[str, Any], None]


def open_report() -> Say:
    """In the process that looks: where it says what it found. Nobody else writes there."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")

    def say(kind: str, value: Any) -> None:
        report.write(json.dumps([kind, value]) + "\n")
        report.flush()

    return say


def as_value(thing: Row | Damage) -> dict[str, Any]:
    """What is said of a row."""
    return asdict(thing)
