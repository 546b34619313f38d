"""Which observers are installed. A broken one is reported and left out; it stops nobody."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from infer_backends import _observer_hookspecs
from infer_backends._entry_points import Claim, disabled_names, installed, is_disabled
from infer_backends._errors import PluginError
from infer_backends._events import Event
from infer_backends._hooks import check_plugin
from infer_backends._importing import import_claim

GROUP = "infer_backends.observers"

#: How long opening a model waits for observers to be imported, all of them together, in seconds.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Observer:
    """Somebody who is told what happens.

    Attributes:
        name: Who it is, for messages.
        tell: Tells it of one event; raises whatever it likes.
        version: The version of the contract that it was written for; None for a function.
        seconds: How long importing it took.
    """

    name: str
    tell: Callable[[Event], object]
    version: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ObserverInfo:
    """One installed observer. Nothing was imported to find it.

    Attributes:
        name: Its entry point's name.
        distribution: The distribution's name.
        version: The distribution's version.
        disabled: Whether ``INFER_BACKENDS_DISABLE`` names it.
        claim: What it was found by.
    """

    name: str
    distribution: str
    version: str
    disabled: bool
    claim: Claim


def _installed() -> Iterable[Claim]:
    return installed(GROUP)


class ObserverPlugins:
    """The installed observers of this process.

    Each is imported by a thread of its own, for which opening a model waits, but not for ever: it
    is nothing that the model needs.

    Args:
        installed: Reads the entry points; called once, on first use.
        environ: Where ``INFER_BACKENDS_DISABLE`` is looked up, at every use.
        patience: How long opening a model waits for all of them, in seconds.
    """

    def __init__(
        self,
        installed: Callable[[], Iterable[Claim]] = _installed,
        environ: Mapping[str, str] = os.environ,
        patience: float = PATIENCE,
    ) -> None:
        self._installed = installed
        self._environ = environ
        self._patience = patience
        self._claims: list[Claim] | None = None
        self._loads: dict[Claim, _Load] = {}
        self._reported: set[Claim] = set()

    def reset_in_child(self) -> None:
        """Forget the threads that were importing: they do not exist in a forked child."""
        self._loads = {key: load for key, load in self._loads.items() if load.ended}

    def plugins(self) -> list[ObserverInfo]:
        """Every installed observer, sorted; imports none of them."""
        disabled = disabled_names(self._environ)
        rows = [
            ObserverInfo(
                claim.name, claim.distribution, claim.version, is_disabled(claim, disabled), claim
            )
            for claim in self._found()
        ]
        return sorted(rows, key=lambda row: (row.name, row.distribution))

    def load(self) -> list[Observer]:
        """Every observer that works and is not disabled, loaded once.

        One WARNING for each that is broken, or is not there in time, once in a process. Raises
        nothing.
        """
        try:
            rows = self.plugins()
        except Exception as exc:  # noqa: BLE001 - what is installed is not the model's concern
            reason = exc.strerror if isinstance(exc, OSError) else type(exc).__name__
            _warn("the installed observers cannot be read: %s", reason)
            return []
        claims = [row.claim for row in rows if not row.disabled]
        loads = {_key(claim): self._begin(claim) for claim in claims}
        give_up = time.monotonic() + self._patience
        observers = []
        for key, load in loads.items():
            # Nobody waits a second time for one that was not there in time.
            found = load.result(0.0 if key in self._reported else give_up - time.monotonic())
            if isinstance(found, Observer):
                observers.append(found)
            elif key not in self._reported:
                self._reported.add(key)
                _warn("an observer is ignored: %s", found)
        return observers

    def check(self, row: ObserverInfo) -> Observer | PluginError:
        """A row of :meth:`plugins`, loaded, or what keeps it from observing."""
        return self._begin(row.claim).result(None)

    def _found(self) -> list[Claim]:
        claims = self._claims
        if claims is None:
            claims = self._claims = list(self._installed())
        return claims

    def _begin(self, claim: Claim) -> _Load:
        key = _key(claim)
        load = self._loads.get(key)
        # Of two threads that come here at once, both take what the first of them put there.
        return self._loads.setdefault(key, _Load(claim)) if load is None else load


class _Load:
    """One observer that is being imported, in a thread of its own if there is one."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._done = threading.Event()
        self._begun = threading.Lock()
        self._result: Observer | PluginError | None = None

    @property
    def ended(self) -> bool:
        """Whether it is known what became of it."""
        return self._done.is_set()

    def result(self, timeout: float | None) -> Observer | PluginError:
        """What became of it, by then; None waits for it."""
        if self._begun.acquire(blocking=False):
            thread = threading.Thread(target=self._run, name="infer-backends-import", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread is left
                self._run()
        self._done.wait(None if timeout is None else max(0.0, timeout))
        return self._result or PluginError(
            f"{self._claim.owner} is still being imported: models that are opened meanwhile do "
            f"without it; report this to its author, or install another version of "
            f"{self._claim.title}"
        )

    def _run(self) -> None:
        try:
            self._result = _import(self._claim)
        finally:
            self._done.set()


def _import(claim: Claim) -> Observer | PluginError:
    try:
        imported = import_claim(claim)
        found = check_plugin(
            imported.plugin, claim.owner, _observer_hookspecs, "infer_backends_event"
        )
    except PluginError as exc:
        return exc
    except BaseException as exc:  # noqa: BLE001 - nobody is there to catch it
        return PluginError(
            f"{claim.owner} cannot be used: importing it raised {type(exc).__name__}"
        )
    hook = found.hook
    return Observer(
        claim.owner,
        lambda event: hook.infer_backends_event(event=event),
        found.version,
        imported.seconds,
    )


def _warn(text: str, *arguments: object) -> None:
    # Imported where it is used: importing the library has to stay cheap.
    import logging

    logging.getLogger("infer_backends").warning(text, *arguments)


def _key(claim: Claim) -> Claim:
    """One module is one observer, whatever names it has."""
    return replace(claim, name="")


INSTALLED = ObserverPlugins()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=INSTALLED.reset_in_child)
