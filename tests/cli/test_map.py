"""``infer-backends map``: from files to files, and nothing done twice or by halves."""

from __future__ import annotations

import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends._cli import _map_files
from infer_backends._cli._demo._digits import held_out_digits
from infer_backends.plugin import DataType, InferRequest, ModelMetadata, TensorSpec
from tests.cli.conftest import Invoke, start
from tests.core.fakes import FakeBackend, double, metadata

posix = pytest.mark.skipif(os.name != "posix", reason="this system has no such signals or locks")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with samples/0.npy to 4.npy, [i, i] each, and rows.npz, the same."""
    monkeypatch.chdir(tmp_path)
    Path("samples").mkdir()
    for value in range(5):
        np.save(f"samples/{value}.npy", np.full(2, value, np.float32))
    np.savez("rows.npz", x=np.repeat(np.arange(5, dtype=np.float32), 2).reshape(5, 2))
    return tmp_path


def written(folder: str | Path = "out") -> dict[str, Any]:
    """What is in every file of a folder, by the file's name."""
    found = {}
    for path in sorted(Path(folder).iterdir()):
        with np.load(path, allow_pickle=False) as file:
            found[path.name] = {name: file[name].tolist() for name in file.files}
    return found


def joined(name: str = "y", folder: str = "out") -> list[Any]:
    """The rows of an output, put together as the documentation says."""
    paths = sorted(Path(folder).glob("rows-*.npz"))
    rows: list[Any] = np.concatenate([np.load(path)[name] for path in paths]).tolist()
    return rows


@pytest.fixture
def fake() -> Iterator[Callable[..., FakeBackend]]:
    """``fake(answer, metadata)``: the backend at ``fake://h/m``."""
    backends: list[FakeBackend] = []

    def make(answer: Any = double, described: ModelMetadata | None = None) -> FakeBackend:
        model = described or metadata(
            [TensorSpec("x", DataType.FP32, (-1, 2))], [TensorSpec("y", DataType.FP32, (-1, 2))]
        )
        backends.append(FakeBackend(answer, metadata=model))
        return backends[-1]

    with ib.register_backend("fake", lambda url, options: backends[-1]):
        yield make


FAKE = "fake://h/m"


def test_every_file_of_a_folder_has_a_file_of_outputs(
    invoke: Invoke, folder: Path, doubling: Path
) -> None:
    result = invoke("map", doubling, "samples", "out/new")
    assert (result.exit_code, result.stdout) == (0, "")
    assert written("out/new") == {f"{i}.npz": {"y": [2 * i, 2 * i]} for i in range(5)}
    first, second = result.stderr.splitlines()
    assert first.startswith("done 5, skipped 0, failed 0 in ")
    assert first.endswith(" samples/s")
    assert second == f"answered by onnx:{doubling}: 5".replace(" as much", "%20as%20much")


def test_a_sample_of_several_inputs_is_an_npz_file(
    invoke: Invoke, folder: Path, arithmetic: Path
) -> None:
    Path("pairs").mkdir()
    np.savez("pairs/p.npz", a=np.array([1, 2]), b=np.array([3, 4]))
    assert invoke("map", arithmetic, "pairs", "out", "--outputs", "difference").exit_code == 0
    assert written() == {"p.npz": {"difference": [-2, -2]}}


def test_the_rows_of_one_file_go_to_files_of_some_rows(
    invoke: Invoke, folder: Path, doubling: Path
) -> None:
    result = invoke("map", doubling, "rows.npz", "out", "--rows-per-file", "2")
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in sorted(Path("out").iterdir())] == [
        "rows-00000000-00000001.npz",
        "rows-00000002-00000003.npz",
        "rows-00000004-00000004.npz",
    ]
    assert joined() == [[0, 0], [2, 2], [4, 4], [6, 6], [8, 8]]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_are_read_one_by_one_and_in_any_layout(
    invoke: Invoke, folder: Path, arithmetic: Path, save: Any
) -> None:
    a = np.arange(2000, dtype=">f8").reshape(1000, 2)
    save("rows.npz", a=a, b=np.asfortranarray(a.astype(np.float32)))
    assert invoke("map", arithmetic, "rows.npz", "out").exit_code == 0
    np.testing.assert_array_equal(joined("sum"), 2 * a)


def test_what_is_there_is_not_made_again(invoke: Invoke, folder: Path, fake: Any) -> None:
    backend = fake()
    invoke("map", FAKE, "samples", "out")
    Path("out/1.npz").unlink()
    Path("out/3.npz").write_bytes(b"as it was")
    backend.requests.clear()
    result = invoke("map", FAKE, "samples", "out")
    assert result.exit_code == 0
    assert result.stderr.startswith("done 1, skipped 4, failed 0 in ")
    (request,) = backend.requests
    assert request.inputs["x"].tolist() == [[1, 1]]
    assert Path("out/3.npz").read_bytes() == b"as it was"
    # With nothing to do, nobody is asked.
    again = invoke("map", "http://localhost:1/gone", "samples", "out")
    assert (again.exit_code, again.stderr) == (0, "nothing to do: all 5 samples have outputs\n")


