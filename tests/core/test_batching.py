"""A batch over ``max_batch_size`` is split, and put together again in order."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest

from infer_backends import DataType, InferenceFailed, InvalidInput, ProtocolError, TensorSpec
from infer_backends._batching import CONCURRENCY, Splitting
from infer_backends.plugin import (
    Array,
    Backend,
    Deadline,
    InferRequest,
    ModelMetadata,
    SupportsDescription,
    SupportsReadiness,
)
from tests.core.fakes import Answer, FakeBackend, double, metadata, request

BATCHING = metadata(max_batch_size=4)


def splitting(answer: Answer = double) -> tuple[Splitting, FakeBackend]:
    member = FakeBackend(answer, metadata=BATCHING)
    return Splitting(member, "fake://h/m"), member


@pytest.mark.parametrize("rows", [1, 4, 5, 8, 23])
def test_any_number_of_rows_comes_back_in_order(rows: int) -> None:
    split, member = splitting()
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    response = split.infer(request(x))
    np.testing.assert_array_equal(response.outputs["y"], x * 2)
    assert max(r.inputs["x"].shape[0] for r in member.requests) <= 4
    assert sum(r.inputs["x"].shape[0] for r in member.requests) == rows
    assert response.backend_url == "fake://h/m"
    assert response.model_version == "1"


def test_parts_are_views_and_share_the_deadline() -> None:
    split, member = splitting()
    whole = request(np.zeros((9, 3)))
    split.infer(whole)
    assert all(np.shares_memory(r.inputs["x"], whole.inputs["x"]) for r in member.requests)
    assert all(r.deadline is whole.deadline for r in member.requests)


def test_parts_run_side_by_side() -> None:
    together = threading.Barrier(3, timeout=10)

    def answer(request: InferRequest) -> dict[str, Array]:
        together.wait()
        return double(request)

    split, _ = splitting(answer)
    assert split.infer(request(np.zeros((12, 3)))).outputs["y"].shape == (12, 3)


def test_a_failing_part_fails_the_call_and_stops_what_has_not_begun() -> None:
    def answer(request: InferRequest) -> dict[str, Array]:
        raise InferenceFailed("boom")

    split, member = splitting(answer)
    with pytest.raises(InferenceFailed, match="boom"):
        split.infer(request(np.zeros((400, 3))))
    assert len(member.requests) < 100


def test_a_failure_is_seen_at_once_however_many_parts_there_are() -> None:
    def answer(request: InferRequest) -> dict[str, Array]:
        raise InferenceFailed("boom")

    split, member = splitting(answer)
    with pytest.raises(InferenceFailed, match="boom"):
        split.infer(request(np.zeros((40_000, 3))))
    assert len(member.requests) <= CONCURRENCY


@pytest.mark.parametrize("threads", [0, 1])
def test_where_the_system_has_no_thread_left_fewer_do_all_of_it(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = threading.Thread.start, [threads]

    def start(self: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        real(self)

    split, member = splitting()
    x = np.arange(69, dtype=np.float32).reshape(23, 3)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        np.testing.assert_array_equal(split.infer(request(x)).outputs["y"], x * 2)
        member.error = InferenceFailed("broken")
        with pytest.raises(InferenceFailed, match="broken"):
            split.infer(request(x))


def test_an_interruption_stops_what_has_not_begun() -> None:
    main, interrupted = threading.get_ident(), threading.Event()

    def answer(request: InferRequest) -> dict[str, Array]:
        if not interrupted.is_set():
            interrupted.set()
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.001)
        return double(request)

    split, member = splitting(answer)
    with pytest.raises(KeyboardInterrupt):
        split.infer(request(np.zeros((40_000, 3))))
    assert len(member.requests) < 10_000


def test_no_rows_are_answered_from_metadata() -> None:
    split, member = splitting()
    y = split.infer(request(np.zeros((0, 3)))).outputs["y"]
    assert y.shape == (0, 3)
    assert y.dtype == np.float32
    assert not member.requests


def test_no_rows_of_a_shape_that_is_not_known_are_refused() -> None:
    specs = [TensorSpec("y", DataType.FP32, (-1, -1)), TensorSpec("z", DataType.BYTES, (-1,))]
    split = Splitting(FakeBackend(metadata=metadata(outputs=specs, max_batch_size=4)), "u")
    with pytest.raises(InvalidInput, match="output 'y' is not known before the model has run"):
        split.infer(request(np.zeros((0, 3))))
    outputs = split.infer(request(np.zeros((0, 3)), outputs=("z",))).outputs
    assert outputs["z"].dtype == object
    assert list(outputs) == ["z"]


def test_a_model_that_does_not_keep_its_rows_cannot_be_split() -> None:
    split, _ = splitting(lambda _: {"y": np.zeros((1, 3), np.float32)})
    with pytest.raises(ProtocolError, match="one output row for each input row"):
        split.infer(request(np.zeros((9, 3))))


def test_parts_of_different_shapes_cannot_be_put_together() -> None:
    def answer(request: InferRequest) -> dict[str, Array]:
        rows = request.inputs["x"].shape[0]
        return {"y": np.zeros((rows, rows), np.float32)}

    split, _ = splitting(answer)
    with pytest.raises(ProtocolError, match="differ in shape"):
        split.infer(request(np.zeros((5, 3))))


def test_a_part_without_an_output_breaks_the_protocol() -> None:
    def answer(request: InferRequest) -> dict[str, Array]:
        return double(request) if request.inputs["x"].shape[0] == 4 else {}

    split, _ = splitting(answer)
    with pytest.raises(ProtocolError, match="was answered by none"):
        split.infer(request(np.zeros((5, 3))))


def test_the_memory_of_a_split_batch_is_its_outputs_once() -> None:
    kept: list[Array] = []

    def answer(request: InferRequest) -> dict[str, Array]:
        outputs = double(request)
        kept.append(outputs["y"])
        return outputs

    split, _ = splitting(answer)
    y = split.infer(request(np.zeros((9, 3)))).outputs["y"]
    assert y.flags.owndata
    assert y.flags.c_contiguous
    assert not any(np.shares_memory(y, part) for part in kept)


def test_a_call_without_inputs_is_passed_on() -> None:
    split, member = splitting(lambda _: {"y": np.zeros((1, 3), np.float32)})
    empty = request()
    empty.inputs = {}
    split.infer(empty)
    split.close()
    assert member.requests == [empty]
    assert member.closed == 1


class Ready(FakeBackend):
    def ready(self, deadline: Deadline) -> bool:
        return deadline.remaining() > 1


class Describing(FakeBackend):
    def describe(self, deadline: Deadline) -> ModelMetadata:
        return metadata(max_batch_size=int(deadline.remaining()))


class Both(Ready, Describing):
    pass


@pytest.mark.parametrize("kind", [FakeBackend, Ready, Describing, Both])
def test_what_a_member_can_do_besides_is_handed_through_and_nothing_else(
    kind: type[FakeBackend],
) -> None:
    member = kind(metadata=BATCHING)
    split: object = Splitting(member, "fake://h/m")
    assert type(split).__name__ == "Splitting"
    assert isinstance(split, Splitting)
    assert isinstance(split, Backend)
    assert isinstance(split, SupportsReadiness) == isinstance(member, SupportsReadiness)
    assert isinstance(split, SupportsDescription) == isinstance(member, SupportsDescription)
    assert split.infer(request(np.zeros((5, 3)))).outputs["y"].shape == (5, 3)
    if isinstance(split, SupportsReadiness):
        assert [split.ready(Deadline.after(seconds)) for seconds in (60, 0)] == [True, False]
    if isinstance(split, SupportsDescription):
        assert split.describe(Deadline.after(7.5)).max_batch_size == 7
