"""Shared-memory regions of this process: made, proved alive, released, and swept up after the dead.

A region is a file in ``/dev/shm`` under a name that nobody can guess, readable by its owner alone.
Its owner holds a ``flock`` on it for as long as it lives; the kernel drops the lock with the owner,
however that ended, so a file of our prefix whose lock can be had belongs to nobody any more. (A
process id would prove nothing: ids are used again, and differ between containers.)
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if sys.platform == "linux":
    import fcntl

#: Where the regions of POSIX shared memory are files.
FOLDER = Path("/dev/shm")  # noqa: S108 - not a temporary file: the place of shared memory
#: How the name of every region begins.
PREFIX = "infer_backends_"

# Another client may be looking whether our new file's owner is alive: then that one is given up.
_ATTEMPTS = 10
_FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class Region:
    """A piece of shared memory, owned by this process. Made by :meth:`create`.

    Attributes:
        name: Its file's name, which is also the name that servers know it by.
        size: Its length in bytes, which never changes.
        content: Its bytes; empty once it is closed.
        registration: What the pool notes of the server that knows the region.
        idle_since: When it was last used, in seconds on the monotonic clock.
    """

    __slots__ = ("_lock", "_mapping", "content", "idle_since", "name", "registration", "size")

    def __init__(self, name: str, size: int, lock: int, mapping: mmap.mmap) -> None:
        self.name = name
        self.size = size
        self.content: NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)
        self.registration: int | None = None
        self.idle_since = 0.0
        self._lock = lock
        self._mapping = mapping

    @classmethod
    def create(cls, size: int, folder: Path = FOLDER) -> Region:
        """A new region of ``size`` bytes, all of them there.

        Raises:
            OSError: There is no shared memory here, or not enough: half of what is free is left
                to others.
        """
        name, lock = _create_locked(folder)
        path = folder / name
        try:
            room = os.statvfs(lock)
            if size > room.f_bavail * room.f_frsize // 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # Without this a full file system would end the process at the first touch (SIGBUS).
            os.posix_fallocate(lock, 0, size)
            mapping = _map(path, size)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(lock)
            raise
        return cls(name, size, lock, mapping)

    def unlink(self, folder: Path = FOLDER) -> None:
        """Remove the name. A server that has opened the region keeps it until it is told."""
        with contextlib.suppress(OSError):
            (folder / self.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the name, and let go of the memory."""
        self.unlink()
        self.forget()

    def forget(self) -> None:
        """Let go of the memory and leave the name: in a child of fork both are the parent's."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            # Closing this process's descriptor leaves the lock with the parent, which shares it.
            os.close(lock)
        self.content = np.empty(0, np.uint8)
        with contextlib.suppress(BufferError):
            # Someone may still look at it; then it goes when they do.
            self._mapping.close()


def supported(folder: Path = FOLDER) -> bool:
    """Whether this system has shared memory that a server could open by name."""
    return sys.platform == "linux" and os.access(folder, os.W_OK | os.X_OK)


def exists(name: str, folder: Path = FOLDER) -> bool:
    """Whether a region of this name can be opened by others."""
    return os.path.lexists(folder / name)


def sweep(folder: Path = FOLDER) -> list[str]:
    """Remove the regions of this user whose owners are dead; their names."""
    swept = []
    for path in _ours(folder):
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError:
            continue
        try:
            if _is_abandoned(descriptor):
                path.unlink()
                swept.append(path.name)
        except OSError:
            continue  # Somebody else was faster.
        finally:
            os.close(descriptor)
    return swept


def _ours(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for name in names:
        yield folder / name


def _is_abandoned(descriptor: int) -> bool:
    found = os.fstat(descriptor)
    if found.st_uid != os.getuid() or not stat.S_ISREG(found.st_mode):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _create_locked(folder: Path) -> tuple[str, int]:
    """A new file that nobody else has seen, and its descriptor, which holds the lock."""
    for _ in range(_ATTEMPTS):
        name = PREFIX + os.urandom(16).hex()
        lock = os.open(folder / name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A sweeper may have come between the two lines above, and taken it for abandoned.
            if os.fstat(lock).st_nlink:
                return name, lock
        (folder / name).unlink(missing_ok=True)
        os.close(lock)
    raise OSError(errno.EAGAIN, "shared memory files are removed as soon as they are made")


def _map(path: Path, size: int) -> mmap.mmap:
    # Opened anew: a mapping keeps its descriptor, and one that shared the lock would hold it in
    # every child of a fork.
    descriptor = os.open(path, _FLAGS)
    try:
        return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
    finally:
        os.close(descriptor)
