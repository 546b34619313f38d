"""The regions that one open model uses, and what its server knows of them.

A call has a region to itself. It is used again only after the server's answer to that call has
arrived: until then the server may still write to it. A call that ends in any other way *retires*
its region: this process lets go of it at once, and the server is told to forget it as soon as it
is done with it. A region never changes its size; one that is too small is replaced.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from infer_backends.plugin import Deadline, InferError, ModelClosed
from infer_backends_triton import _regions as regions
from infer_backends_triton._regions import Region
from infer_backends_triton._status import RegionTaken

#: The most memory that the regions of one open model may take, in bytes.
LIMIT = 1024**3
_PAGE = 4096
_MAX_IDLE_SECONDS = 60.0
# What the server is told at the end of a call, or at close, must not hold anybody up.
_TIDY_SECONDS = 1.0
# A server that still works on an abandoned call does not let go of its region.
_FIRST_RETRY, _LAST_RETRY = 0.25, 10.0


class RegionServer(Protocol):
    """A server's own list of regions."""

    def register(self, name: str, size: int, deadline: Deadline) -> None:
        """Have the server open the region ``name``.

        Raises:
            RegionTaken: It has opened one of this name already.
            InferError: It cannot.
        """
        ...

    def unregister(self, name: str, deadline: Deadline) -> None:
        """Have the server forget the region ``name``; no error if it does not know it."""
        ...

    def registered(self, deadline: Deadline) -> Iterable[str]:
        """The names of all the regions that the server knows, of whomever they are."""
        ...

    def version(self, deadline: Deadline) -> str:
        """The server's version, as it says it."""
        ...


class NoRoomError(Exception):
    """The regions in use leave no room for another one of this size."""


class NoMemoryError(NoRoomError):
    """The system has no shared memory for a region of this size."""


@dataclass(slots=True)
class _Retired:
    """A region that only the server still has; ``settled`` if no call can be using it."""

    size: int
    settled: bool
    due: float
    retry: float = _FIRST_RETRY


