"""Regions of shared memory: made, proved alive, released, and swept up after the dead."""

from __future__ import annotations

import errno
import os
import signal
import stat
from pathlib import Path

import numpy as np
import pytest

from infer_backends_triton import _regions as regions
from infer_backends_triton._regions import Region

pytestmark = pytest.mark.usefixtures("prefix")

SIZE = 64 * 1024


def in_a_dying_child(size: int) -> str:
    """The name of a region whose owner was killed."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(sender, Region.create(size).name.encode())
        signal.pause()
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        name = os.read(pipe.fileno(), 200).decode()
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return name


def test_a_region_is_for_its_owner_alone_and_cannot_be_guessed(prefix: str) -> None:
    first, second = Region.create(SIZE), Region.create(SIZE)
    try:
        found = (regions.FOLDER / first.name).stat()
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_size == SIZE
        assert found.st_blocks * 512 >= SIZE
        assert len(first.name) == len(prefix) + 32
        assert first.name != second.name
        first.content[:] = 7
        assert (regions.FOLDER / first.name).read_bytes() == b"\7" * SIZE
    finally:
        first.close()
        second.close()


def test_a_closed_region_is_gone_and_may_be_closed_again() -> None:
    region = Region.create(SIZE)
    held = region.content
    region.close()
    region.close()
    assert not regions.exists(region.name)
    assert region.content.size == 0
    # Whoever still looks at it sees what was there.
    assert not held.any()


def test_a_region_of_a_living_owner_is_not_swept() -> None:
    region = Region.create(SIZE)
    try:
        assert regions.sweep() == []
        assert regions.exists(region.name)
    finally:
        region.close()


def test_a_region_of_a_dead_owner_is_swept() -> None:
    name = in_a_dying_child(SIZE)
    assert regions.exists(name)
    assert regions.sweep() == [name]
    assert not regions.exists(name)


def test_a_child_of_fork_neither_removes_nor_keeps_its_parents_regions() -> None:
    region = Region.create(SIZE)
    name = region.name
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        region.forget()
        os.write(sender, b"x")
        signal.pause()
    os.close(sender)
    try:
        assert os.read(receiver, 1) == b"x"
        # The child let go, the parent has not: the lock is still held.
        assert regions.sweep() == []
        assert regions.exists(name)
        # The parent goes without a word, as if killed; the child lives on and holds nothing up.
        region.forget()
        assert regions.sweep() == [name]
    finally:
        os.close(receiver)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_is_not_ours_is_left_alone(prefix: str) -> None:
    target = regions.FOLDER / f"other_{prefix}"
    link = regions.FOLDER / f"{prefix}link"
    target.write_bytes(b"x")
    link.symlink_to(target)
    folder = regions.FOLDER / f"{prefix}folder"
    folder.mkdir()
    try:
        assert regions.sweep() == []
        assert target.exists()
        assert link.is_symlink()
        assert folder.is_dir()
    finally:
        link.unlink()
        target.unlink()
        folder.rmdir()


def test_a_full_file_system_is_an_error_at_creation(prefix: str) -> None:
    free = os.statvfs(regions.FOLDER)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        Region.create(free.f_bavail * free.f_frsize)
    assert list(regions.FOLDER.glob(f"{prefix}*")) == []


def test_memory_that_runs_out_meanwhile_is_an_error_too(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _start: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="full"):
        Region.create(SIZE)
    assert list(regions.FOLDER.glob(f"{prefix}*")) == []


def test_a_file_that_a_sweeper_took_before_it_was_locked_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = os.open
    opened: list[str] = []

    def open_and_lose(path: Path, *args: int) -> int:
        descriptor = original(path, *args)
        if not opened:
            opened.append(path.name)
            path.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    region = Region.create(SIZE)
    try:
        assert region.name not in opened
        assert regions.exists(region.name)
        np.testing.assert_array_equal(region.content, 0)
    finally:
        region.close()


def test_no_shared_memory_is_found_where_there_is_none(tmp_path: Path) -> None:
    assert regions.supported()
    assert not regions.supported(tmp_path / "none")
    assert regions.sweep(tmp_path / "none") == []
    with pytest.raises(OSError, match="No such file"):
        Region.create(SIZE, tmp_path / "none")
