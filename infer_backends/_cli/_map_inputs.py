"""What ``map`` reads: a folder of files, each one sample, or one file whose rows are samples."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from infer_backends._backend import Array
from infer_backends._cli._arrays import BadFile, read_npy, read_npz
from infer_backends._cli._console import note
from infer_backends._cli._failures import Failure
from infer_backends._cli._inputs import BadInput
from infer_backends._tensors import ModelMetadata

_SUFFIXES = (".npy", ".npz")

#: Is told of a sample that cannot be read: its number, and why.
Tell = Callable[[int, str], None]
#: A sample as a model takes it, with its number.
Numbered = tuple[int, Mapping[str, Array]]


class SampleFiles:
    """The files of a folder, each one sample.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        self.paths = [p for p in entries if p.suffix.lower() in _SUFFIXES and p.is_file()]
        self._others = len(entries) - len(self.paths)
        if not self.paths:
            raise BadInput(f"the folder {str(folder)!r} has no .npy or .npz files")
        names: dict[str, Path] = {}
        for path in self.paths:
            other = names.setdefault(path.stem, path)
            if other is not path:
                raise BadInput(
                    f"{other.name!r} and {path.name!r} would have outputs of one name: rename one"
                )

    def say_what_is_left_out(self) -> None:
        """Tell of what else is in the folder."""
        if self._others:
            note(f"left out: {self._others} entries of the folder that are no .npy or .npz files")

    def check(self, metadata: ModelMetadata) -> None:
        """Refuse files that the model cannot take, whatever is in them.

        Raises:
            BadInput: One array, and several inputs.
        """
        required = [spec.name for spec in metadata.inputs if not spec.optional]
        single = next((path for path in self.paths if path.suffix.lower() == ".npy"), None)
        if single is not None and (len(required) > 1 or not metadata.inputs):
            raise BadInput(
                f"{single.name!r} holds one array, and the model's inputs are "
                f"{', '.join(map(str, metadata.inputs)) or 'none'}: write a .npz file for each "
                "sample, with the arrays by input name"
            )

    def read(
        self, numbers: Sequence[int], metadata: ModelMetadata, tell: Tell
    ) -> Iterator[Numbered]:
        """The samples of these numbers, one after the other, each with its number.

        Args:
            numbers: Which files.
            metadata: The model's metadata.
            tell: Is told why a file could not be read.
        """
        required = [spec.name for spec in metadata.inputs if not spec.optional]
        only = next(iter([*required, *(spec.name for spec in metadata.inputs)]), "")
        for number in numbers:
            path = self.paths[number]
            try:
                if path.suffix.lower() == ".npz":
                    yield number, read_npz(path)
                else:
                    yield number, {only: read_npy(path)}
            except OSError as exc:
                tell(number, f"it cannot be read: {exc.strerror or exc}")
            except BadFile as exc:
                tell(number, str(exc))


class SampleRows:
    """The rows of the arrays of one ``.npz`` file, each one sample.

    They are read one after the other, and no more of the file is held; but an array in Fortran
    order, whose rows are not in one piece, is held whole.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lengths = {}
        with self._archive() as archive:
            members = archive.namelist()
            for name in members:
                with archive.open(name) as file:
                    shape, _, _ = _header(file, name)
                if not shape:
                    raise BadFile(f"its member {name!r} is a single value, and has no rows")
                lengths[name.removesuffix(".npy")] = shape[0]
        if len(lengths) != len(members):
            raise BadFile("it has two members of one name")
        if not lengths:
            raise BadFile("it has no arrays")
        if len(set(lengths.values())) != 1:
            described = ", ".join(f"{name!r} has {count}" for name, count in lengths.items())
            raise BadFile(f"all its arrays need the same number of rows: {described}")
        self.names = list(lengths)
        self._members = dict(zip(lengths, members, strict=True))
        self.count = next(iter(lengths.values()))
        if not self.count:
            raise BadFile("its arrays have no rows")

    @contextlib.contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                yield archive
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as exc:
            # The last is raised for what is encrypted, or compressed in a strange way.
            raise BadFile(f"it is no .npz file, or damaged ({type(exc).__name__})") from exc

    def check(self, metadata: ModelMetadata) -> None:
        """Refuse arrays that are not the model's inputs.

        Raises:
            BadInput: A name is unknown, or missing.
        """
        known = {spec.name: spec for spec in metadata.inputs}
        missing = [n for n, spec in known.items() if not spec.optional and n not in self.names]
        unknown = [name for name in self.names if name not in known]
        if missing or unknown:
            raise BadInput(
                f"the file {str(self._path)!r} has the arrays {', '.join(self.names)}; expected "
                f"the model's inputs by name: {', '.join(map(str, metadata.inputs)) or 'none'}"
            )

    def read(
        self,
        numbers: Sequence[int],
        metadata: ModelMetadata,  # noqa: ARG002 - as of files
        tell: Tell,  # noqa: ARG002 - rows are there or the whole file is not
    ) -> Iterator[Numbered]:
        """The samples of these numbers, one after the other, each with its number.

        Raises:
            Failure: The file cannot be read to its end.
        """
        try:
            with self._archive() as archive, contextlib.ExitStack() as stack:
                members = {
                    name: _Rows(stack.enter_context(archive.open(member)), member)
                    for name, member in self._members.items()
                }
                for number in numbers:
                    yield number, {name: rows.row(number) for name, rows in members.items()}
        except (OSError, BadFile) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise Failure(f"the file {str(self._path)!r} cannot be read: {reason}") from exc


class _Rows:
    """The rows of one array, from its first to its last."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        shape, fortran, dtype = _header(file, name)
        self._file = file
        self._shape, self._dtype = shape[1:], dtype
        self._bytes = prod(shape[1:]) * dtype.itemsize
        self._next = 0
        self._whole: Array | None = None
        if fortran and len(shape) > 1:
            content = file.read()
            self._whole = np.ndarray(shape, dtype, content, order="F")

    def row(self, number: int) -> Array:
        """A row after those that were asked for before."""
        if self._whole is not None:
            row: Array = np.ascontiguousarray(self._whole[number])
            return row
        if number > self._next:
            self._file.seek((number - self._next) * self._bytes, 1)
        self._next = number + 1
        content = self._file.read(self._bytes)
        if len(content) != self._bytes:
            raise BadFile(f"row {number} is cut off")
        found: Array = np.ndarray(self._shape, self._dtype, content)
        return found


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
    except OSError:
        raise
    except Exception as exc:
        # On hostile files NumPy raises almost anything, down to errors of Python's tokenizer.
        raise BadFile(f"its member {name!r} holds no NumPy array ({type(exc).__name__})") from exc
    if dtype.hasobject:
        raise BadFile(
            f"its member {name!r} holds Python objects (a pickle), which are never loaded; save "
            "strings as fixed-length arrays"
        )
    return shape, fortran, dtype


Samples = SampleFiles | SampleRows


def read_samples(path: Path) -> Samples:
    """What there is to do.

    Raises:
        BadInput: Nothing, or nothing that can be read.
    """
    try:
        if path.is_dir():
            return SampleFiles(path)
        if path.suffix.lower() != ".npz":
            kind = "is not there" if not path.exists() else "is no folder, and no .npz file"
            raise BadInput(
                f"{str(path)!r} {kind}: expected a folder of .npy and .npz files, each "
                "one sample, or one .npz file whose rows are samples"
            )
        return SampleRows(path)
    except OSError as exc:
        raise BadInput(f"{str(path)!r} cannot be read: {exc.strerror or exc}") from exc
    except BadFile as exc:
        raise BadInput(f"the file {str(path)!r}: {exc}") from exc
