"""Opens one URL of a model, and sees whether it is the model that it should be."""

from __future__ import annotations

import copy
import os
import threading
import weakref
from collections.abc import Callable

from infer_backends._backend import Backend, SupportsDescription, SupportsReadiness
from infer_backends._deadline import Clock, Deadline
from infer_backends._errors import (
    DeadlineExceeded,
    InferError,
    ModelClosed,
    PluginError,
    Unavailable,
)
from infer_backends._registry import serving
from infer_backends._resilience._opened import Opened, Openings
from infer_backends._resilience._parity import differences
from infer_backends._resilience._remembered import remembered
from infer_backends._tensors import ModelMetadata

Opener = Callable[[Deadline], Backend]
Describer = Callable[[], ModelMetadata | None]

#: A model on this machine may take long to load; nobody waits for it longer than his deadline.
_LONGEST_LOAD = 600.0
#: How long closing waits for a load that is under way: it cannot be stopped.
_LONGEST_WAIT = 5.0


class Contact:
    """The way to one URL: its backend, opened once however many ask for it.

    Args:
        url: The URL, secrets masked.
        opener: Opens it by a deadline.
        describer: Says what the model is without opening it, where that can be told; then it is
            opened only when it is needed.

    Attributes:
        openings: Its backend, once it is open.
        agreed: The metadata that the members of the model agree on; None until they did.
        lazy: Whether it is loaded when it is needed, by a thread of its own.
        awaited: Whether it is to be loaded when the model is opened, however long that takes.
    """

    def __init__(self, url: str, opener: Opener, describer: Describer | None = None) -> None:
        self.url = url
        self.openings = Openings()
        self.agreed: ModelMetadata | None = None
        self.lazy = False
        self.awaited = describer is None
        self._opener = opener
        self._describer = describer
        self._closed = False
        self._asked_at = float("-inf")
        self._found: list[str] | InferError = []
        self.reset_in_child()
        _CONTACTS.add(self)

    def reset_in_child(self) -> None:
        """Forget the threads that were at it: they do not exist in a forked child."""
        self._lock = threading.Lock()
        self._loading_lock = threading.Lock()
        self._loading: _Loading | None = None
        self.openings.reset_in_child()

    def first(self, deadline: Deadline, *, needed: bool) -> tuple[ModelMetadata, bool]:
        """What the model says of itself, and whether it was opened for that.

        Args:
            deadline: By when to know.
            needed: Whether it is to be opened though it could be described.

        Raises:
            InferError: It can be neither described nor opened.
        """
        if self._describer is not None and not needed:
            described = self._describer()
            if described is not None:
                self.lazy = True
                return described, False
        return self.open(deadline).backend.metadata, True

    def open(self, deadline: Deadline) -> Opened:
        """The backend, opened in this thread if it was not."""
        if not self._lock.acquire(timeout=_seconds(deadline)):
            raise DeadlineExceeded(f"the deadline passed while {self.url} was being opened")
        try:
            return self.openings.current or self._install(deadline)
        finally:
            self._lock.release()

    def load(self, deadline: Deadline) -> Opened:
        """The backend, loaded by a thread of its own, for which the caller waits.

        So the caller's deadline holds, and what was begun serves the next call. Where the system
        has no thread left, the caller loads it: a late answer is better than none.

        Raises:
            DeadlineExceeded: It takes longer than that; the loading goes on.
            InferError: It cannot be opened.
        """
        opened = self.openings.current
        if opened is not None:
            return opened
        loading = self.begin_loading()
        if not loading.begun:
            return self.open(deadline)
        if not loading.done.wait(_seconds(deadline)):
            raise DeadlineExceeded(
                f"the deadline passed while {self.url} was being loaded, which goes on: open with "
                "preload=true to have it loaded at once"
            )
        if loading.error is not None:
            # A copy: several callers may raise it, each with attempts of its own.
            raise copy.copy(loading.error) from loading.error
        return self.open(deadline)

    def begin_loading(self) -> _Loading:
        """Begin to load the model, unless that has begun. Does not wait."""
        with self._loading_lock:
            loading = self._loading
            if loading is None or (loading.done.is_set() and loading.error is not None):
                loading = self._loading = _Loading(self.open, self.url)
                loading.start()
            return loading

    @property
    def loading(self) -> bool:
        """Whether it is being loaded now."""
        loading = self._loading
        return loading is not None and not loading.done.is_set()

    def renew(self, deadline: Deadline, *, strict: bool = True) -> list[str]:
        """See whether the model would answer now; in what it differs from what was agreed on.

        A backend that cannot say what its model is now, or whose model has changed, is opened
        again, and takes the place of the one before.

        Args:
            deadline: By when to know.
            strict: Whether one that differs is of no use, so that it need not be opened again.

        Raises:
            InferError: It is not available.
        """
        opened = self.openings.current
        if opened is None:
            return self.differing(self.open(deadline).backend.metadata)
        backend = opened.backend
        if isinstance(backend, SupportsReadiness) and not backend.ready(deadline):
            raise self._not_ready(backend, deadline)
        if isinstance(backend, SupportsDescription):
            now = backend.describe(deadline)
            found = self.differing(now)
            if now == backend.metadata or (found and strict):
                return found
        with self._lock:
            return self.differing(self._install(deadline).backend.metadata)

    def _not_ready(self, backend: Backend, deadline: Deadline) -> InferError:
        """Why a backend says no more than that it is not ready: for whoever looks for the cause."""
        if deadline.expired:
            return Unavailable(f"{self.url} did not say in time whether it is ready: does it hang?")
        if isinstance(backend, SupportsDescription):
            try:
                backend.describe(deadline)
            except InferError as exc:
                return exc
        return Unavailable(f"{self.url} is not ready")

    @property
    def can_be_probed(self) -> bool:
        """Whether it can be told without a real call that the model would answer."""
        opened = self.openings.current
        return opened is None or isinstance(opened.backend, SupportsReadiness)

    def changed(self, clock: Clock, deadline: Deadline) -> list[str]:
        """In what the model is not the one any more that was agreed on; asked where that can be.

        What one caller finds out holds for all whose doubt arose before he began to ask.

        Args:
            clock: The monotonic clock.
            deadline: By when to know.

        Raises:
            InferError: It cannot be told.
        """
        since = clock()
        opened = self.openings.current
        if opened is None or not isinstance(opened.backend, SupportsDescription):
            return []
        if not self._lock.acquire(timeout=_seconds(deadline)):
            return []
        try:
            if self._asked_at < since:
                began = clock()
                self._found = self._ask(deadline)
                self._asked_at = began
            found = self._found
        finally:
            self._lock.release()
        if isinstance(found, InferError):
            raise copy.copy(found) from found
        return found

    def _ask(self, deadline: Deadline) -> list[str] | InferError:
        # Only now: another backend may have taken the place of the one before.
        opened = self.openings.current
        if opened is None or not isinstance(opened.backend, SupportsDescription):
            return []
        try:
            return self.differing(opened.backend.describe(deadline))
        except DeadlineExceeded:
            # The next one who doubts may have more time.
            raise
        except InferError as exc:
            return remembered(exc)
        except Exception as exc:  # noqa: BLE001 - the call that doubts has an outcome of its own
            who = serving(self.url)
            return PluginError(f"{who} raised {type(exc).__name__} when it was asked again")

    def differing(self, metadata: ModelMetadata) -> list[str]:
        """In what ``metadata`` differs from what was agreed on."""
        return [] if self.agreed is None else differences(self.agreed, metadata)

    def _install(self, deadline: Deadline) -> Opened:
        self._require_open()
        opened = self.openings.install(self._opener(deadline))
        # Closing says so first, and closes what is open then: one of the two sees the other.
        self._require_open()
        return opened

    def _require_open(self) -> None:
        if self._closed:
            self.openings.close()
            raise ModelClosed("the model is closed: open it again")

    def close(self) -> None:
        """Close what is open, and wait for a load that is under way."""
        self._closed = True
        try:
            self.openings.close()
        except InferError:
            raise
        except Exception as exc:
            raise PluginError(
                f"{serving(self.url)} raised {type(exc).__name__} when it was closed; a backend "
                "raises only the library's errors"
            ) from exc
        finally:
            loading = self._loading
            if loading is not None:
                loading.done.wait(_LONGEST_WAIT)


