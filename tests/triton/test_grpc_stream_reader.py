"""The messages of a stream, read: what a real Triton does not send."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from infer_backends.plugin import (
    DataType,
    InferenceFailed,
    InferError,
    InferResponse,
    InvalidInput,
    ModelMetadata,
    ModelNotFound,
    ProtocolError,
    TensorSpec,
    Unavailable,
)
from infer_backends_triton._grpc_responses import InferResponses
from infer_backends_triton._grpc_streams import StreamReader
from infer_backends_triton._status import stream_error
from tests.triton.grpc_fakes import a_request

METADATA = ModelMetadata("m", ("1",), "python", (), (TensorSpec("y", DataType.FP32, (-1,)),))


def reader(request_id: str = "") -> StreamReader:
    return StreamReader(
        InferResponses(METADATA, "grpc://h/m"),
        a_request(request_id=request_id),
        "grpc://h/m",
        lambda message: stream_error(message, url="grpc://h/m"),
    )


def message(
    *values: float, final: bool | None = None, error: str = "", empty: bool = False, **more: Any
) -> bytes:
    """A message of a stream: these values as ``y``."""
    response = service_pb2.ModelInferResponse(**more)
    if not empty:
        response.outputs.add(name="y", datatype="FP32", shape=[len(values)])
        response.raw_output_contents.append(np.array(values, np.float32).tobytes())
    if final is not None:
        response.parameters["triton_final_response"].bool_param = final
    stream = service_pb2.ModelStreamInferResponse(error_message=error, infer_response=response)
    return bytes(stream.SerializeToString())


def values(response: InferResponse | None) -> list[float]:
    assert response is not None
    return list(response.outputs["y"])


def test_a_response_is_read_wherever_it_stands_in_its_message() -> None:
    assert values(reader().read(message(1, 2))) == [1, 2]
    assert values(reader().read(message(1, 2) + b"\x0a\x00")) == [1, 2]
    # A field given twice is merged.
    assert values(reader().read(message(1, 2) + b"\x12\x00")) == [1, 2]


def test_a_last_response_may_have_outputs_or_none() -> None:
    stream = reader()
    assert values(stream.read(message(1, final=False))) == [1]
    assert values(stream.read(message(2, final=True))) == [2]
    stream.finish()
    stream = reader()
    assert stream.read(message(final=True, empty=True)) is None
    stream.finish()


def test_a_stream_that_ends_before_its_last_response_is_cut_short() -> None:
    stream = reader()
    stream.read(message(1, final=False))
    with pytest.raises(Unavailable, match="before its last response"):
        stream.finish()


def test_a_server_that_does_not_say_which_response_is_the_last_is_believed() -> None:
    stream = reader()
    stream.read(message(1))
    stream.finish()
    reader().finish()


def test_a_response_after_the_last_breaks_the_protocol() -> None:
    stream = reader()
    stream.read(message(1, final=True))
    with pytest.raises(ProtocolError, match="after the last response"):
        stream.read(message(2, final=True))


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff",
        b"\x12\x02\xff\xff",
        message(1) + b"\x0a\x01\xff",
        message(empty=True),
        message(empty=True, final=False),
        message(1, id="other"),
    ],
)
def test_a_message_that_does_not_hold_together_breaks_the_protocol(sent: bytes) -> None:
    with pytest.raises(ProtocolError):
        reader("mine").read(sent)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("the model says so", InferenceFailed),
        ("Failed to process the request(s) for model 'm', message: input 'x' is", InferenceFailed),
        ("Request for unknown model: 'm' is not found", ModelNotFound),
        ("[request id: r] unexpected shape for input 'x' for model 'm'", InvalidInput),
        ("[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model", InvalidInput),
        ("[request id: r] inference input 'x' data-type is 'FP64'", InvalidInput),
        ("Server is stopping, scheduler for model has stopped", Unavailable),
    ],
)
def test_what_the_server_says_without_a_status_is_told_by_its_words(
    said: str, kind: type[InferError]
) -> None:
    with pytest.raises(InferError) as caught:
        reader().read(message(error=said, empty=True))
    assert type(caught.value) is kind
    assert said[:20] in str(caught.value)


@pytest.mark.parametrize("before", [0, 1])
def test_an_error_after_a_response_came_after_work_was_done(before: int) -> None:
    stream = reader()
    for _ in range(before):
        stream.read(message(1, final=False))
    with pytest.raises(Unavailable) as caught, stream.reading():
        stream.read(message(error="Exceeds maximum queue size", empty=True))
    assert caught.value.unprocessed is (before == 0)
