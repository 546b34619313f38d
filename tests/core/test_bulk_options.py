"""What bulk work is asked for with, and what is refused before anything is sent."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    DataType,
    InvalidInput,
    MissingDependency,
    Model,
    ModelClosed,
    TensorSpec,
    UnsupportedOperation,
)
from infer_backends._async_model import AsyncModel
from infer_backends.plugin import ModelMetadata
from tests.core.bulk import Mapped, rows
from tests.core.fakes import FakeBackend, metadata

FP32 = DataType.FP32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size= is 'auto' or a whole number"),
        ({"batch_size": "many"}, "batch_size= is 'auto' or a whole number"),
        ({"batch_size": 1.5}, "batch_size= is 'auto' or a whole number"),
        ({"batch_size": True}, "batch_size= is 'auto' or a whole number"),
        ({"concurrency": 0}, "concurrency= is a whole number"),
        ({"concurrency": None}, "concurrency= is a whole number"),
        ({"on_error": "ignore"}, "on_error= is 'raise' or 'return'"),
        ({"timeout": 0}, "positive number of seconds"),
        ({"outputs": ["z"]}, "unknown output 'z'"),
        ({"outputs": "y"}, r"pass \['y'\]"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    for model in (Model(FakeBackend()), AsyncModel(FakeBackend())):
        with pytest.raises(InvalidInput, match=message):
            model.map([], **options)


@pytest.mark.parametrize("samples", ["text", b"bytes", {"x": 1}, 5, None, np.float32(1)])
def test_what_is_no_iterable_of_samples_is_refused_at_once(samples: Any) -> None:
    for model in (Model(FakeBackend()), AsyncModel(FakeBackend())):
        with pytest.raises(InvalidInput, match=r"expected an iterable of samples, got .*\[sample"):
            model.map(samples)


def test_a_model_without_a_batch_axis_takes_one_sample_at_a_time(mapped: Mapped) -> None:
    fixed = metadata([TensorSpec("x", FP32, (3,))], [TensorSpec("y", FP32, (3,))])
    backend = FakeBackend(metadata=fixed)
    with pytest.raises(InvalidInput, match="the model 'fake' has no batch axis; leave batch_size="):
        mapped(backend, rows(2), batch_size=2)
    assert backend.requests == []
    results = mapped(backend, rows(2))
    assert [result["y"].tolist() for result in results] == [[0, 0, 0], [2, 2, 2]]


def test_a_decoupled_model_and_a_closed_one_are_refused_at_once() -> None:
    decoupled = ModelMetadata("m", (), "memory", (), (), decoupled=True)
    with pytest.raises(UnsupportedOperation, match="decoupled"):
        Model(FakeBackend(metadata=decoupled)).map([])
    model = Model(FakeBackend())
    model.close()
    with pytest.raises(ModelClosed):
        model.map([])


def test_progress_is_shown_on_standard_error_and_counts_every_sample(
    mapped: Mapped, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [np.ones(3, np.float32)] * 4 + [np.ones(2, np.float32)]
    mapped(FakeBackend(), samples, progress=True, on_error="return")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "samples" in shown.err
    assert "5/5" in shown.err
    mapped(FakeBackend(), rows(3), progress=True)
    assert "3/?" in capsys.readouterr().err


def test_progress_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("rich", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match="pip install rich, or leave it out"):
        Model(FakeBackend()).map([], progress=True)
    assert next(Model(FakeBackend()).map(rows(1))).sample_index == 0
