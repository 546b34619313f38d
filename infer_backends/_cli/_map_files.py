"""What ``map`` writes: whole files or none, and only one run at a time."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from infer_backends._backend import Array
from infer_backends._cli._arrays import pack_strings, require_storable, write_npz
from infer_backends._cli._failures import Failure
from infer_backends._cli._inputs import BadInput

_PACK = "use --strings packed"
_UNFINISHED = ".infer-backends-*.part"
_ROWS = re.compile(r"rows-(\d{8,})-(\d{8,})\.npz")
#: Rows are written when there are so many bytes of them, so that memory stays bounded.
_MOST_BYTES = 64 << 20


class Folder:
    """The folder of the outputs.

    Args:
        path: Where it is; made by :meth:`open`.
        packed: Whether strings are packed.
    """

    def __init__(self, path: Path, *, packed: bool) -> None:
        self.path = path
        self._packed = packed

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Keep other runs out, and remove what one that was killed left unfinished."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise BadInput(f"{str(self.path)!r} is no folder, and cannot be made one") from exc
        with _alone_in(self.path):
            for path in self.path.glob(_UNFINISHED):
                with contextlib.suppress(OSError):
                    path.unlink()
            yield

    def require_storable(self, outputs: Mapping[str, Array]) -> None:
        """Refuse what the files would change.

        Raises:
            BadFile: Strings that end in NUL.
        """
        if not self._packed:
            require_storable(outputs, advice=_PACK)

    def write(self, name: str, outputs: Mapping[str, Array]) -> None:
        """Write a file that is there when it is finished, and not before.

        Raises:
            BadFile: The format cannot hold the outputs.
            Failure: The file cannot be written.
        """
        stored = pack_strings(outputs) if self._packed else outputs
        unfinished = self.path / _UNFINISHED.replace("*", f"{os.getpid()}-{secrets.token_hex(4)}")
        try:
            try:
                write_npz(unfinished, stored)
                unfinished.replace(self.path / name)
            except BaseException:
                with contextlib.suppress(OSError):
                    unfinished.unlink()
                raise
        except OSError as exc:
            written = str(self.path / name)
            raise Failure(f"{written!r} cannot be written: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows, where nobody can remove a file that is being written
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise Failure(f"another run writes to {str(folder)!r}: wait for its end") from exc
        except OSError:
            # Some network file systems lock no folders.
            pass
        yield
    finally:
        os.close(descriptor)


class RowFiles:
    """Rows in files ``rows-FIRST-LAST.npz``, by whose names it is known which rows are there.

    Args:
        folder: Where they are.
        most: The most rows in one file.
    """

    def __init__(self, folder: Folder, most: int) -> None:
        self._folder = folder
        self._most = most
        self._first = 0
        self._rows: list[Mapping[str, Array]] = []
        self._bytes = 0

    def add(self, row: int, outputs: Mapping[str, Array]) -> None:
        """Take the outputs of a row; rows come in order.

        Raises:
            BadFile: The format cannot hold them; nothing was taken.
            Failure: A file cannot be written.
        """
        self._folder.require_storable(outputs)
        if self._rows and (row != self._first + len(self._rows) or not self._alike(outputs)):
            self.flush()
        if not self._rows:
            self._first = row
        self._rows.append(outputs)
        self._bytes += sum(map(_size, outputs.values()))
        if len(self._rows) == self._most or self._bytes >= _MOST_BYTES:
            self.flush()

    def _alike(self, outputs: Mapping[str, Array]) -> bool:
        last = self._rows[-1]
        return all(array.shape == last[name].shape for name, array in outputs.items())

    def flush(self) -> None:
        """Write what was taken.

        Raises:
            Failure: The file cannot be written.
        """
        rows, self._rows, self._bytes = self._rows, [], 0
        if rows:
            joined = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            last = self._first + len(rows) - 1
            self._folder.write(f"rows-{self._first:08d}-{last:08d}.npz", joined)


def _size(array: Array) -> int:
    if array.dtype == object:
        return sum(len(element) for element in array.reshape(-1).tolist())
    return array.nbytes


def missing_rows(folder: Path, count: int) -> list[range]:
    """The rows of ``count`` that no file has, in order.

    Raises:
        BadInput: A file has rows that there are not, or that another has too.
    """
    found = []
    for path in folder.glob("rows-*.npz") if folder.is_dir() else ():
        matched = _ROWS.fullmatch(path.name)
        if matched:
            found.append((int(matched[1]), int(matched[2]), path.name))
    missing, expected = [], 0
    for first, last, name in sorted(found):
        if not expected <= first <= last < count:
            raise BadInput(
                f"{str(folder / name)!r} has rows that are not in the input ({count} rows), or in "
                "another file, too: take another folder for the outputs, or remove it"
            )
        missing.append(range(expected, first))
        expected = last + 1
    missing.append(range(expected, count))
    return [rows for rows in missing if rows]


def numbered(ranges: Sequence[range]) -> Sequence[int]:
    """All numbers of ranges, without making them."""
    return _Numbers(ranges)


class _Numbers(Sequence[int]):
    def __init__(self, ranges: Sequence[range]) -> None:
        self._ranges = ranges
        self._starts = [0]
        for numbers in ranges:
            self._starts.append(self._starts[-1] + len(numbers))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> int:  # type: ignore[override]
        place = bisect_right(self._starts, index) - 1
        return self._ranges[place][index - self._starts[place]]
