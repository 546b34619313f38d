"""The messages, headers and choices of the gRPC plugin that need no server."""

from __future__ import annotations

import base64
import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.grpc import service_pb2

from infer_backends.plugin import (
    DataType,
    InferError,
    InvalidInput,
    InvalidURL,
    ModelMetadata,
    ModelNotFound,
    ModelURL,
    TensorSpec,
)
from infer_backends_triton._discovery import choose_model
from infer_backends_triton._grpc_endpoint import channel_options
from infer_backends_triton._grpc_failures import receive_limit
from infer_backends_triton._grpc_headers import to_grpc_metadata
from infer_backends_triton._grpc_requests import InferRequests
from infer_backends_triton._grpc_responses import InferResponses
from infer_backends_triton._settings import ConnectionSettings
from tests.triton.grpc_fakes import a_request, make_options

METADATA = ModelMetadata(
    name="m",
    versions=(),
    platform="",
    inputs=(TensorSpec("x", DataType.FP32, (-1,)),),
    outputs=(TensorSpec("y", DataType.FP32, (-1,)), TensorSpec("z", DataType.BYTES, (-1,))),
)
RESPONSES = InferResponses(METADATA, "grpc://h/m")

tensors: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    name=st.sampled_from(["y", "z", "other"]),
    datatype=st.sampled_from(["FP32", "BYTES", "INT8", "", "NOPE"]),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=4),
    contents=st.none()
    | st.builds(
        dict,
        fp32_contents=st.lists(st.floats(width=32), max_size=3),
        bytes_contents=st.lists(st.binary(max_size=3), max_size=3),
    ),
)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_but_the_librarys_errors(answer: bytes) -> None:
    with suppress(InferError):
        RESPONSES.read(answer, a_request())


@given(st.lists(tensors, max_size=3), st.lists(st.binary(max_size=12), max_size=3))
def test_no_message_raises_anything_but_the_librarys_errors(
    outputs: list[dict[str, Any]], raw: list[bytes]
) -> None:
    message = service_pb2.ModelInferResponse(outputs=outputs, raw_output_contents=raw)
    try:
        response = RESPONSES.read(message.SerializeToString(), a_request())
    except InferError:
        return
    assert list(response.outputs) == ["y", "z"]
    assert response.outputs["y"].dtype == np.float32
    assert all(type(element) is bytes for element in response.outputs["z"].reshape(-1))