def test_rows_that_are_there_are_not_made_again(invoke: Invoke, folder: Path, fake: Any) -> None:
    backend = fake()
    invoke("map", FAKE, "rows.npz", "out", "--rows-per-file", "1")
    for row in (1, 2, 4):
        Path(f"out/rows-{row:08d}-{row:08d}.npz").unlink()
    backend.requests.clear()
    result = invoke("map", FAKE, "rows.npz", "out")
    assert result.stderr.startswith("done 3, skipped 2, failed 0 in ")
    assert backend.requests[0].inputs["x"][:, 0].tolist() == [1, 2, 4]
    assert [name for name in written() if "1" in name] == ["rows-00000001-00000002.npz"]
    assert joined() == [[0, 0], [2, 2], [4, 4], [6, 6], [8, 8]]


def test_rows_of_another_input_are_not_taken_for_ours(
    invoke: Invoke, folder: Path, doubling: Path
) -> None:
    Path("out").mkdir()
    for name in ("rows-00000003-00000007.npz", "rows-00000002-00000001.npz"):
        Path("out", name).touch()
        result = invoke("map", doubling, "rows.npz", "out")
        assert result.exit_code == 2
        assert f"{name}' has rows that are not in the input (5 rows)" in result.stderr
        Path("out", name).unlink()


def test_a_bad_sample_is_told_and_stops_nobody(
    invoke: Invoke, folder: Path, doubling: Path
) -> None:
    np.save("samples/2.npy", np.zeros(3, np.float32))
    np.save("samples/3.npy", np.array([{}]), allow_pickle=True)
    Path("samples/4.npy").write_bytes(b"no array")
    result = invoke("map", doubling, "samples", "out")
    assert result.exit_code == 1
    assert sorted(written()) == ["0.npz", "1.npz"]
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("failed: 2.npy: ")] == [
        "failed: 2.npy: input 'x': expected shape (2,), got (3,); -1 stands for any length"
    ]
    (pickled,) = [line for line in lines if line.startswith("failed: 3.npy: ")]
    assert "Python objects (a pickle), which are never loaded" in pickled
    (broken,) = [line for line in lines if line.startswith("failed: 4.npy: ")]
    assert "holds no NumPy array" in broken
    assert lines[-2].startswith("done 2, skipped 0, failed 3 in ")
    # Only what failed is tried again.
    np.save("samples/2.npy", np.zeros(2, np.float32))
    assert invoke("map", doubling, "samples", "out").stderr.count("failed: ") == 2
    assert sorted(written()) == ["0.npz", "1.npz", "2.npz"]


def test_a_bad_row_is_left_out_and_its_neighbours_are_not(
    invoke: Invoke, folder: Path, fake: Any
) -> None:
    bad = {1.0, 2.0}

    def answer(request: InferRequest) -> Any:
        if bad & set(request.inputs["x"][:, 0].tolist()):
            raise ib.InferenceFailed("the model does not like it")
        return double(request)

    fake(answer)
    result = invoke("map", FAKE, "rows.npz", "out")
    assert result.exit_code == 1
    assert "failed: rows 1 to 2: the model does not like it" in result.stderr
    assert list(written()) == ["rows-00000000-00000000.npz", "rows-00000003-00000004.npz"]
    bad.clear()
    assert invoke("map", FAKE, "rows.npz", "out").exit_code == 0
    assert joined() == [[0, 0], [2, 2], [4, 4], [6, 6], [8, 8]]


def test_it_stops_at_the_first_bad_sample_if_told_to(
    invoke: Invoke, folder: Path, doubling: Path
) -> None:
    np.save("samples/0.npy", np.zeros(3, np.float32))
    result = invoke("map", doubling, "samples", "out", "--on-error", "stop", "--batch-size", 1)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith("failed: 0.npy: ")
    assert lines[-1] == "error: stopped at the first sample that failed, as --on-error says"


def test_it_stops_when_nobody_answers_any_more(invoke: Invoke, folder: Path, fake: Any) -> None:
    def leave(request: InferRequest) -> Any:
        raise ib.Unavailable("it has left")

    fake(leave)
    np.savez("rows.npz", x=np.zeros((10_000, 2), np.float32))
    result = invoke("map", FAKE, "rows.npz", "out")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "failed: rows 0 to 224: it has left"
    assert lines[1].startswith("done 0, skipped 0, failed 225 in ")
    assert lines[-1].startswith("error: stopped: 8 requests in a row had no answer; what is fin")


