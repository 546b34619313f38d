"""Bulk work on samples: the same by threads and in an event loop."""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    DataType,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InferResult,
    InvalidInput,
    Model,
    ModelClosed,
    ProtocolError,
    TensorSpec,
    Unavailable,
)
from infer_backends.plugin import Array, InferRequest, ModelMetadata
from tests.core.bulk import Mapped, rows, values
from tests.core.fakes import FakeBackend, double, metadata

FP32, BYTES = DataType.FP32, DataType.BYTES
BATCHING = metadata(max_batch_size=4)


def refusing(
    bad: Callable[[Array], bool], error: type[InferError] = InvalidInput
) -> Callable[[InferRequest], dict[str, Array]]:
    """Doubles, but refuses a batch with a bad row."""

    def answer(request: InferRequest) -> dict[str, Array]:
        if any(map(bad, request.inputs["x"])):
            raise error("the model does not like this")
        return double(request)

    return answer


def test_every_sample_has_a_result_of_its_own_without_the_batch_axis(mapped: Mapped) -> None:
    backend = FakeBackend(metadata=BATCHING)
    results = mapped(backend, rows(10))
    assert values(results) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert [result.sample_index for result in results] == list(range(10))
    assert {result["y"].shape for result in results} == {(3,)}
    assert all(isinstance(result, InferResult) for result in results)
    assert results[0].backend_url == "fake://h/m"
    assert results[0].model_version == "1"
    assert sorted(len(request.inputs["x"]) for request in backend.requests) == [2, 4, 4]


def test_a_result_keeps_no_memory_but_its_own(mapped: Mapped) -> None:
    for result in mapped(FakeBackend(metadata=BATCHING), rows(4)):
        assert result["y"].base is None
        assert result["y"].flags.writeable


def test_no_samples_give_no_results(mapped: Mapped) -> None:
    backend = FakeBackend(metadata=BATCHING)
    assert mapped(backend, []) == mapped(backend, iter(())) == []
    assert backend.requests == []


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (BATCHING, [4, 4, 2]),
        (metadata(), [10]),
        (metadata([TensorSpec("x", FP32, (1, 3))], [TensorSpec("y", FP32, (1, 3))]), [1] * 10),
    ],
)
def test_a_batch_is_as_large_as_the_model_likes(
    mapped: Mapped, model: ModelMetadata, expected: list[int]
) -> None:
    backend = FakeBackend(metadata=model)
    assert values(mapped(backend, rows(10))) == [2 * value for value in range(10)]
    assert sorted(len(request.inputs["x"]) for request in backend.requests) == sorted(expected)


def test_a_batch_is_as_large_as_the_caller_says(mapped: Mapped) -> None:
    backend = FakeBackend(metadata=metadata())
    mapped(backend, rows(7), batch_size=np.int64(3))
    assert sorted(len(request.inputs["x"]) for request in backend.requests) == [1, 3, 3]


def test_samples_of_several_shapes_come_back_in_their_order(mapped: Mapped) -> None:
    any_length = metadata(
        [TensorSpec("x", FP32, (-1, -1))], [TensorSpec("y", FP32, (-1, -1))], max_batch_size=4
    )
    lengths = [3, 3, 1, 3, 2, 2, 2, 2, 2]
    samples = [np.full(length, i, np.float32) for i, length in enumerate(lengths)]
    results = mapped(FakeBackend(metadata=any_length), samples)
    assert [result["y"].shape for result in results] == [(length,) for length in lengths]
    assert values(results) == [2 * i for i in range(9)]


def test_a_sample_with_its_batch_axis_is_answered_with_it(mapped: Mapped) -> None:
    samples = [np.ones(3, np.float32), np.ones((5, 3), np.float32)]
    shapes = [result["y"].shape for result in mapped(FakeBackend(), samples)]
    assert shapes == [(3,), (5, 3)]


