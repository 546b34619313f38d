"""``infer-backends map``: from files to files, and nothing done twice or by halves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends._cli import _map_files
from infer_backends._cli._demo._digits import held_out_digits
from infer_backends.plugin import DataType, InferRequest, TensorSpec
from tests.cli.conftest import Invoke, start
from tests.cli.map_files import FAKE, joined, written
from tests.core.fakes import double, metadata

posix = pytest.mark.skipif(os.name != "posix", reason="this system has no such signals or locks")


def test_every_file_of_a_folder_has_a_file_of_outputs(
    invoke: Invoke, folder_of_samples: Path, doubling: Path
) -> None:
    result = invoke("map", doubling, "samples", "out/new")
    assert (result.exit_code, result.stdout) == (0, "")
    assert written("out/new") == {f"{i}.npz": {"y": [2 * i, 2 * i]} for i in range(5)}
    first, second = result.stderr.splitlines()
    assert first.startswith("done 5, skipped 0, failed 0 in ")
    assert first.endswith(" samples/s")
    assert second == f"answered by onnx:{doubling}: 5".replace(" as much", "%20as%20much")


def test_a_sample_of_several_inputs_is_an_npz_file(
    invoke: Invoke, folder_of_samples: Path, arithmetic: Path
) -> None:
    Path("pairs").mkdir()
    np.savez("pairs/p.npz", a=np.array([1, 2]), b=np.array([3, 4]))
    assert invoke("map", arithmetic, "pairs", "out", "--outputs", "difference").exit_code == 0
    assert written() == {"p.npz": {"difference": [-2, -2]}}


def test_the_rows_of_one_file_go_to_files_of_some_rows(
    invoke: Invoke, folder_of_samples: Path, doubling: Path
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
    invoke: Invoke, folder_of_samples: Path, arithmetic: Path, save: Any
) -> None:
    a = np.arange(2000, dtype=">f8").reshape(1000, 2)
    save("rows.npz", a=a, b=np.asfortranarray(a.astype(np.float32)))
    assert invoke("map", arithmetic, "rows.npz", "out").exit_code == 0
    np.testing.assert_array_equal(joined("sum"), 2 * a)


def test_what_is_there_is_not_made_again(
    invoke: Invoke, folder_of_samples: Path, fake: Any
) -> None:
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


def test_rows_that_are_there_are_not_made_again(
    invoke: Invoke, folder_of_samples: Path, fake: Any
) -> None:
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
    invoke: Invoke, folder_of_samples: Path, doubling: Path
) -> None:
    Path("out").mkdir()
    for name in ("rows-00000003-00000007.npz", "rows-00000002-00000001.npz"):
        Path("out", name).touch()
        result = invoke("map", doubling, "rows.npz", "out")
        assert result.exit_code == 2
        assert f"{name}' has rows that are not in the input (5 rows)" in result.stderr
        Path("out", name).unlink()


def test_a_bad_sample_is_told_and_stops_nobody(
    invoke: Invoke, folder_of_samples: Path, doubling: Path
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
    invoke: Invoke, folder_of_samples: Path, fake: Any
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
    invoke: Invoke, folder_of_samples: Path, doubling: Path
) -> None:
    np.save("samples/0.npy", np.zeros(3, np.float32))
    result = invoke("map", doubling, "samples", "out", "--on-error", "stop", "--batch-size", 1)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith("failed: 0.npy: ")
    assert lines[-1] == "error: stopped at the first sample that failed, as --on-error says"


def test_it_stops_when_nobody_answers_any_more(
    invoke: Invoke, folder_of_samples: Path, fake: Any
) -> None:
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
    invoke: Invoke, folder_of_samples: Path, fake: Any
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
    invoke: Invoke, folder_of_samples: Path, doubling: Path, monkeypatch: pytest.MonkeyPatch
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
    invoke: Invoke, folder_of_samples: Path, fake: Any, inputs: str
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
    invoke: Invoke, folder_of_samples: Path, fake: Any
) -> None:
    fake(nul_first, TEXT)
    np.savez("texts.npz", x=np.array([["a", "nul"], ["", "bcd"]]))
    assert invoke("map", FAKE, "texts.npz", "out", "--strings", "packed").exit_code == 0
    with np.load("out/rows-00000000-00000001.npz") as file:
        lengths, content = file["y.lengths"], file["y.bytes"].tobytes()
    ends = lengths.cumsum()
    strings = [content[end - n : end] for end, n in zip(ends, lengths.flat, strict=True)]
    assert (strings, lengths.shape) == ([b"a", b"nul\0", b"", b"bcd"], (2, 2))


SLOW = """
import os, sys, time
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
# What is printed while a model is open goes to standard error.
told = os.fdopen(os.dup(1), "w")
def half_first(path, arrays):
    path.write_bytes(b"half")
    print("writing", flush=True, file=told)
    write(path, arrays)
_map_files.write_npz = half_first
with ib.register_backend("fake", lambda url, options: backend):
    main()
"""


@posix
@pytest.mark.parametrize("inputs", ["many", "many.npz"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_goes_on_where_it_was(
    invoke: Invoke, folder_of_samples: Path, doubling: Path, inputs: str, number: signal.Signals
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
    invoke: Invoke, folder_of_samples: Path, triton_url: Callable[..., str]
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