def test_outputs_of_several_shapes_are_in_files_of_their_own(
    invoke: Invoke, folder: Path, fake: Any
) -> None:
    y = TensorSpec("y", DataType.FP32, (-1, -1))
    described = metadata([TensorSpec("x", DataType.FP32, (-1, 2))], [y], max_batch_size=1)

    def answer(request: InferRequest) -> Any:
        length = 1 if request.inputs["x"][0, 0] < 2 else 3
        return {"y": np.ones((1, length), np.float32)}

    fake(answer, described)
    assert invoke("map", FAKE, "rows.npz", "out").exit_code == 0
    assert written() == {
        "rows-00000000-00000001.npz": {"y": [[1]] * 2},
        "rows-00000002-00000004.npz": {"y": [[1, 1, 1]] * 3},
    }


def test_memory_for_outputs_is_bounded(
    invoke: Invoke, folder: Path, doubling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_map_files, "_MOST_BYTES", 16)
    assert invoke("map", doubling, "rows.npz", "out").exit_code == 0
    assert len(written()) == 3


TEXT = metadata(
    [TensorSpec("x", DataType.BYTES, (-1, 2))], [TensorSpec("y", DataType.BYTES, (-1, 2))]
)


def nul_first(request: InferRequest) -> Any:
    y = request.inputs["x"].copy()
    y[y == b"nul"] = b"nul\0"
    return {"y": y}


@pytest.mark.parametrize("inputs", ["texts.npz", "texts"])
def test_strings_that_a_file_would_change_are_not_written(
    invoke: Invoke, folder: Path, fake: Any, inputs: str
) -> None:
    fake(nul_first, TEXT)
    words = np.array([["a", "bcd"], ["nul", ""], ["\u00e9", "f"]])
    np.savez("texts.npz", x=words)
    Path("texts").mkdir()
    for number, row in enumerate(words):
        np.save(f"texts/{number}.npy", row.astype("U") if number else np.char.encode(row))
    result = invoke("map", FAKE, inputs, "out")
    assert result.exit_code == 1
    assert (
        "output 'y' has strings that end in NUL, which NumPy's files drop: use --strings pac"
        in (result.stderr)
    )
    found = [row for file in written().values() for row in np.reshape(file["y"], (-1, 2)).tolist()]
    assert found == [[b"a", b"bcd"], ["\u00e9".encode(), b"f"]]
    # Only what was not written is asked for again, and written as it is.
    assert invoke("map", FAKE, inputs, "out", "--strings", "packed").exit_code == 0
    (packed,) = [file for file in written().values() if "y" not in file]
    assert bytes(packed["y.bytes"]) == b"nul\0"
    assert np.reshape(packed["y.lengths"], -1).tolist() == [4, 0]


def test_packed_strings_are_read_as_the_documentation_says(
    invoke: Invoke, folder: Path, fake: Any
) -> None:
    fake(nul_first, TEXT)
    np.savez("texts.npz", x=np.array([["a", "nul"], ["", "bcd"]]))
    assert invoke("map", FAKE, "texts.npz", "out", "--strings", "packed").exit_code == 0
    with np.load("out/rows-00000000-00000001.npz") as file:
        lengths, content = file["y.lengths"], file["y.bytes"].tobytes()
    ends = lengths.cumsum()
    strings = [content[end - n : end] for end, n in zip(ends, lengths.flat, strict=True)]
    assert (strings, lengths.shape) == ([b"a", b"nul\0", b"", b"bcd"], (2, 2))


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
    invoke: Invoke, folder: Path, fake: Any, inputs: str, message: str
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
    invoke: Invoke, folder: Path, doubling: Path, arguments: list[str], message: str
) -> None:
    result = invoke("map", doubling, *arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_one_array_is_no_sample_of_a_model_with_several_inputs(
    invoke: Invoke, folder: Path, arithmetic: Path
) -> None:
    result = invoke("map", arithmetic, "samples", "out")
    assert result.exit_code == 2
    assert "'0.npy' holds one array, and the model's inputs are a: FP32[-1, 2], b:" in result.stderr


def test_what_else_is_in_the_folder_is_said(invoke: Invoke, folder: Path, doubling: Path) -> None:
    Path("samples/notes.txt").touch()
    Path("samples/more").mkdir()
    Path("samples/.hidden.npy").touch()
    result = invoke("map", doubling, "samples", "out")
    assert result.exit_code == 0
    assert result.stderr.startswith("left out: 2 entries of the folder that are no .npy or .npz")


def test_outputs_that_cannot_be_written_end_the_run(
    invoke: Invoke, folder: Path, doubling: Path, monkeypatch: pytest.MonkeyPatch
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
    invoke: Invoke, folder: Path, doubling: Path
) -> None:
    header = np.lib.format.header_data_from_array_1_0(np.zeros((5, 2), np.float32))
    with zipfile.ZipFile("cut.npz", "w") as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ones((3, 2), np.float32).tobytes())
    result = invoke("map", doubling, "cut.npz", "out")
    assert result.exit_code == 1
    assert result.stderr.endswith("error: the file 'cut.npz' cannot be read: row 3 is cut off\n")
    assert written() == {"rows-00000000-00000002.npz": {"y": [[2, 2]] * 3}}


