"""The hooks, and the options they declare."""

from __future__ import annotations

import subprocess
import sys

import pytest

import infer_backends as ib
from infer_backends_onnxruntime import plugin
from tests.onnxruntime import models
from tests.onnxruntime.conftest import OpenBackend, Save


def test_importing_the_plugin_does_not_import_onnxruntime() -> None:
    code = "import sys, infer_backends_onnxruntime.plugin; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"


def test_looking_for_the_runtime_does_not_import_it() -> None:
    code = (
        "import sys, infer_backends_onnxruntime.plugin as p; p.infer_backends_check();"
        "print('onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("form", ["{}", "onnx:{}", "onnx://{}"])
def test_every_way_to_write_an_absolute_path_opens_the_file(save: Save, form: str) -> None:
    path = save(models.identity())
    with ib.open_model(form.format(path)) as model:
        assert model([[1, 2, 3, 4]]).tolist() == [[1, 2, 3, 4]]


def test_a_relative_path_starts_at_the_working_directory_of_the_open(
    save: Save, monkeypatch: pytest.MonkeyPatch, open_backend: OpenBackend
) -> None:
    path = save(models.identity())
    monkeypatch.chdir(path.parent)
    with ib.open_model("onnx:model.onnx") as model:
        assert model.metadata.name == "model"


def test_a_relative_path_in_a_directory_that_is_gone_is_not_found(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path_factory.mktemp("gone")
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ib.ModelNotFound, match="working directory is gone"):
        ib.open_model("onnx:model.onnx")


def test_a_url_that_names_a_host_says_how_to_write_a_path() -> None:
    with pytest.raises(ib.InvalidURL, match=r"onnx:///host/model\.onnx for an absolute one"):
        ib.open_model("onnx://host/model.onnx")


@pytest.mark.parametrize("level", ["none", "basic", "extended", "all"])
def test_every_optimization_level_gives_the_same_answer(save: Save, level: str) -> None:
    with ib.open_model(f"onnx:{save(models.arithmetic())}?optimization={level}") as model:
        both = model([[1, 2, 3, 4]], [[1, 1, 1, 1]])
        assert [array.tolist() for array in both] == [[[2, 3, 4, 5]], [[0, 1, 2, 3]]]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("optimization=most", "none or basic or extended or all"),
        ("threads=-1", "0 or more"),
        ("threads=many", "a whole number"),
        ("threads=100000", "0 to 1024"),
        ("device=gpu", "auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N"),
        ("device=cpu:1", "auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N"),
        ("device=cuda:-1", "auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N"),
        ("device=cuda:%D9%A1", "auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N"),
        ("gpu=1", "the options known here are .*device.*optimization.*threads"),
    ],
)
def test_a_wrong_option_lists_what_is_right(save: Save, option: str, expected: str) -> None:
    with pytest.raises(ib.InvalidURL, match=expected):
        ib.open_model(f"onnx:{save(models.identity())}?{option}")


def test_threads_bound_what_one_operator_may_use(open_backend: OpenBackend) -> None:
    backend = open_backend(models.projection(), threads=3)
    assert backend._session.get_session_options().intra_op_num_threads == 3


def test_a_process_confined_to_some_processors_starts_no_more_threads(
    open_backend: OpenBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 5}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    backend = open_backend(models.identity())
    assert backend._session.get_session_options().intra_op_num_threads == 2


def test_a_system_without_affinity_leaves_threads_to_the_runtime(
    open_backend: OpenBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    backend = open_backend(models.identity())
    assert backend._session.get_session_options().intra_op_num_threads == 0


def test_the_declared_options_have_a_line_of_help_each() -> None:
    assert {option.name for option in plugin.infer_backends_options()} == {
        "device",
        "threads",
        "optimization",
    }
    assert all(option.help for option in plugin.infer_backends_options())
