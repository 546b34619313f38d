"""A model in memory: who finds it, what it remembers, and when it is gone."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.testing import FakeModel, Hang, ManualClock
from tests.testing.conftest import ONES, X, Y


def test_a_model_in_memory_opens_by_its_url_and_answers_by_its_function(fake: FakeModel) -> None:
    assert fake.url == "fake:double"
    with ib.open_model(fake.url) as model:
        assert model.metadata == fake.metadata
        assert model.metadata.platform == "fake"
        result = model.infer({"x": ONES})
    np.testing.assert_array_equal(result["y"], ONES * 2)
    assert result.backend_url == "fake:double"
    assert result.model_version == "1"


def test_what_came_is_remembered(fake: FakeModel) -> None:
    image = ONES.copy()
    with ib.open_model(fake.url, headers={"X-Api-Key": "hidden", "x-site": "north"}) as model:
        model.infer(
            {"x": image},
            outputs=["y"],
            timeout=7.0,
            request_id="r1",
            parameters={"mode": "fast"},
            headers={"authorization": "Bearer hidden"},
            priority=1,
        )
        image[...] = 9
    (call,) = fake.calls
    np.testing.assert_array_equal(call.inputs["x"], ONES)
    assert call.outputs == ("y",)
    assert (call.request_id, call.parameters) == ("r1", {"mode": "fast"})
    assert call.headers == {"x-api-key": "***", "x-site": "north", "authorization": "***"}
    assert call.options is not None
    assert call.options.priority == 1
    assert 0 < call.timeout <= 7
    assert call.url == fake.url
    assert call.answered
    assert call.error is None
    assert "hidden" not in repr(call)
    fake.forget_calls()
    assert fake.calls == []


def test_a_call_that_was_not_answered_says_why(fake: FakeModel) -> None:
    fake.script(ib.InferenceFailed("no memory"))
    with ib.open_model(fake.url) as model:
        with pytest.raises(ib.InferenceFailed, match="no memory"):
            model(ONES)
    (call,) = fake.calls
    assert not call.answered
    assert isinstance(call.error, ib.InferenceFailed)


def test_a_model_that_nobody_started_is_not_found_and_the_error_says_how() -> None:
    with pytest.raises(ib.ModelNotFound, match=r"with FakeModel\('digits', .*fake:digits\?inputs="):
        ib.open_model("fake:digits")
    not_started = FakeModel("digits", [X], [Y])
    with pytest.raises(ib.ModelNotFound):
        ib.open_model(not_started.url)


def test_two_fakes_of_one_name_at_a_time_are_an_error(fake: FakeModel) -> None:
    with pytest.raises(ib.PluginConflict, match="'double' already: stop it first"):
        FakeModel("double", [X], [Y]).start()
    fake.stop()
    with FakeModel("double", [X], [Y]):
        pass


def test_starting_twice_is_starting_once(fake: FakeModel) -> None:
    assert fake.start() is fake
    with fake:
        ib.open_model(fake.url).close()
    with pytest.raises(ib.ModelNotFound):
        ib.open_model(fake.url)
    fake.stop()


def test_what_is_still_open_when_a_fake_ends_finds_no_such_model(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model:
        fake.stop()
        with pytest.raises(ib.ModelNotFound, match="was stopped"):
            model(ONES)


def test_a_call_that_waits_when_a_fake_ends_fails(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model:
        fake.script(Hang())
        future = model.submit(ONES)
        fake.wait_for_calls()
        fake.stop()
        with pytest.raises(ib.ModelNotFound):
            future.result(30)


def test_a_fake_that_nobody_holds_is_gone() -> None:
    FakeModel("dropped", [X], [Y]).start()
    gc.collect()
    with pytest.raises(ib.ModelNotFound):
        ib.open_model("fake:dropped")


def test_closing_a_model_ends_a_call_that_waits(fake: FakeModel) -> None:
    model = ib.open_model(fake.url)
    fake.hang()
    future = model.submit(ONES)
    fake.wait_for_calls()
    model.close(timeout=0)
    with pytest.raises(ib.ModelClosed):
        future.result(30)


def test_a_fake_may_be_shared_by_threads(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model:
        threads = [
            threading.Thread(target=lambda: [model(ONES) for _ in range(25)]) for _ in "1234"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(fake.calls) == 100
    assert all(call.answered for call in fake.calls)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_the_fake_with_calls_of_its_own(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model:
        model(ONES)
        child = multiprocessing.get_context("fork").Process(target=_child, args=(model, fake))
        child.start()
        child.join(30)
        assert child.exitcode == 0
    assert len(fake.calls) == 1


def _child(model: ib.Model, fake: FakeModel) -> None:
    model(ONES)
    ib.open_model(fake.url).close()
    assert len(fake.calls) == 2


def test_a_pickled_model_finds_the_fake_again(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model, pickle.loads(pickle.dumps(model)) as again:
        np.testing.assert_array_equal(again(ONES), ONES * 2)


def test_waiting_for_calls_that_do_not_come_says_how_many_did(fake: FakeModel) -> None:
    with pytest.raises(ib.DeadlineExceeded, match="was called 0 times in 0 s; expected 1 calls"):
        fake.wait_for_calls(timeout=0.0)


def test_a_batch_that_is_too_large_comes_in_parts(clock: ManualClock) -> None:
    with FakeModel("batches", [X], [Y], max_batch_size=2, clock=clock) as fake:
        with ib.open_model(fake.url) as model:
            rows = np.arange(15, dtype=np.float32).reshape(5, 3)
            together = model(rows)
            alone = [model(row[None])[0] for row in rows]
    np.testing.assert_array_equal(together, alone)
    assert sorted(len(call.inputs["x"]) for call in fake.calls) == [1] * 6 + [2] * 2


def test_a_fake_is_like_the_model_that_it_stands_for(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model:
        for real in (model, model.metadata, fake, fake.url):
            copied = FakeModel.like(real, "copy")
            assert copied.url == "fake:copy"
            assert copied.metadata == replace(fake.metadata, name="copy")
    assert FakeModel.like(fake).url == fake.url


@pytest.mark.parametrize("name", ["with space", "a/b", "50%", "häuser", "a:b", "x?y=z", "a@b"])
def test_odd_names_are_escaped_in_the_url(name: str) -> None:
    with FakeModel(name, [X], [Y]) as fake, ib.open_model(fake.url) as model:
        assert model.metadata.name == name
        assert " " not in fake.url


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "match"),
    [
        ("", [X], [Y], "a str that is not empty"),
        ("a\0b", [X], [Y], "no name in a URL"),
        (7, [X], [Y], "a str that is not empty"),
        ("m", [X, X], [Y], "inputs= has two tensors of one name"),
        ("m", [X], [], "one output or more"),
        ("m", ["x"], [Y], r"TensorSpec\(name, DataType, shape\); got str"),
        ("m", [ib.TensorSpec("x", "FP32", (1,))], [Y], "DataType"),  # type: ignore[arg-type]
    ],
)
def test_a_fake_of_wrong_tensors_or_names_is_refused(
    name: Any, inputs: Any, outputs: Any, match: str
) -> None:
    with pytest.raises(ib.InvalidInput, match=match):
        FakeModel(name, inputs, outputs)


def test_a_fake_is_like_nothing_else() -> None:
    with pytest.raises(ib.InvalidInput, match="got int"):
        FakeModel.like(7)  # type: ignore[arg-type]


def test_its_repr_says_how_it_is(fake: FakeModel) -> None:
    assert repr(fake) == "<FakeModel 'fake:double': up, 0 calls>"
    fake.stop()
    assert "not started" in repr(fake)