def test_a_bar_is_shown_if_asked_for(invoke: Invoke, folder: Path, doubling: Path) -> None:
    shown = invoke("map", doubling, "samples", "out", "--progress")
    assert "5/5" in shown.stderr
    assert shown.stdout == ""
    assert "5/5" not in invoke("map", doubling, "rows.npz", "rows").stderr


@posix
def test_two_runs_do_not_write_to_one_folder(invoke: Invoke, folder: Path, doubling: Path) -> None:
    with _map_files.Folder(Path("out"), packed=False).open():
        result = invoke("map", doubling, "samples", "out")
    assert result.exit_code == 1
    assert "error: another run writes to 'out': wait for its end" in result.stderr
    assert invoke("map", doubling, "samples", "out").exit_code == 0


SLOW = """
import sys, time
import numpy as np
import infer_backends as ib
from infer_backends._cli import main
from infer_backends._cli import _map_files
from tests.core.fakes import FakeBackend, double, metadata
from infer_backends.plugin import DataType, TensorSpec

def answer(request):
    time.sleep(0.05)
    return double(request)

specs = [[TensorSpec(name, DataType.FP32, (-1, 2))] for name in "xy"]
backend = FakeBackend(answer, metadata=metadata(*specs))
write = _map_files.write_npz
def half_first(path, arrays):
    path.write_bytes(b"half")
    print("writing", flush=True)
    write(path, arrays)
_map_files.write_npz = half_first
with ib.register_backend("fake", lambda url, options: backend):
    main()
"""


@posix
@pytest.mark.parametrize("inputs", ["many", "many.npz"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_goes_on_where_it_was(
    invoke: Invoke, folder: Path, doubling: Path, inputs: str, number: signal.Signals
) -> None:
    values = np.repeat(np.arange(200, dtype=np.float32), 2).reshape(200, 2)
    np.savez("many.npz", x=values)
    Path("many").mkdir()
    for index, row in enumerate(values):
        np.save(f"many/{index:03d}.npy", row)
    options = ("--batch-size", "1", "--concurrency", "1", "--rows-per-file", "3")
    root = Path(__file__).parents[2]
    program = start("map", FAKE, inputs, "out", *options, program=SLOW, PYTHONPATH=str(root))
    assert program.stdout is not None
    for _ in range(4):
        assert program.stdout.readline() == "writing\n"
    program.send_signal(number)
    _, stderr = program.communicate(timeout=60)
    files = [path for path in Path("out").iterdir() if path.suffix == ".npz"]
    assert len(files) >= 3
    if number == signal.SIGINT:
        assert program.returncode == 130
        assert "done " in stderr
        assert sorted(Path("out").glob(".*")) == []
    for path in files:
        with np.load(path) as file:
            assert file["y"].dtype == np.float32
    # One that was killed while it wrote.
    Path("out/.infer-backends-1-00.part").write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in files}
    result = invoke("map", doubling, inputs, "out")
    assert result.exit_code == 0, result.stderr
    assert "skipped 0" not in result.stderr
    assert sorted(Path("out").glob(".*")) == []
    assert {path: path.stat().st_mtime_ns for path in files} == before
    if inputs == "many":
        assert len(written()) == 200
        assert written()["117.npz"] == {"y": [234, 234]}
    else:
        assert joined() == (values * 2).tolist()


def test_digits_go_to_a_real_server_and_past_one_that_is_gone(
    invoke: Invoke, folder: Path, triton_url: Callable[..., str]
) -> None:
    digits = held_out_digits()
    np.savez("numbers.npz", INPUT=digits.images[:10, :3])
    urls = f"http://127.0.0.1:1/batching {triton_url('batching', 'grpc')}"
    result = invoke("map", urls, "numbers.npz", "out", "--timeout", "30")
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(joined("OUTPUT"), digits.images[:10, :3])
    assert f"answered by {triton_url('batching', 'grpc')}: 10" in result.stderr
    Path("pairs").mkdir()
    for value in range(3):
        a = np.full(4, value, np.int32)
        np.savez(f"pairs/{value}.npz", a=a, b=a * 10)
    result = invoke("map", triton_url("add_sub"), "pairs", "sums", "--outputs", "sum")
    assert result.exit_code == 0, result.stderr
    assert written("sums") == {f"{value}.npz": {"sum": [value * 11] * 4} for value in range(3)}
