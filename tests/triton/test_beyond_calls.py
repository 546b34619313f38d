"""Streams, sequences and options of calls on a real Triton, as applications ask for them."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from tests.core.running import in_loop

Url = Callable[..., str]
BOTH = pytest.mark.parametrize("protocol", ["http", "grpc"])
IMAGE = np.array([[0.1, 0.7, 0.2], [3, 2, 1]], np.float32)


def count(number: int) -> dict[str, Any]:
    return {"COUNT": np.array([number], np.int32)}


def test_all_responses_of_a_decoupled_model_come_one_by_one(triton_url: Url) -> None:
    with ib.open_model(triton_url("decoupled", "grpc")) as model:
        assert model.metadata.decoupled
        parts = list(model.stream(count(5), request_id="r1"))
        assert [int(part["token"][0]) for part in parts] == [0, 1, 2, 3, 4]
        assert {part.backend_url for part in parts} == {triton_url("decoupled", "grpc")}
        assert {part.request_id for part in parts} == {"r1"}
        assert list(model.stream(count(0))) == []


def test_an_early_end_and_an_error_leave_the_model_as_it_was(triton_url: Url) -> None:
    with ib.open_model(triton_url("generating", "grpc")) as model:
        for part in model.stream(count(1000)):
            if part["token"][0] == 3:
                break
        stream = model.stream({**count(3), "FAIL": [b"no more"]})
        with pytest.raises(ib.InferenceFailed, match="no more"):
            list(stream)
        assert len(list(model.stream(count(3)))) == 3
        assert model.status().members[0].in_flight == 0


def test_http_says_by_which_url_responses_can_be_streamed(triton_url: Url) -> None:
    with ib.open_model(triton_url("decoupled", "http")) as model:
        with pytest.raises(ib.UnsupportedOperation) as raised:
            model.stream(count(1))
    assert "one response only: open grpc://127.0.0.1:8001/decoupled" in str(raised.value)


@BOTH
def test_a_decoupled_model_says_how_it_is_asked(triton_url: Url, protocol: str) -> None:
    with ib.open_model(triton_url("decoupled", protocol)) as model:
        with pytest.raises(ib.UnsupportedOperation, match=r"model\.stream"):
            model(**count(1))


@BOTH
def test_a_model_with_one_response_says_so(triton_url: Url, protocol: str) -> None:
    with ib.open_model(triton_url("identity_fp32", protocol)) as model:
        with pytest.raises(ib.UnsupportedOperation, match="not decoupled"):
            model.stream({"INPUT": IMAGE})


def test_streams_in_an_event_loop_at_the_same_time(triton_url: Url) -> None:
    async def read(model: ib.AsyncModel, number: int) -> list[int]:
        return [int(part["token"][0]) async for part in model.stream(count(number))]

    async def work() -> list[list[int]]:
        async with await ib.open_async_model(triton_url("decoupled", "grpc")) as model:
            return await asyncio.gather(*(read(model, number) for number in range(10)))

    assert in_loop(work()) == [list(range(number)) for number in range(10)]


@BOTH
def test_sequences_keep_their_state_apart(triton_url: Url, protocol: str) -> None:
    with ib.open_model(triton_url("accumulator", protocol)) as model:
        with model.sequence() as one, model.sequence() as two:
            assert one([[1]])[0].item() == 1
            assert two([[10]])[0].item() == 10
            assert one([[2]])[0].item() == 3
            assert two([[20]], last=True)[0].item() == 30
            assert one.infer({"INPUT": [[3]]}, last=True)["OUTPUT"].item() == 6


@BOTH
def test_sequences_in_an_event_loop(triton_url: Url, protocol: str) -> None:
    async def add(model: ib.AsyncModel, first: int) -> int:
        async with model.sequence() as step:
            await step([[first]])
            await step([[1]])
            total = await step([[1]], last=True)
            return int(total.item())

    async def work() -> list[int]:
        async with await ib.open_async_model(triton_url("sequence", protocol)) as model:
            return await asyncio.gather(*(add(model, first) for first in range(4)))

    assert in_loop(work()) == [2, 3, 4, 5]


def test_a_sequence_under_a_fallback_stays_on_the_server(triton_url: Url) -> None:
    urls = [triton_url("sequence", "http"), triton_url("sequence", "grpc")]
    with ib.open_model(urls) as model, model.sequence() as step:
        results = [step.infer({"INPUT": [[1]]}, last=index == 2) for index in range(3)]
    assert [result["OUTPUT"].item() for result in results] == [1, 2, 3]
    assert {result.backend_url for result in results} == {urls[0]}


@BOTH
def test_classes_of_a_server_have_its_labels(triton_url: Url, protocol: str) -> None:
    with ib.open_model(triton_url("labels", protocol)) as model:
        result = model.infer({"INPUT": IMAGE}, top_k=2)
        (first, _), (third, _) = result.classes("OUTPUT")
        assert (first.index, first.label) == (1, "dog")
        assert third == ib.Classification(3.0, 0, "cat")


@BOTH
def test_classes_are_the_same_whoever_finds_them(
    triton_url: Url, protocol: str, tmp_path: Path
) -> None:
    from infer_backends import Model
    from tests.core.fakes import FakeBackend

    with ib.open_model(triton_url("batching", protocol)) as model:
        theirs = model.infer({"INPUT": IMAGE}, top_k=3)["OUTPUT"]
        spec = model.metadata
        local = FakeBackend(lambda request: {"OUTPUT": request.inputs["INPUT"]}, metadata=spec)
        ours = Model(local).infer({"INPUT": IMAGE}, top_k=3)["OUTPUT"]
    assert theirs.tolist() == ours.tolist()


@BOTH
def test_classes_of_a_batch_that_is_split(triton_url: Url, protocol: str) -> None:
    rows = np.tile(IMAGE, (5, 1))
    with ib.open_model(triton_url("batching", protocol)) as model:
        result = model.infer({"INPUT": rows}, top_k=1)
    assert [row[0].index for row in result.classes("OUTPUT")] == [1, 0] * 5


@BOTH
def test_options_of_one_call(triton_url: Url, protocol: str) -> None:
    with ib.open_model(triton_url("identity_fp32", protocol)) as model:
        for option in ({"priority": 1}, {"queue_timeout": 5.0}, {"compression": "gzip"}):
            result = model.infer({"INPUT": IMAGE}, **option)
            np.testing.assert_array_equal(result["OUTPUT"], IMAGE)


@BOTH
def test_a_pickled_model_is_opened_by_its_first_call(triton_url: Url, protocol: str) -> None:
    with ib.open_model(triton_url("identity_fp32", protocol)) as model:
        with pickle.loads(pickle.dumps(model)) as again:
            assert repr(again) == "<Model, not opened yet>"
            np.testing.assert_array_equal(again(IMAGE), IMAGE)


@BOTH
def test_futures_and_bulk_work(triton_url: Url, protocol: str) -> None:
    rows = np.arange(60, dtype=np.float32).reshape(20, 3)
    with ib.open_model(triton_url("batching", protocol)) as model:
        futures = [model.submit(rows[index : index + 1]) for index in range(20)]
        np.testing.assert_array_equal(np.concatenate([f.result() for f in futures]), rows)
        np.testing.assert_array_equal([r["OUTPUT"] for r in model.map(rows)], rows)

    async def work() -> list[Any]:
        async with await ib.open_async_model(triton_url("batching", protocol)) as other:
            return [result["OUTPUT"] async for result in other.map(rows)]

    np.testing.assert_array_equal(in_loop(work()), rows)
