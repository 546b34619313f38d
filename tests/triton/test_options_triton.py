"""What a call asks for of a real Triton, alike over both protocols, in threads and in loops."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from infer_backends.plugin import (
    DeadlineExceeded,
    InferRequest,
    InferResponse,
    InvalidInput,
    RequestOptions,
    SequenceStep,
    SupportsAdvice,
    SupportsRequestOptions,
    UnsupportedOperation,
)
from infer_backends_triton._shared_memory import SharedMemory
from tests.triton.endpoints import TritonBackend, opened_at
from tests.triton.grpc_fakes import a_request
from tests.triton.streams import eventually

if TYPE_CHECKING:
    from infer_backends_triton import LocalTriton

URL = Callable[..., str]
Infer = Callable[[TritonBackend, InferRequest], InferResponse]
SAMPLES = np.array([[1, 3, 2], [9, 7, 8]], np.float32)


@pytest.fixture(params=["blocking", "in a loop"])
def infer(request: pytest.FixtureRequest) -> Iterator[Infer]:
    """Calls in a thread, or in an event loop."""
    if request.param == "blocking":
        yield lambda backend, asked: backend.infer(asked)
        return
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        yield lambda backend, asked: loop.run_until_complete(backend.infer_async(asked))


def asking(inputs: dict[str, Any], more: Any = None, **options: Any) -> InferRequest:
    request = a_request(inputs=inputs, **(more or {}))
    request.options = RequestOptions(**options)
    return request


@pytest.fixture
def open_model(triton_url: URL, protocol: str) -> Iterator[Callable[..., TritonBackend]]:
    """Opens models over the protocol; they are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda model, **options: stack.enter_context(
            opened_at(triton_url(model, protocol), **options)
        )


Open = Callable[..., TritonBackend]


def test_triton_can_do_all_of_it(open_model: Open, protocol: str) -> None:
    backend = open_model("labels")
    assert isinstance(backend, SupportsRequestOptions)
    assert isinstance(backend, SupportsAdvice)
    everything = {"top_k", "sequence", "priority", "queue_timeout", "compression"}
    assert backend.request_options == everything
    assert {backend.advice(option) for option in everything} == {""}
    elsewhere = "open grpc://127.0.0.1:8001/labels (or wherever its gRPC port is)"
    assert backend.advice("streaming") == (elsewhere if protocol == "http" else "")


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [
        (1, [[b"3.000000:1:dog"], [b"9.000000:0:cat"]]),
        (2, [[b"3.000000:1:dog", b"2.000000:2:owl"], [b"9.000000:0:cat", b"8.000000:2:owl"]]),
        # No more than there are.
        (
            9,
            [
                [b"3.000000:1:dog", b"2.000000:2:owl", b"1.000000:0:cat"],
                [b"9.000000:0:cat", b"8.000000:2:owl", b"7.000000:1:dog"],
            ],
        ),
    ],
)
def test_the_largest_elements_of_each_row_come_with_their_labels(
    open_model: Open, infer: Infer, top_k: int, expected: list[list[bytes]]
) -> None:
    output = infer(open_model("labels"), asking({"INPUT": SAMPLES}, top_k=top_k)).outputs["OUTPUT"]
    assert output.dtype == object
    assert output.flags.writeable
    assert output.tolist() == expected


def test_every_wanted_output_is_ranked(open_model: Open, infer: Infer) -> None:
    inputs = {name: np.array([[1, 4, 2, 3]], np.int32) for name in ("a", "b")}
    backend = open_model("add_sub")
    both = infer(backend, asking(inputs, top_k=1)).outputs
    assert {name: array.tolist() for name, array in both.items()} == {
        "sum": [[b"8:1"]],
        "difference": [[b"0:0"]],
    }
    one = infer(backend, asking(inputs, {"outputs": ("sum",), "request_id": "r"}, top_k=2)).outputs
    assert {name: array.tolist() for name, array in one.items()} == {"sum": [[b"8:1", b"6:3"]]}
    plain = infer(backend, a_request(inputs=inputs)).outputs
    assert plain["sum"].tolist() == [[2, 8, 4, 6]]


def test_a_model_without_a_batch_axis_is_ranked_as_a_whole(open_model: Open, infer: Infer) -> None:
    response = infer(open_model("identity_fp32"), asking({"INPUT": SAMPLES}, top_k=2))
    assert response.outputs["OUTPUT"].tolist() == [b"9.000000:3", b"8.000000:5"]