class _Loading:
    """One load of a model, in a thread of its own.

    Attributes:
        begun: Whether it has a thread.
        done: Set when it has ended.
        error: Why it failed; None when it did not.
    """

    def __init__(self, load: Callable[[Deadline], object], url: str) -> None:
        self._load = load
        self._url = url
        self.begun = False
        self.done = threading.Event()
        self.error: InferError | None = None

    def start(self) -> None:
        """Begin, if the system has a thread left."""
        thread = threading.Thread(target=self._run, name="infer-backends-load", daemon=True)
        try:
            thread.start()
            self.begun = True
        except RuntimeError as exc:
            self.error = Unavailable(f"{self._url} could not be loaded: {exc}", unprocessed=True)
            self.done.set()

    def _run(self) -> None:
        try:
            self._load(Deadline.after(_LONGEST_LOAD, explicit=False))
        except InferError as exc:
            self.error = remembered(exc)
        except BaseException as exc:  # noqa: BLE001 - told to whoever waits for it
            self.error = PluginError(
                f"{serving(self._url)} raised {type(exc).__name__} when it was loaded; a plugin "
                "raises only the library's errors"
            )
        finally:
            self.done.set()


def _seconds(deadline: Deadline) -> float:
    """How long a lock may be waited for."""
    return min(max(0.0, deadline.remaining()), threading.TIMEOUT_MAX)


_CONTACTS: weakref.WeakSet[Contact] = weakref.WeakSet()


def _reset_contacts() -> None:
    for contact in list(_CONTACTS):
        contact.reset_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_contacts)
