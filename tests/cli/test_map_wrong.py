"""``infer-backends map``: what it refuses, and what ends it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infer_backends._cli import _map_files
from tests.cli.conftest import Invoke
from tests.cli.map_files import FAKE, written

posix = pytest.mark.skipif(os.name != "posix", reason="this system locks no folders so")


def write_wrong_files() -> None:
    for name in ("empty", "other", "twice"):
        Path(name).mkdir()
    Path("other/a.txt").touch()
    np.save("twice/a.npy", np.zeros(2))
    np.savez("twice/a.npz", x=np.zeros(2))
    np.savez("objects.npz", x=np.array([None, None]))
    np.savez("uneven.npz", x=np.zeros((2, 2)), z=np.zeros((3, 2)))
    np.savez("scalar.npz", x=np.float32(1))
    np.savez("none.npz", x=np.zeros((0, 2)))
    np.savez("noarrays.npz")
    np.savez("unknown.npz", images=np.zeros((2, 2)))
    Path("text.npz").write_text("no archive")
    with zipfile.ZipFile("strange.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
    np.save("array.npy", np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("gone", "'gone' is not there: expected a folder of .npy and .npz files"),
        ("array.npy", "'array.npy' is no folder, and no .npz file"),
        ("empty", "the folder 'empty' has no .npy or .npz files"),
        ("other", "the folder 'other' has no .npy or .npz files"),
        ("twice", "'a.npy' and 'a.npz' would have outputs of one name"),
        ("objects.npz", "Python objects (a pickle), which are never loaded"),
        ("uneven.npz", "need the same number of rows: 'x' has 2, 'z' has 3"),
        ("scalar.npz", "'x.npy' is a single value, and has no rows"),
        ("none.npz", "its arrays have no rows"),
        ("noarrays.npz", "it has no arrays"),
        ("unknown.npz", "has the arrays images; expected the model's inputs by name: x: FP32[-1"),
        ("text.npz", "it is no .npz file, or damaged"),
        ("strange.npz", "'x.npy' holds no NumPy array"),
    ],
)
def test_inputs_that_are_none_are_one_line_and_nothing_is_sent(
    invoke: Invoke, folder_of_samples: Path, fake: Any, inputs: str, message: str
) -> None:
    backend = fake()
    write_wrong_files()
    result = invoke("map", FAKE, inputs, "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert backend.requests == []
    assert not Path("out").exists() or list(Path("out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["samples", "samples"], "OUTPUTS is the folder of the inputs"),
        (["samples", "rows.npz"], "'rows.npz' is no folder, and cannot be made one"),
        (["samples", "rows.npz/out"], "is no folder, and cannot be made one"),
        (["samples", "out", "--batch-size", "0"], "is not auto, nor a whole number from 1 on"),
        (["samples", "out", "--batch-size", "some"], "is not auto, nor a whole number from 1 on"),
        (["samples", "out", "--concurrency", "0"], "--concurrency"),
        (["samples", "out", "--outputs", "z"], "unknown output 'z'"),
    ],
)
def test_what_was_asked_wrongly_is_one_line_and_exit_code_2(
    invoke: Invoke, folder_of_samples: Path, doubling: Path, arguments: list[str], message: str
) -> None:
    result = invoke("map", doubling, *arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_one_array_is_no_sample_of_a_model_with_several_inputs(
    invoke: Invoke, folder_of_samples: Path, arithmetic: Path
) -> None:
    result = invoke("map", arithmetic, "samples", "out")
    assert result.exit_code == 2
    assert "'0.npy' holds one array, and the model's inputs are a: FP32[-1, 2], b:" in result.stderr


def test_what_else_is_in_the_folder_is_said(
    invoke: Invoke, folder_of_samples: Path, doubling: Path
) -> None:
    Path("samples/notes.txt").touch()
    Path("samples/more").mkdir()
    Path("samples/.hidden.npy").touch()
    result = invoke("map", doubling, "samples", "out")
    assert result.exit_code == 0
    assert result.stderr.startswith("left out: 2 entries of the folder that are no .npy or .npz")


def test_outputs_that_cannot_be_written_end_the_run(
    invoke: Invoke, folder_of_samples: Path, doubling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_map_files, "write_npz", full)
    for inputs in ("samples", "rows.npz"):
        result = invoke("map", doubling, inputs, "out")
        assert result.exit_code == 1
        assert ".npz' cannot be written: No space left on device" in result.stderr
        assert list(Path("out").iterdir()) == []


def test_a_file_that_is_cut_off_ends_the_run_after_the_rows_before(
    invoke: Invoke, folder_of_samples: Path, doubling: Path
) -> None:
    header = np.lib.format.header_data_from_array_1_0(np.zeros((5, 2), np.float32))
    with zipfile.ZipFile("cut.npz", "w") as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ones((3, 2), np.float32).tobytes())
    result = invoke("map", doubling, "cut.npz", "out")
    assert result.exit_code == 1
    assert result.stderr.endswith("error: the file 'cut.npz' cannot be read: row 3 is cut off\n")
    assert written() == {"rows-00000000-00000002.npz": {"y": [[2, 2]] * 3}}


def test_a_bar_is_shown_if_asked_for(
    invoke: Invoke, folder_of_samples: Path, doubling: Path
) -> None:
    shown = invoke("map", doubling, "samples", "out", "--progress")
    assert "5/5" in shown.stderr
    assert shown.stdout == ""
    assert "5/5" not in invoke("map", doubling, "rows.npz", "rows").stderr


@posix
def test_two_runs_do_not_write_to_one_folder(
    invoke: Invoke, folder_of_samples: Path, doubling: Path
) -> None:
    with _map_files.Folder(Path("out"), packed=False).open():
        result = invoke("map", doubling, "samples", "out")
    assert result.exit_code == 1
    assert "error: another run writes to 'out': wait for its end" in result.stderr
    assert invoke("map", doubling, "samples", "out").exit_code == 0
