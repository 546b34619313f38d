"""The file of a model that runs in this process: where it is, and whether it can be read."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from infer_backends._errors import (
    ModelNotFound,
    PermissionDenied,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends._url import ModelURL


@dataclass(frozen=True, slots=True)
class FileState:
    """What shows that a file is still the one that was opened: compare two of them.

    Attributes:
        device: The number of its file system.
        inode: Its number there.
        size: Its size, in bytes.
        modified: When it was last written, in nanoseconds.
    """

    device: int
    inode: int
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file that a URL in the path form names.

    Attributes:
        path: Its absolute path.
        location: Its URL, as errors show it.
    """

    path: str
    location: str

    @classmethod
    def of(cls, url: ModelURL) -> ModelFile:
        """The file that ``url`` names; a relative path starts at the working directory of now.

        Raises:
            InvalidURL: The URL names a host.
            ModelNotFound: The path is relative, and the working directory is gone.
        """
        path, location = url.require_path(), url.location
        try:
            # Not abspath: it would take "link/.." for nothing.
            absolute = path if Path(path).is_absolute() else str(Path.cwd() / path)
        except OSError as exc:
            raise ModelNotFound(
                f"{location!r} is a relative path, and the working directory is gone: give an "
                "absolute path"
            ) from exc
        return cls(absolute, location)

    def require(self, what: str) -> FileState:
        """The state of the file, which has to be a readable regular file with a name in UTF-8.

        Args:
            what: What it should be, as in "an .onnx file"; for the error.

        Raises:
            ModelNotFound: It is not there, or is something else.
            PermissionDenied: It may not be read.
            UnsupportedOperation: Its name is not UTF-8; runtimes open no other.
            Unavailable: This process, or the system, may open no more files.
        """
        try:
            found = Path(self.path).stat()
            if not stat.S_ISREG(found.st_mode):
                kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
                raise ModelNotFound(f"{self.location!r} is {kind}: give the path of {what}")
            os.close(os.open(self.path, os.O_RDONLY))
        except PermissionError as exc:
            raise PermissionDenied(
                f"{self.location!r} may not be read: check its permissions, and its folder's"
            ) from exc
        except OSError as exc:
            if exc.errno in {errno.EMFILE, errno.ENFILE}:
                raise Unavailable(
                    f"{self.location!r} cannot be read now: {exc.strerror}; close files, or raise "
                    "the limit (ulimit -n)",
                    unprocessed=True,
                ) from exc
            raise ModelNotFound(
                f"there is no model at {self.location!r} ({exc.strerror}); a relative path starts "
                "at the working directory, '~' stands for itself, and a space ends a URL (write "
                "%20)"
            ) from exc
        try:
            self.path.encode()
        except UnicodeEncodeError as exc:
            raise UnsupportedOperation(
                f"the path of {self.location!r} is not UTF-8, and the runtime opens no other: "
                "rename it"
            ) from exc
        return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
