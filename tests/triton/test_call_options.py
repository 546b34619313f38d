"""Options of calls as parameters of requests, and which of them a server can do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infer_backends.plugin import (
    DataType,
    DeadlineExceeded,
    InvalidInput,
    ModelMetadata,
    ModelURL,
    RequestOptions,
    SequenceStep,
    TensorSpec,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends_triton._call_options import (
    CallOptions,
    as_ranked,
    lacking,
    options_over_grpc,
    options_over_http,
    over_grpc,
)
from tests.triton.grpc_fakes import a_request

EVERYTHING = frozenset({"top_k", "sequence", "priority", "queue_timeout", "compression"})
TRITON = frozenset({"classification", "sequence", "schedule_policy", "binary_tensor_data"})
SPECS = tuple(TensorSpec(dtype.value, dtype, (-1,)) for dtype in DataType)
METADATA = ModelMetadata("m", ("1",), "python", (), SPECS)


def parameters(options: RequestOptions, given: Any = None, **more: Any) -> Any:
    """The parameters of a request that has these options."""
    reading = CallOptions(METADATA, "http://h/m", EVERYTHING, empty=False)
    with reading.of(a_request(parameters=given, **more), options) as asked:
        return asked.parameters


def test_a_step_of_a_sequence_is_three_parameters() -> None:
    step = SequenceStep(2**63 - 1, start=True, end=False)
    assert parameters(RequestOptions(sequence=step), {"mine": 1}) == {
        "mine": 1,
        "sequence_id": 2**63 - 1,
        "sequence_start": True,
        "sequence_end": False,
    }


@pytest.mark.parametrize(
    ("seconds", "microseconds"),
    [
        (0.2, 200_000),
        (1e-9, 1),
        (0.0, 1),
        (0.0000015, 2),
        (0.000003, 3),
        (3600.0, 3_600_000_000),
        (1e300, 2**63 - 1),
        (float("inf"), 2**63 - 1),
    ],
)
def test_a_queue_timeout_is_in_microseconds_rounded_up(seconds: float, microseconds: int) -> None:
    assert parameters(RequestOptions(queue_timeout=seconds)) == {"timeout": microseconds}


def test_a_priority_is_a_parameter() -> None:
    assert parameters(RequestOptions(priority=0)) == {"priority": 0}


def test_what_is_no_part_of_the_message_adds_no_parameter() -> None:
    options = RequestOptions(compression="gzip", top_k=2)
    assert parameters(options, outputs=("FP32",)) == {}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (RequestOptions(sequence=SequenceStep(1, start=True, end=True)), "sequence_id"),
        (RequestOptions(sequence=SequenceStep(1, start=True, end=True)), "sequence_end"),
        (RequestOptions(priority=1), "priority"),
        (RequestOptions(queue_timeout=1), "timeout"),
    ],
)
def test_a_parameter_and_an_option_of_the_same_meaning_contradict_each_other(
    options: RequestOptions, name: str
) -> None:
    with pytest.raises(InvalidInput, match=f"'{name}' is given in parameters="):
        parameters(options, {name: 1})
    assert parameters(RequestOptions(compression="gzip"), {name: 1}) == {name: 1}


@pytest.mark.parametrize("dtype", list(DataType))
def test_only_outputs_that_triton_can_rank_are_asked_for(dtype: DataType) -> None:
    options = RequestOptions(top_k=1)
    if dtype.value.startswith(("INT", "UINT")) or dtype in {DataType.FP32, DataType.FP64}:
        parameters(options, outputs=(dtype.value,))
        return
    with pytest.raises(UnsupportedOperation, match=f"top_k= for {dtype.value}: .* outputs="):
        parameters(options, outputs=(dtype.value,))
    with pytest.raises(UnsupportedOperation):
        parameters(options)


def test_nothing_is_no_number_of_elements() -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        parameters(RequestOptions(top_k=0), outputs=("FP32",))


def test_an_empty_input_is_ranked_only_where_the_server_survives_it() -> None:
    empty = {"x": np.zeros((0, 3), np.float32)}
    request = a_request(inputs=empty, outputs=("FP32",))
    options = RequestOptions(top_k=1)
    with CallOptions(METADATA, "u", EVERYTHING, empty=True).of(request, options):
        pass
    with pytest.raises(InvalidInput, match="no elements"):
        parameters(options, inputs=empty, outputs=("FP32",))


def test_outputs_that_are_ranked_are_bytes() -> None:
    assert {spec.dtype for spec in as_ranked(METADATA).outputs} == {DataType.BYTES}
    assert [spec.name for spec in as_ranked(METADATA).outputs] == [spec.name for spec in SPECS]


def test_what_a_server_does_not_list_is_refused() -> None:
    reading = CallOptions(METADATA, "http://h/m", frozenset({"priority"}), empty=True)
    with pytest.raises(UnsupportedOperation, match="http://h/m cannot do sequence=: .*'sequence'"):
        with reading.of(a_request(), RequestOptions(sequence=SequenceStep(1, True, True))):
            pass
    with pytest.raises(UnsupportedOperation, match="cannot do compression=$"):
        with reading.of(a_request(), RequestOptions(compression="gzip")):
            pass


def test_the_options_of_a_server_are_those_of_its_extensions() -> None:
    assert options_over_http(TRITON, triton=True) == EVERYTHING
    assert options_over_grpc(TRITON) == EVERYTHING
    some = frozenset({"sequence", "binary_tensor_data"})
    assert options_over_http(some, triton=True) == {"sequence"}
    assert options_over_grpc(some) == {"sequence", "compression"}
    assert options_over_http(frozenset(), triton=False) == frozenset()
    assert options_over_grpc(frozenset()) == {"compression"}
    assert options_over_http(None, triton=True) == EVERYTHING
    assert options_over_http(None, triton=False) == frozenset()


def test_a_request_that_waited_too_long_for_its_turn_is_late() -> None:
    reading = CallOptions(METADATA, "u", EVERYTHING, empty=True)
    refusal = Unavailable("u answered 503: Request timeout expired", unprocessed=True)
    with pytest.raises(DeadlineExceeded, match=r"queue_timeout=0\.5 s") as caught:
        with reading.of(a_request(), RequestOptions(queue_timeout=0.5)):
            raise refusal
    assert caught.value.unprocessed
    assert caught.value.__cause__ is refusal


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (RequestOptions(priority=1), "Request timeout expired"),
        (RequestOptions(queue_timeout=1.0), "Exceeds maximum queue size"),
    ],
)
def test_another_reason_to_be_unavailable_stays_one(options: RequestOptions, text: str) -> None:
    reading = CallOptions(METADATA, "u", EVERYTHING, empty=True)
    with pytest.raises(Unavailable, match=text):
        with reading.of(a_request(), options):
            raise Unavailable(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://gpu-box:8000/digits", "grpc://gpu-box:8001/digits"),
        ("triton+http://gpu-box/digits/versions/3", "grpc://gpu-box:8001/digits/versions/3"),
        ("https://u:secret@h:444/base/v2/models/m?auth=env:NAME", "grpcs://h/m"),
        ("http://[::1]:9/", "grpc://[::1]:8001/m"),
        ("http://h/a%20b", "grpc://h:8001/a%20b"),
    ],
)
def test_the_same_model_over_grpc_is_named_without_secrets(url: str, expected: str) -> None:
    parsed = ModelURL.parse(url)
    assert over_grpc(parsed, parsed.model or "m") == expected


def test_what_a_server_lacks_is_named() -> None:
    assert "'classification'" in lacking("top_k")
    assert lacking("streaming") == lacking("compression") == ""
