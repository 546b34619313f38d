"""Arrays in ``.npy`` and ``.npz`` files. Nothing is ever unpickled, and nothing pickled.

BYTES tensors are written as NumPy's fixed-length strings. Those drop NULs at the end, so a tensor
that has some is refused rather than changed. BF16, which NumPy's files lack, is written as float32.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from infer_backends._backend import Array

_JSON = "write a .json file instead"


class BadFile(Exception):
    """A file does not hold what its name promises. The message says what is wrong with it."""


def read_npy(path: Path) -> Array:
    """The array of an ``.npy`` file.

    Raises:
        BadFile: It holds none, or one of Python objects.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return _read_array(file, "it")


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an ``.npz`` file, by name.

    Raises:
        BadFile: It is none, or has a member that holds no array, or one of Python objects.
        OSError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if len(set(members)) != len(members):
                raise BadFile("it has two members of one name")
            return {name.removesuffix(".npy"): _read_member(archive, name) for name in members}
    except (OSError, BadFile):
        raise
    except Exception as exc:
        raise BadFile(f"it is no .npz file ({type(exc).__name__})") from exc


def _read_member(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(name) as file:
        return _read_array(file, f"its member {name!r}")


def _read_array(file: IO[bytes], subject: str) -> Array:
    try:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    except OSError:
        raise
    except Exception as exc:
        # On hostile files NumPy raises almost anything, down to errors of Python's tokenizer.
        if "allow_pickle" in str(exc):
            raise BadFile(
                f"{subject} holds Python objects (a pickle), which are never loaded; save strings "
                "as fixed-length arrays, or as JSON"
            ) from exc
        raise BadFile(f"{subject} holds no NumPy array ({type(exc).__name__})") from exc
    return array


def write_npy(path: Path, name: str, array: Array) -> None:
    """Write one array into an ``.npy`` file.

    Raises:
        BadFile: The format cannot hold this array.
        OSError: The file cannot be written.
    """
    require_storable({name: array})
    stored = _storable(array)
    with path.open("wb") as file:
        np.lib.format.write_array(file, stored, allow_pickle=False)


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays into an ``.npz`` file, whatever their names (``numpy.savez`` takes few).

    Raises:
        BadFile: The format cannot hold one of these arrays.
        OSError: The file cannot be written.
    """
    require_storable(arrays)
    stored = {name: _storable(array) for name, array in arrays.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in stored.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def require_storable(arrays: Mapping[str, Array], *, advice: str = _JSON) -> None:
    """Refuse strings that a file would change.

    Args:
        arrays: The arrays, by name.
        advice: What to do instead.

    Raises:
        BadFile: Some end in NUL.
    """
    for name, array in arrays.items():
        if array.dtype == object and any(
            bytes(element).endswith(b"\0") for element in array.reshape(-1).tolist()
        ):
            raise BadFile(
                f"output {name!r} has strings that end in NUL, which NumPy's files drop: {advice}"
            )


def pack_strings(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The same with two arrays for each of strings, which change none of them, nor pad any.

    ``NAME.bytes`` has all of them, one after the other; ``NAME.lengths`` the length of each, in
    the shape of the array.

    Raises:
        BadFile: There is an array of such a name.
    """
    packed: dict[str, Array] = {}
    for name, array in arrays.items():
        parts = {name: array} if array.dtype != object else _packed(name, array)
        for part, value in parts.items():
            if part in packed or (part != name and part in arrays):
                raise BadFile(f"output {part!r} has the name of a part of another output")
            packed[part] = value
    return packed


def _packed(name: str, array: Array) -> dict[str, Array]:
    strings = [bytes(element) for element in array.reshape(-1).tolist()]
    lengths = np.array([len(string) for string in strings], np.int64).reshape(array.shape)
    return {
        f"{name}.bytes": np.frombuffer(b"".join(strings), np.uint8),
        f"{name}.lengths": lengths,
    }


def _storable(array: Array) -> Array:
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    if array.dtype != object:
        return array
    return array.astype(np.bytes_)