def test_several_inputs_and_outputs_optional_ones_and_strings(mapped: Mapped) -> None:
    model = metadata(
        [TensorSpec("text", BYTES, (-1, 1)), TensorSpec("n", DataType.INT32, (-1,), optional=True)],
        [TensorSpec("length", DataType.INT32, (-1,)), TensorSpec("text", BYTES, (-1, 1))],
        max_batch_size=8,
    )

    def answer(request: InferRequest) -> dict[str, Array]:
        text = request.inputs["text"]
        lengths = [len(word) for word in text[:, 0]] + request.inputs.get("n", np.int32(0))
        return {"text": text, "length": np.asarray(lengths, np.int32)}

    samples = [{"text": ["a\0"]}, (["bcd"], 10), {"text": [b"\xff"], "n": 20}]
    results = mapped(FakeBackend(answer, metadata=model), samples)
    assert [list(result) for result in results] == [["length", "text"]] * 3
    assert [result["length"].tolist() for result in results] == [2, 13, 21]
    assert [result["length"].shape for result in results] == [()] * 3
    assert [result["text"].tolist() for result in results] == [[b"a\0"], [b"bcd"], [b"\xff"]]

    backend = FakeBackend(answer, metadata=model)
    (chosen, *_) = mapped(backend, samples, outputs=iter(["text", "length"]))
    assert list(chosen) == ["text", "length"]
    assert {request.outputs for request in backend.requests} == {("text", "length")}


def test_an_output_without_a_batch_axis_is_given_whole(mapped: Mapped) -> None:
    model = metadata(outputs=[TensorSpec("mean", FP32, ()), TensorSpec("y", FP32, (-1, 3))])

    def answer(request: InferRequest) -> dict[str, Array]:
        return {"mean": np.array(request.inputs["x"].mean()), **double(request)}

    results = mapped(FakeBackend(answer, metadata=model), rows(3))
    assert [result["mean"].tolist() for result in results] == [0, 1, 2]
    assert {result["y"].shape for result in results} == {(3,)}


def test_a_model_that_keeps_no_rows_is_told_apart(mapped: Mapped) -> None:
    backend = FakeBackend(lambda request: {"y": np.ones((7, 3), np.float32)})
    with pytest.raises(
        ProtocolError, match=r"sample 0: output 'y': a batch of 2 samples .*x\[None"
    ):
        mapped(backend, rows(2))
    with_axis = [row[None] for row in rows(2)]
    assert [result["y"].shape for result in mapped(backend, with_axis)] == [(7, 3)] * 2


@pytest.mark.parametrize("error", [InvalidInput, InferenceFailed])
def test_the_one_sample_that_is_to_blame_is_found(mapped: Mapped, error: type[InferError]) -> None:
    backend = FakeBackend(refusing(lambda row: row[0] == 5, error), metadata=metadata())
    outcomes = mapped(backend, rows(32), on_error="return", concurrency=1)
    (bad,) = [outcome for outcome in outcomes if not isinstance(outcome, InferResult)]
    assert outcomes.index(bad) == bad.sample_index == 5
    assert type(bad) is error
    assert str(bad) == "sample 5: the model does not like this"
    assert isinstance(bad.__cause__, error)
    assert values(o for o in outcomes if o is not bad) == [2 * i for i in range(32) if i != 5]
    # Not each for itself: by halves.
    assert len(backend.requests) == 11


def test_a_sample_that_does_not_fit_is_never_sent(mapped: Mapped) -> None:
    backend = FakeBackend(metadata=BATCHING)
    samples = [*rows(2), np.ones(4, np.float32), None, *rows(1)]
    outcomes = mapped(backend, samples, on_error="return")
    assert [type(outcome) for outcome in outcomes] == [
        InferResult,
        InferResult,
        InvalidInput,
        InvalidInput,
        InferResult,
    ]
    assert [outcome.sample_index for outcome in outcomes] == [0, 1, 2, 3, 4]
    assert str(outcomes[2]).startswith("sample 2: input 'x': expected shape (3,), got (4,)")
    assert sum(len(request.inputs["x"]) for request in backend.requests) == 3


def test_an_error_ends_the_iteration_after_the_results_before_it(mapped: Mapped) -> None:
    backend = FakeBackend(refusing(lambda row: row[0] == 2), metadata=BATCHING)
    *results, error = mapped(backend, rows(100), caught=True)
    assert values(results) == [0, 2]
    assert (type(error), error.sample_index) == (InvalidInput, 2)
    assert pickle.loads(pickle.dumps(error)).sample_index == 2