NUMBERS = ModelMetadata(
    name="m",
    versions=(),
    platform="",
    inputs=(),
    outputs=(TensorSpec("y", DataType.FP32, (-1,)), TensorSpec("z", DataType.INT16, (-1,))),
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """An answer with the outputs of ``NUMBERS``, mostly; some have words after the bytes."""
    names = draw(st.sampled_from([["y", "z"], ["y", "z"], ["z", "y"], ["y"]]))
    words = service_pb2.ModelInferResponse(model_name="m", id=draw(st.sampled_from(["", "r"])))
    elements = service_pb2.ModelInferResponse()
    for name in names:
        datatype, size = ("FP32", 4) if name == "y" else ("INT16", 2)
        count = draw(st.sampled_from([1, 1, 2, 0]))
        words.outputs.add(name=name, datatype=datatype, shape=[count])
        elements.raw_output_contents.append(draw(st.binary(min_size=8, max_size=8))[: count * size])
    parts = [words.SerializeToString(), elements.SerializeToString()]
    if draw(st.sampled_from([False, False, True])):
        parts.reverse()
    return b"".join(parts)


def told(reader: InferResponses, answer: bytes, **fields: Any) -> object:
    """What a reader makes of an answer, to be compared."""
    try:
        response = reader.read(answer, a_request(**fields))
    except InferError as exc:
        return type(exc), str(exc)
    outputs = response.outputs.items()
    return (
        response.model_version,
        response.parameters,
        response.backend_url,
        [
            (name, array.dtype, array.shape, array.tobytes(), array.flags.writeable)
            for name, array in outputs
        ],
    )


@given(
    st.lists(answers(), min_size=2, max_size=5),
    st.sampled_from([None, ("y", "z"), ("z", "y"), ("z",)]),
    st.sampled_from(["", "r"]),
)
def test_what_was_read_before_changes_nothing_of_an_answer(
    series: list[bytes], outputs: tuple[str, ...] | None, request_id: str
) -> None:
    reader = InferResponses(NUMBERS, "u")
    for answer in series:
        fresh = InferResponses(NUMBERS, "u")
        fields = {"outputs": outputs, "request_id": request_id}
        assert told(reader, answer, **fields) == told(fresh, answer, **fields)


def test_an_answer_like_the_one_before_is_known_by_its_words() -> None:
    reader = InferResponses(NUMBERS, "u")
    assert reader._known is None
    message = service_pb2.ModelInferResponse(raw_output_contents=[b"\0\0\x80\x3f", b"\1\0"])
    message.outputs.add(name="y", datatype="FP32", shape=[1])
    message.outputs.add(name="z", datatype="INT16", shape=[1])
    reader.read(message.SerializeToString(), a_request())
    known = reader._known
    message.raw_output_contents[1] = b"\2\0"
    response = reader.read(message.SerializeToString(), a_request())
    assert {name: array.tolist() for name, array in response.outputs.items()} == {
        "y": [1.0],
        "z": [2],
    }
    assert reader._known is known is not None


def test_a_request_says_all_that_it_was_told() -> None:
    request = a_request(outputs=("z", "y"), request_id="r", parameters={"priority": 1})
    message = service_pb2.ModelInferRequest.FromString(
        InferRequests(METADATA, "named", "3").build(request)
    )
    assert (message.model_name, message.model_version, message.id) == ("named", "3", "r")
    assert [output.name for output in message.outputs] == ["z", "y"]
    assert message.parameters["priority"].int64_param == 1
    (tensor,) = message.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("x", "FP32", [2])
    assert list(message.raw_input_contents) == [np.array([1, 2], "<f4").tobytes()]


@given(
    shapes=st.lists(hnp.array_shapes(min_dims=0, min_side=0, max_side=3), min_size=2, max_size=2),
    outputs=st.none() | st.permutations(["y", "z"]).map(tuple),
    request_id=st.text(max_size=3),
    parameters=st.dictionaries(st.text(max_size=3), st.booleans() | st.floats(allow_nan=False)),
)
def test_a_request_is_the_message_that_protobuf_would_build(
    shapes: list[tuple[int, ...]],
    outputs: tuple[str, ...] | None,
    request_id: str,
    parameters: dict[str, bool | float],
) -> None:
    x = np.arange(math.prod(shapes[0]), dtype=np.float32).reshape(shapes[0])
    words = np.full(shapes[1], b"word", object)
    request = a_request(
        inputs={"w": words, "x": x}, outputs=outputs, request_id=request_id, parameters=parameters
    )
    expected = service_pb2.ModelInferRequest(
        model_name="m",
        model_version="1",
        id=request_id,
        outputs=[{"name": name} for name in outputs or ()],
        raw_input_contents=[b"\4\0\0\0word" * words.size, x.tobytes()],
    )
    expected.inputs.add(name="w", datatype="BYTES", shape=shapes[1])
    expected.inputs.add(name="x", datatype="FP32", shape=shapes[0])
    for name, value in parameters.items():
        kind = "bool_param" if isinstance(value, bool) else "double_param"
        setattr(expected.parameters[name], kind, value)
    words_first = (TensorSpec("w", DataType.BYTES, ()), TensorSpec("x", DataType.FP32, ()))
    requests = InferRequests(replace(METADATA, inputs=words_first), "m", "1")
    for _ in range(2):
        assert service_pb2.ModelInferRequest.FromString(requests.build(request)) == expected


def test_equal_answers_share_nothing_that_a_caller_may_change() -> None:
    message = service_pb2.ModelInferResponse(raw_output_contents=[bytes(4), b""])
    message.outputs.add(name="y", datatype="FP32", shape=[1])
    message.outputs.add(name="z", datatype="BYTES", shape=[0])
    message.parameters["p"].bool_param = True
    answer = message.SerializeToString()
    first, second = (RESPONSES.read(answer, a_request()) for _ in range(2))
    first.outputs["y"][0] = 5
    assert isinstance(first.parameters, dict)
    first.parameters.clear()
    third = RESPONSES.read(answer, a_request())
    for response in (second, third):
        assert response.outputs["y"].tolist() == [0]
        assert response.parameters == {"p": True}


@given(value=st.binary(), padded=st.booleans())
def test_binary_headers_are_base64_with_padding_or_without(value: bytes, *, padded: bool) -> None:
    text = base64.b64encode(value).decode()
    sent = to_grpc_metadata({"X-Bin": text if padded else text.rstrip("=")}, InvalidInput)
    assert sent == (("x-bin", value),)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
def test_headers_are_sent_as_grpc_takes_them_or_refused(headers: dict[str, str]) -> None:
    try:
        sent = to_grpc_metadata(headers, InvalidURL)
    except InvalidURL:
        return
    for name, value in sent:
        assert name == name.lower()
        assert name.isascii()
        assert isinstance(value, bytes) or (value.isascii() and (value.isprintable() or not value))


def test_a_version_that_is_asked_for_narrows_the_choice() -> None:
    index = [
        {"name": "a", "version": "1", "state": "READY"},
        {"name": "b", "version": "2", "state": "READY"},
        {"name": "b", "version": "1", "state": "UNAVAILABLE"},
    ]
    assert choose_model(index, "grpc://h", "2") == "b"
    with pytest.raises(InvalidURL, match="'a', 'b'"):
        choose_model(index, "grpc://h", None)
    with pytest.raises(ModelNotFound, match="'a', 'b'"):
        choose_model(index, "grpc://h", "3")


def test_many_candidates_are_not_all_listed() -> None:
    index = [{"name": f"m{number:02}", "state": "READY"} for number in range(50)]
    with pytest.raises(InvalidURL, match="'m19' and 30 more"):
        choose_model(index, "grpc://h", None)


def test_bounds_beyond_grpcs_32_bits_are_taken_as_its_largest() -> None:
    options = make_options(connect_timeout=1e9, max_response_bytes=2**40)
    settings = ConnectionSettings.read(ModelURL.parse("grpc://h/m"), options)
    assert receive_limit(settings) == 2**31 - 1
    assert all(-1 <= value < 2**31 for _, value in channel_options(settings))