class RegionPool:
    """Gives each call a region that the server can open, and takes it back.

    Args:
        server: Whose list the regions are put on.
        limit: The most memory that all of them may take, in bytes.
        clock: Seconds on a monotonic clock.
    """

    def __init__(
        self,
        server: RegionServer,
        *,
        limit: int = LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._limit = limit
        self._clock = clock
        # Counts how often the server has lost its list.
        self._epoch = 0
        self._closed = False
        # Whether the server refuses to forget a region in use; None before it was asked.
        self._guarded: bool | None = None
        self._idle: list[Region] = []
        self._busy: set[Region] = set()
        self._retired: dict[str, _Retired] = {}
        self._total = 0
        self._lock = threading.Lock()
        _pools.add(self)

    def take(self, size: int, deadline: Deadline) -> Region:
        """A region of ``size`` bytes or more, that the server has open.

        Raises:
            NoRoomError: There is not enough shared memory.
            ModelClosed: The pool is closed.
            InferError: The server could not open it, or did not answer.
        """
        rounded = round_up(size)
        region = self._take_idle(rounded)
        if region is None:
            region = self._create(rounded)
        if region.registration != self._epoch:
            try:
                self._register(region, deadline)
            except BaseException:
                self.retire(region, settled=True)
                raise
        return region

    def take_ready(self, size: int) -> Region | None:
        """A region of ``size`` bytes or more that the server has open already, if one is idle.

        Raises:
            ModelClosed: The pool is closed.
        """
        region = self._take_idle(round_up(size))
        if region is not None and region.registration != self._epoch:
            with self._lock:
                self._busy.discard(region)
                self._idle.append(region)
            return None
        return region

    def keep(self, region: Region, *, tidy: bool = True) -> None:
        """Take back a region whose call was answered, or never made.

        Args:
            region: The region.
            tidy: Whether to :meth:`tidy` as well, which waits for the server.
        """
        now = self._clock()
        region.idle_since = now
        with self._lock:
            self._busy.discard(region)
            self._idle.append(region)
            spared = now - _MAX_IDLE_SECONDS
            dropped = [r for r in self._idle if r.idle_since < spared or self._closed]
            self._idle = [r for r in self._idle if r not in dropped]
        for each in dropped:
            self.retire(each, settled=True)
        if tidy:
            self.tidy()

    def retire(self, region: Region, *, settled: bool = False) -> None:
        """Let go of a region, for good.

        Args:
            region: The region.
            settled: Whether no call can be using it; if not, the server may still write to it.
        """
        region.close()
        with self._lock:
            self._busy.discard(region)
            if region.registration is None:
                self._total -= region.size
            else:
                self._retired[region.name] = _Retired(region.size, settled, self._clock())

    def lose(self, region: Region) -> None:
        """Take note that the server does not know ``region`` any more, nor what came before it."""
        with self._lock:
            # Several calls may find out at once.
            if region.registration == self._epoch:
                self._epoch += 1

    @property
    def untidy(self) -> bool:
        """Whether there is something now that :meth:`tidy` would do."""
        if not self._retired:
            return False
        now = self._clock()
        with self._lock:
            return any(self._is_due(retired, now) for retired in self._retired.values())

    def _is_due(self, retired: _Retired, now: float) -> bool:
        return retired.due <= now and (retired.settled or bool(self._guarded))

    def tidy(self, timeout: float = _TIDY_SECONDS) -> None:
        """Have the server forget the regions that were retired, where it is done with them."""
        if not self._retired:
            return
        deadline = Deadline.after(timeout)
        now = self._clock()
        with self._lock:
            due = {
                name: retired
                for name, retired in self._retired.items()
                if self._is_due(retired, now)
            }
            for name in due:
                del self._retired[name]
        for name, retired in due.items():
            if not self._unregister(name, deadline):
                retired.due = self._clock() + retired.retry
                retired.retry = min(2 * retired.retry, _LAST_RETRY)
                with self._lock:
                    self._retired[name] = retired
                continue
            with self._lock:
                self._total -= retired.size

    def close(self) -> None:
        """Release everything; what calls in flight use loses its name, and goes with them."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for region in self._busy:
                region.unlink()
            for retired in self._retired.values():
                retired.due = 0.0
        for region in idle:
            self.retire(region, settled=True)
        self.tidy()

    def forget(self) -> None:
        """In a child of fork: all regions are the parent's, which goes on using them."""
        # Another thread may have held the lock at the fork; it is not there to release it.
        self._lock = threading.Lock()
        for region in (*self._idle, *self._busy):
            region.forget()
        self._idle, self._busy, self._retired, self._total = [], set(), {}, 0

    def _take_idle(self, size: int) -> Region | None:
        with self._lock:
            if self._closed:
                raise ModelClosed("the model was closed: open it again", unprocessed=True)
            # The one used last first: the others may be dropped after a while.
            for region in reversed(self._idle):
                if size <= region.size <= 2 * size:
                    self._idle.remove(region)
                    self._busy.add(region)
                    return region
        return None

    def _create(self, size: int) -> Region:
        self._make_room(size)
        _begin_once()
        try:
            region = Region.create(size)
        except OSError as exc:
            with self._lock:
                self._total -= size
            raise NoMemoryError from exc
        with self._lock:
            self._busy.add(region)
        return region

    def _make_room(self, size: int) -> None:
        evicted = []
        with self._lock:
            free = self._limit - self._total
            while self._idle and free < size:
                evicted.append(self._idle.pop(0))
                free += evicted[-1].size
        for region in evicted:
            self.retire(region, settled=True)
        if evicted:
            self.tidy()
        with self._lock:
            if self._total + size > self._limit:
                raise NoRoomError
            self._total += size

    def _register(self, region: Region, deadline: Deadline) -> None:
        epoch = self._epoch
        # From here on the server may have it, even if its answer is lost.
        region.registration = -1
        # Nobody else can have thought of this name.
        with contextlib.suppress(RegionTaken):
            self._server.register(region.name, region.size, deadline)
        region.registration = epoch
        if self._guarded is None:
            self._get_to_know()

    def _get_to_know(self) -> None:
        """Once: what the server can do, and what clients that died have left on its list."""
        deadline = Deadline.after(_TIDY_SECONDS)
        self._guarded = False
        try:
            self._guarded = guards_regions(self._server.version(deadline))
            names = list(self._server.registered(deadline)) if self._guarded else []
        except InferError:
            return
        for name in names:
            # This machine is the server's own, as it has just opened a region of ours.
            if name.startswith(regions.PREFIX) and not regions.exists(name):
                self._unregister(name, deadline)

    def _unregister(self, name: str, deadline: Deadline) -> bool:
        try:
            self._server.unregister(name, deadline)
        except InferError:
            return False
        return True


def guards_regions(version: str) -> bool:
    """Whether a Triton of this version refuses to forget a region that a call is using.

    Those before 2.50 forget it at once, and crash when they write the call's output.
    """
    found = re.match(r"(\d{1,9})\.(\d{1,9})\.", version, re.ASCII)
    return found is not None and (int(found[1]), int(found[2])) >= (2, 50)


def round_up(size: int) -> int:
    """The length of the region for ``size`` bytes: one of few, at most a quarter too large."""
    if size <= 4 * _PAGE:
        return 4 * _PAGE
    step = 1 << ((size - 1).bit_length() - 3)
    return -(-size // step) * step


_pools: weakref.WeakSet[RegionPool] = weakref.WeakSet()
_begun_by: list[int] = []


def _begin_once() -> None:
    """Once in each process, before its first region: sweep, and see to it that it cleans up."""
    pid = os.getpid()
    if pid in _begun_by:
        return
    _begun_by[:] = [pid]
    regions.sweep()
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        # Such a process ends without what others do at exit.
        from multiprocessing.util import Finalize

        Finalize(None, _close_all, exitpriority=0)


def _close_all() -> None:
    for pool in tuple(_pools):
        pool.close()


def _forget_all() -> None:
    for pool in tuple(_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