def test_nobody_is_to_blame_for_a_server_that_is_gone(mapped: Mapped) -> None:
    backend = FakeBackend(metadata=BATCHING)
    backend.error = Unavailable("it has left")
    outcomes = mapped(backend, rows(6), on_error="return")
    assert [str(outcome) for outcome in outcomes] == [f"sample {i}: it has left" for i in range(6)]
    assert len(backend.requests) == 2


def test_an_error_of_the_iterable_comes_after_the_results_of_all_samples_before(
    mapped: Mapped,
) -> None:
    def broken() -> Iterator[Array]:
        yield from rows(6)
        raise KeyError("a file is gone")

    *results, error = mapped(FakeBackend(metadata=BATCHING), broken(), caught=True)
    assert values(results) == [0, 2, 4, 6, 8, 10]
    assert (type(error), error.args) == (KeyError, ("a file is gone",))


@pytest.mark.parametrize("ordered", [True, False])
def test_an_endless_iterable_is_read_no_further_than_it_has_to_be(
    mapped: Mapped, ordered: bool
) -> None:
    taken = 0

    def endless() -> Iterator[Array]:
        nonlocal taken
        while True:
            taken += 1
            yield np.zeros(3, np.float32)

    options: dict[str, Any] = {"batch_size": 4, "concurrency": 3, "ordered": ordered}
    assert len(mapped(FakeBackend(), endless(), first=50, **options)) == 50
    assert 50 <= taken <= 50 + 4 + 4 * 2 * 3


def test_nothing_is_taken_or_sent_before_the_first_result_is_asked_for(mapped: Mapped) -> None:
    backend = FakeBackend()
    assert mapped(backend, rows(5), first=0) == []
    assert backend.requests == []


def test_no_more_requests_are_in_flight_than_allowed(mapped: Mapped) -> None:
    lock, at_work, most = threading.Lock(), 0, 0
    both = threading.Barrier(2)

    def answer(request: InferRequest) -> dict[str, Array]:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        both.wait(30)
        with lock:
            at_work -= 1
        return double(request)

    assert len(mapped(FakeBackend(answer), rows(12), batch_size=1, concurrency=2)) == 12
    assert most == 2


def test_results_come_in_order_whoever_is_first(mapped: Mapped) -> None:
    second = threading.Event()

    def answer(request: InferRequest) -> dict[str, Array]:
        if request.inputs["x"][0, 0] == 0:
            assert second.wait(30)
        elif request.inputs["x"][0, 0] == 1:
            second.set()
        return double(request)

    results = mapped(FakeBackend(answer), rows(8), batch_size=1, concurrency=4)
    assert [result.sample_index for result in results] == list(range(8))


def test_unordered_results_come_as_soon_as_they_are_there(mapped: Mapped) -> None:
    given = threading.Event()

    def samples() -> Iterator[Array]:
        yield from rows(6)
        # No more than four are taken ahead: the results of some are given by now.
        given.set()
        yield from rows(2)

    def answer(request: InferRequest) -> dict[str, Array]:
        if len(backend.requests) == 1:
            assert given.wait(30)
        return double(request)

    backend = FakeBackend(answer)
    results = mapped(backend, samples(), batch_size=1, concurrency=2, ordered=False)
    indices = [result.sample_index for result in results]
    assert indices[0] != 0
    assert sorted(indices) == list(range(8))


def test_each_request_has_the_time_that_is_given(mapped: Mapped) -> None:
    backend = FakeBackend()
    mapped(backend, rows(1), timeout=3)
    mapped(backend, rows(1), timeout_of_model=7)
    mapped(backend, rows(1))
    given = [(r.deadline.explicit, r.deadline.remaining()) for r in backend.requests]
    assert [explicit for explicit, _ in given] == [True, True, False]
    assert given[0][1] <= 3 < given[1][1] <= 7 < given[2][1]


def test_a_request_out_of_time_is_an_error_of_its_samples(mapped: Mapped) -> None:
    backend = FakeBackend()
    backend.error = DeadlineExceeded("too late")
    outcomes = mapped(backend, rows(2), on_error="return")
    assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 2


def test_a_model_that_is_closed_meanwhile_ends_even_an_endless_iteration() -> None:
    model = Model(FakeBackend())
    iterator = model.map(itertools.repeat(np.zeros(3, np.float32)), on_error="return")
    next(iterator)
    model.close()
    with pytest.raises(ModelClosed):
        for _ in iterator:
            pass
