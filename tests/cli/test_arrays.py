"""Arrays go to files and come back, without pickle, whatever a file holds."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infer_backends._cli._arrays import BadFile, read_npy, read_npz, write_npy, write_npz

_NUMBERS = ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]


class Exploding:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    array=st.sampled_from(_NUMBERS).flatmap(
        lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, min_side=0))
    ),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
)
def test_numbers_come_back_as_they_were(tmp_path: Path, array: Any, name: str) -> None:
    write_npz(tmp_path / "x.npz", {name: array})
    write_npy(tmp_path / "x.npy", name, array)
    found = read_npz(tmp_path / "x.npz")
    assert list(found) == [name]
    for back in (found[name], read_npy(tmp_path / "x.npy")):
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_the_files_are_numpys_own(tmp_path: Path) -> None:
    x = np.arange(6).reshape(2, 3)
    write_npz(tmp_path / "x.npz", {"file": x, "a/b": x})
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert found.files == ["file", "a/b"]
        np.testing.assert_array_equal(found["a/b"], x)


def test_strings_are_written_as_fixed_length_strings(tmp_path: Path) -> None:
    strings = np.array([[b"cat", b""], [b"\xff\0x", b"d"]], object)
    write_npy(tmp_path / "x.npy", "y", strings)
    found = read_npy(tmp_path / "x.npy")
    assert found.dtype == np.dtype("S3")
    assert found.tolist() == strings.tolist()


def test_no_strings_at_all_keep_their_shape(tmp_path: Path) -> None:
    write_npy(tmp_path / "x.npy", "y", np.empty((0, 2), object))
    assert read_npy(tmp_path / "x.npy").shape == (0, 2)


def test_strings_that_numpy_would_shorten_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="output 'y' has strings that end in NUL.*a .json file"):
        write_npz(tmp_path / "x.npz", {"y": np.array([b"a\0"], object)})
    assert not (tmp_path / "x.npz").exists()


def test_bf16_is_written_as_float32(tmp_path: Path) -> None:
    x = np.array([1.5, -2], ml_dtypes.bfloat16)
    write_npy(tmp_path / "x.npy", "y", x)
    found = read_npy(tmp_path / "x.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1.5, -2])


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_nothing_is_ever_unpickled(tmp_path: Path, suffix: str) -> None:
    trace, path = tmp_path / "exploded", tmp_path / f"x{suffix}"
    hostile = np.array([Exploding(trace)], object)
    if suffix == ".npy":
        np.save(path, hostile, allow_pickle=True)
    else:
        np.savez(path, x=hostile)
    with pytest.raises(BadFile, match=r"holds Python objects \(a pickle\), which are never loaded"):
        read_npy(path) if suffix == ".npy" else read_npz(path)
    path.write_bytes(pickle.dumps(Exploding(trace)))
    with pytest.raises(BadFile, match="holds no NumPy array|is no .npz file"):
        read_npy(path) if suffix == ".npy" else read_npz(path)
    assert not trace.exists()


def _header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00",
        _header(b"{}"),
        _header(b"import os"),
        _header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}"),
        _header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,)}"),
        _header(b"{'descr': '<f4', 'fortran_order': False, 'shape': ('x',)}"),
        _header(b"{'descr': 'bogus', 'fortran_order': False, 'shape': (3,)}"),
        _header(b"(" * 5000),
    ],
)
def test_a_file_that_is_none_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(BadFile, match="it holds no NumPy array"):
        read_npy(path)
    path.write_bytes(content)
    with pytest.raises(BadFile, match="it is no .npz file"):
        read_npz(path)


def test_members_that_are_no_arrays_and_equal_names_are_refused(tmp_path: Path) -> None:
    path, buffer = tmp_path / "x.npz", io.BytesIO()
    np.save(buffer, np.zeros(1))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(BadFile, match="its member 'readme.txt' holds no NumPy array"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", buffer.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.npy", buffer.getvalue())
    with pytest.raises(BadFile, match="two members of one name"):
        read_npz(path)