def test_ranked_outputs_do_not_go_by_shared_memory_though_inputs_do(
    open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    exchange = SharedMemory._exchange

    def note(memory: SharedMemory, request: Any, layout: Any, asking: Any) -> Any:
        taken.append(layout.size)
        return exchange(memory, request, layout, asking)

    monkeypatch.setattr(SharedMemory, "_exchange", note)
    large = np.arange(300_000, dtype=np.float32).reshape(2, -1)
    backend = open_model("identity_fp32", shared_memory="system")
    for _ in range(2):
        response = backend.infer(asking({"INPUT": large}, top_k=1))
        assert response.outputs["OUTPUT"].tolist() == [b"299999.000000:299999"]
    assert taken == [large.nbytes] * 2
    # What was learnt of outputs is about those that are whole.
    whole = backend.infer(a_request(inputs={"INPUT": large}))
    np.testing.assert_array_equal(whole.outputs["OUTPUT"], large)


def test_what_would_end_the_server_is_not_sent(
    open_model: Open, infer: Infer, protocol: str
) -> None:
    text = asking({"INPUT": np.array([[b"a"]], object)}, top_k=1)
    with pytest.raises(UnsupportedOperation, match="cannot do top_k= for OUTPUT: BYTES"):
        infer(open_model("identity_bytes"), text)
    backend = open_model("identity_fp32")
    nothing = asking({"INPUT": np.zeros((0, 3), np.float32)}, top_k=1)
    if protocol == "http":
        with pytest.raises(InvalidInput, match="no elements"):
            infer(backend, nothing)
    else:
        assert infer(backend, nothing).outputs["OUTPUT"].shape == (0,)


def test_sequences_keep_their_states_apart(open_model: Open, infer: Infer) -> None:
    backend = open_model("accumulator")
    first, second = (int(time.monotonic_ns()) + n for n in (0, 1))

    def step(sequence: int, value: int, *, start: bool = False, end: bool = False) -> Any:
        inputs = {"INPUT": np.array([[value]], np.int32)}
        place = SequenceStep(sequence, start=start, end=end)
        outputs = infer(backend, asking(inputs, sequence=place)).outputs
        return int(outputs["OUTPUT"][0, 0]), int(outputs["OPEN"][0, 0])

    assert step(first, 1, start=True) == (1, 1)
    assert step(second, 10, start=True) == (10, 2)
    assert step(first, 2) == (3, 2)
    assert step(second, 20, end=True) == (30, 1)
    assert step(first, 3, end=True) == (6, 0)
    assert step(first, 5, start=True, end=True) == (5, 0)
    with pytest.raises(InvalidInput, match="START flag"):
        step(first, 1)


@contextlib.contextmanager
def busy(backend: TritonBackend, folder: Path) -> Iterator[None]:
    """The model ``queued`` is at work for a while, from the beginning of the block."""
    mark = folder / "begun"
    inputs = {
        "SECONDS": np.array([[1.5]], np.float32),
        "MARK": np.array([[str(mark).encode()]], object),
    }
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(backend.infer, a_request(inputs=inputs))
        eventually(mark.exists)
        yield
        assert not working.done()


def turn(backend: TritonBackend, **options: Any) -> int:
    """When the model ``queued`` answered a call."""
    inputs = {"SECONDS": np.zeros((1, 1), np.float32)}
    return int(backend.infer(asking(inputs, **options)).outputs["TURN"][0, 0])


def waiting(triton: LocalTriton) -> float:
    """How many calls wait for the model ``queued``."""
    with urllib.request.urlopen(triton.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(r'nv_inference_pending_request_count{model="queued".*} ([0-9.]+)', text)
    return float(found.group(1)) if found else 0.0


def test_the_first_to_be_served_is_the_one_of_the_highest_priority(
    open_model: Open, triton: LocalTriton, tmp_path: Path
) -> None:
    backend = open_model("queued")
    with ThreadPoolExecutor(8) as pool:
        with busy(backend, tmp_path):
            low = [pool.submit(turn, backend, priority=2) for _ in range(3)]
            eventually(lambda: waiting(triton) == 3)
            high = pool.submit(turn, backend, priority=1)
            eventually(lambda: waiting(triton) == 4)
        assert high.result() < min(future.result() for future in low)


@pytest.mark.parametrize("priority", [None, 1])
def test_a_request_that_waits_too_long_in_the_queue_is_refused(
    open_model: Open,
    infer: Infer,
    triton: LocalTriton,
    priority: int | None,
    tmp_path: Path,
) -> None:
    backend = open_model("queued")
    late = {"SECONDS": np.zeros((1, 1), np.float32)}
    with ThreadPoolExecutor(1) as pool:
        with busy(backend, tmp_path):
            refused = pool.submit(
                infer, backend, asking(late, queue_timeout=0.05, priority=priority)
            )
            eventually(lambda: waiting(triton) == 1)
        with pytest.raises(DeadlineExceeded, match="queue_timeout=0.05 s") as caught:
            refused.result()
    assert caught.value.unprocessed
    assert infer(backend, asking(late, queue_timeout=20.0)).outputs["TURN"].shape == (1, 1)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("shape", [(2, 3), (3, 100_000), (0, 3)])
def test_a_compressed_call_is_answered_like_another(
    open_model: Open, infer: Infer, coding: Literal["gzip", "deflate"], shape: tuple[int, ...]
) -> None:
    sent = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    backend = open_model("identity_fp32", shared_memory="off")
    more = {"outputs": ("OUTPUT",), "request_id": "r1", "headers": {"x-own": "1"}}
    for request in (
        asking({"INPUT": sent}, compression=coding),
        asking({"INPUT": sent}, more, compression=coding),
    ):
        output = infer(backend, request).outputs["OUTPUT"]
        np.testing.assert_array_equal(output, sent)
        assert output.dtype == np.float32
        assert output.flags.writeable


def test_options_go_together(open_model: Open, infer: Infer) -> None:
    request = asking(
        {"INPUT": SAMPLES}, top_k=1, compression="gzip", priority=1, queue_timeout=30.0
    )
    response = infer(open_model("labels"), request)
    assert response.outputs["OUTPUT"].tolist() == [[b"3.000000:1:dog"], [b"9.000000:0:cat"]]


def test_an_error_is_the_same_though_the_call_was_compressed(
    open_model: Open, infer: Infer
) -> None:
    request = asking({"KIND": np.array([b"invalid"], object)}, compression="gzip")
    with pytest.raises(InvalidInput, match="the model answered with a code"):
        infer(open_model("failing"), request)


def test_shared_memory_does_its_work_where_compression_is_asked_for(
    open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = threading.Event()
    take = SharedMemory._take

    def note(memory: SharedMemory, size: int, deadline: Any) -> Any:
        taken.set()
        return take(memory, size, deadline)

    monkeypatch.setattr(SharedMemory, "_take", note)
    large = np.arange(300_000, dtype=np.float32).reshape(2, -1)
    backend = open_model("identity_fp32", shared_memory="system")
    response = backend.infer(asking({"INPUT": large}, compression="gzip"))
    np.testing.assert_array_equal(response.outputs["OUTPUT"], large)
    assert taken.is_set()


def test_a_step_of_a_sequence_never_goes_by_shared_memory(open_model: Open) -> None:
    # There, a call whose output does not fit is made twice.
    backend = open_model("identity_fp32", shared_memory="system")
    memory = backend._memory
    assert memory is not None
    large = np.zeros((1, 100_000), np.float32)
    step = asking({"INPUT": large}, sequence=SequenceStep(7, start=True, end=True))
    seen: list[InferRequest] = []

    def inline(request: InferRequest) -> InferResponse:
        seen.append(request)
        return InferResponse({"OUTPUT": large})

    assert step.options is not None
    with backend._options.of(step, step.options) as asked:
        memory.infer(asked, inline)
    assert len(seen) == 1


@pytest.mark.parametrize("bias", [None, 10.0])
def test_an_optional_input_is_given_or_left_out(
    open_model: Open, infer: Infer, bias: float | None
) -> None:
    backend = open_model("optional")
    assert [spec.optional for spec in backend.metadata.inputs] == [False, True]
    inputs = {"INPUT": np.array([1, 2], np.float32)}
    if bias is not None:
        inputs["BIAS"] = np.array([bias], np.float32)
    output = infer(backend, a_request(inputs=inputs)).outputs["OUTPUT"]
    assert output.tolist() == [1 + (bias or 0), 2 + (bias or 0)]


@pytest.mark.parametrize("large", ["INPUT", "BIAS", "none"])
def test_an_optional_input_may_be_left_out_where_others_go_by_shared_memory(
    open_model: Open, large: str
) -> None:
    backend = open_model("optional", shared_memory="system")
    inputs = {"INPUT": np.ones(100_000 if large != "none" else 2, np.float32)}
    if large == "BIAS":
        inputs["BIAS"] = np.array([4], np.float32)
    output = backend.infer(a_request(inputs=inputs)).outputs["OUTPUT"]
    assert output[0] == (5 if large == "BIAS" else 1)
