"""Tells observers what happens, without ever making a call wait for one of them.

Each observer of an open model has a queue and a thread. The thread begins with the first event, so
that a model which nobody uses, or nobody watches, has none.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infer_backends._deadline import LONGEST_TIMEOUT
from infer_backends._errors import PluginError
from infer_backends._events import Event
from infer_backends._observer_plugins import INSTALLED, Observer
from infer_backends._registration import Registration

if TYPE_CHECKING:
    from _queue import SimpleQueue

#: How many events may wait for one observer; those that come while so many do are dropped.
CAPACITY = 1000


class Observers:
    """Whoever is told what happens to one open model; made by :func:`open_observers`.

    Args:
        observers: Who they are.
        capacity: How many events may wait for each of them.
    """

    def __init__(self, observers: Sequence[Observer], *, capacity: int = CAPACITY) -> None:
        self._listeners = tuple(_Listener(observer, capacity) for observer in observers)

    def __bool__(self) -> bool:
        return bool(self._listeners)

    @property
    def dropped(self) -> int:
        """How many events an observer was not told of, all observers together."""
        return sum(listener.dropped for listener in self._listeners)

    def notify(self, event: Event) -> None:
        """Have every observer told of an event, soon. Never raises, never waits."""
        for listener in self._listeners:
            listener.put(event)

    def close(self, timeout: float) -> None:
        """Tell what is still waiting to be told, and end the threads.

        An observer that has not come back by then is left to itself: its thread ends when it does,
        and what was still waiting is dropped. May be called more than once.

        Args:
            timeout: How long to wait, in seconds, for all of them together.
        """
        give_up = time.monotonic() + timeout
        for listener in self._listeners:
            listener.end()
        for listener in self._listeners:
            listener.join(min(give_up - time.monotonic(), LONGEST_TIMEOUT))


@dataclass(slots=True)
class _Line:
    """What a listener shares with its thread.

    Attributes:
        queue: Events that wait; None after the last one.
        abandoned: Whether nobody waits for the rest of them any more.
        dropped: How many events did not find room.
        left: How many of those that did were not told.
        thread: Who tells them, once there was one.
    """

    queue: SimpleQueue[Event | None]
    abandoned: bool = False
    dropped: int = 0
    left: int = 0
    thread: threading.Thread | None = None


class _Listener:
    """One observer, its queue and its thread."""

    def __init__(self, observer: Observer, capacity: int) -> None:
        self._observer = observer
        self._capacity = capacity
        self._closed = False
        self.reset_in_child()
        _LISTENERS.add(self)

    def reset_in_child(self) -> None:
        """Begin afresh: a forked child has no thread, and what waits is told by its parent."""
        # Imported where there is an observer: importing the library has to stay cheap. This queue
        # may be used where an interruption, or the end of an object, comes at any moment.
        from queue import SimpleQueue

        self._lock = threading.RLock()
        self._line = _Line(SimpleQueue())

    @property
    def dropped(self) -> int:
        """How many events the observer was not told of."""
        return self._line.dropped + self._line.left

    def put(self, event: Event) -> None:
        """Queue an event, if there is room."""
        line = self._line
        if (
            self._closed
            or line.queue.qsize() >= self._capacity
            or not (line.thread is not None or self._begin())
        ):
            with self._lock:
                line.dropped += 1
        else:
            line.queue.put(event)

    def _begin(self) -> bool:
        """Start the thread, unless another call just did; whether there is one."""
        with self._lock:
            line = self._line
            if line.thread is None and not self._closed:
                thread = threading.Thread(
                    target=_listen,
                    args=(line, self._observer),
                    name="infer-backends-observer",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter is about to end
                    return False
                line.thread = thread
            return line.thread is not None

    def end(self) -> None:
        """Take no more events."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._line.queue.put(None)

    def join(self, timeout: float) -> None:
        """Wait until the rest has been told, and then no longer."""
        line = self._line
        # An observer may close the model: it cannot wait for itself.
        if line.thread is not None and line.thread is not threading.current_thread():
            line.thread.join(max(0.0, timeout))
            if line.thread.is_alive():
                line.abandoned = True

    def __del__(self) -> None:
        # Of a model that was never closed.
        self._line.queue.put(None)


def _listen(line: _Line, observer: Observer) -> None:
    """What an observer's thread does."""
    reported = False
    while not line.abandoned:
        event = line.queue.get()
        if event is None:
            break
        try:
            observer.tell(event)
        except BaseException as exc:  # noqa: BLE001 - nothing that it raises may end its thread
            if not reported:
                reported = True
                _warn("%s raised %s; it is told what happens all the same", observer.name, exc)
    line.left = sum(1 for _ in range(line.queue.qsize()) if line.queue.get() is not None)
    if line.dropped + line.left:
        _warn_of_drops(observer, line.dropped + line.left)


def _warn(text: str, name: str, exc: BaseException) -> None:
    # Imported where it is used: importing the library has to stay cheap.
    import logging

    # Only the type: a careless message could hold what must not be shown.
    logging.getLogger("infer_backends").warning(text, name, type(exc).__name__)


def _warn_of_drops(observer: Observer, dropped: int) -> None:
    import logging

    logging.getLogger("infer_backends").warning(
        "%s was too slow: it was not told of %d events", observer.name, dropped
    )


_LISTENERS: weakref.WeakSet[_Listener] = weakref.WeakSet()


def _reset_listeners() -> None:
    for listener in list(_LISTENERS):
        listener.reset_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_listeners)


class _Registered:
    """An observer of this process, until it is unregistered."""

    def __init__(self, function: Callable[[Event], object]) -> None:
        self.function: Callable[[Event], object] | None = function

    def __call__(self, event: Event) -> None:
        function = self.function
        if function is not None:
            function(event)


_registered: list[Observer] = []


def register_observer(function: Callable[[Event], object]) -> Registration:
    """Be told what happens to the models that are opened from now on; for tests and notebooks.

    Others write a plugin, with an entry point in the group ``infer_backends.observers``.

    Args:
        function: Called with each event, in a thread of its own for each open model: soon after
            what happened, and by the end of the model's ``close`` at the latest. What it raises is
            reported once and otherwise ignored. While a thousand events wait for it, further ones
            are dropped.

    Returns:
        The registration: call its ``unregister()``, or use it in a ``with`` statement. After that
        the function is not called again.

    Raises:
        PluginError: ``function`` is not callable.

    Example:
        >>> with register_observer(print):
        ...     model = open_model("http://host:8000/digits")  # doctest: +SKIP
    """
    if not callable(function):
        raise PluginError("an observer is not callable: pass a function of an event")
    kept = _Registered(function)
    name = f"the observer {getattr(function, '__qualname__', type(function).__qualname__)}"
    observer = Observer(name, kept)
    _registered.append(observer)

    def remove() -> None:
        kept.function = None
        if observer in _registered:
            _registered.remove(observer)

    return Registration(remove)


def open_observers() -> Observers:
    """Those who are told what happens to a model that is opened now.

    Raises nothing: an observer that is broken is reported in the log, and left out.
    """
    return Observers([*INSTALLED.load(), *_registered])
