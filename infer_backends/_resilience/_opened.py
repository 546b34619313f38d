"""An open backend, with the calls that are inside it: replaceable while they run."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from infer_backends._backend import Backend

logger = logging.getLogger("infer_backends")


class Opened:
    """A backend that is closed when it has been replaced and nobody is inside any more.

    Attributes:
        backend: The backend.
        inside: A token for each call that is inside.
        retired: Whether another backend has taken its place.
    """

    __slots__ = ("backend", "inside", "retired")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.inside: set[object] = set()
        self.retired = False


class Openings:
    """The backend of one endpoint, and those before it that still have calls inside."""

    def __init__(self) -> None:
        self.current: Opened | None = None
        self._retired: list[Opened] = []

    def enter(self, token: object) -> Opened | None:
        """The backend to ask now, with the call's token inside; None if there is none yet.

        A call adds its token before it looks whether the backend was replaced, and a replaced one
        is closed only when no token is in it: so one of the two sees the other without a lock.
        """
        while (opened := self.current) is not None:
            opened.inside.add(token)
            if not opened.retired:
                break
            opened.inside.discard(token)
        return opened

    def reset_in_child(self) -> None:
        """Forget the calls of other threads: they do not exist in a forked child."""
        for opened in (*self._retired, *([self.current] if self.current else [])):
            opened.inside = set()

    def in_flight(self) -> int:
        """How many calls are inside."""
        opened = self.current
        return len(opened.inside) if opened is not None else 0

    def install(self, backend: Backend) -> Opened:
        """Have the next call ask this backend, and close the one before when it is empty."""
        before, self.current = self.current, Opened(backend)
        if before is not None:
            before.retired = True
            self._retired.append(before)
        self.sweep()
        return self.current

    def sweep(self) -> bool:
        """Close the backends that were replaced and are empty; whether any is left."""
        for opened in [opened for opened in self._retired if not opened.inside]:
            self._retired.remove(opened)
            try:
                opened.backend.close()
            except Exception as exc:  # noqa: BLE001 - nobody who calls now has to do with it
                # Only the type: a careless message could hold the URL's password.
                logger.warning("closing a backend that was replaced raised %s", type(exc).__name__)
        return bool(self._retired)

    def close(self) -> None:
        """Close all of them; calls inside may fail."""
        with ExitStack() as closing:
            for opened in [*self._retired, *([self.current] if self.current else [])]:
                closing.callback(opened.backend.close)
