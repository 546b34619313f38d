"""Writes a folder that is there when it is complete, and not before; never over another."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from infer_backends._cli._failures import Failure
from infer_backends._cli._inputs import BadInput

_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR})


def require_vacant(folder: Path) -> None:
    """Refuse a folder that holds something, or cannot be made.

    Raises:
        BadInput: With what is in the way.
    """
    name = str(folder)
    if not folder.parent.is_dir():
        raise BadInput(f"{str(folder.parent)!r} is no folder: make it first")
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise BadInput(f"{name!r} exists, and is no folder: name another with --folder")
    if any(folder.iterdir()):
        raise BadInput(f"{name!r} exists, and is not empty: name another with --folder")
    if folder.samefile(Path.cwd()):
        raise BadInput(f"{name!r} is the working directory: go to another, or name a new folder")


def write_folder(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files into a folder that is not there yet, or is empty: all of them, or nothing.

    Args:
        folder: The folder.
        texts: The files, by their paths in it.

    Raises:
        Failure: It cannot be written, or is not vacant any more.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".infer-backends-", dir=folder.parent) as made:
            # One more level: the temporary folder itself is for nobody else's eyes.
            complete = Path(made) / folder.name
            for path, text in texts.items():
                target = complete / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8", newline="\n")
            if os.name == "nt" and folder.is_dir():
                folder.rmdir()  # the system renames nothing to a name that exists
            complete.rename(folder)
    except OSError as exc:
        reason = (
            "something else was put there meanwhile" if exc.errno in _OCCUPIED else exc.strerror
        )
        raise Failure(f"{str(folder)!r} was not written: {reason}") from exc
