"""What the scanner makes of a message is what protobuf makes of it, or it leaves it to protobuf."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from infer_backends.plugin import DataType, InferError, ModelMetadata, TensorSpec
from infer_backends_triton import _grpc_responses
from infer_backends_triton._grpc_messages import NO_MESSAGE
from infer_backends_triton._grpc_responses import InferResponses
from infer_backends_triton._protobuf_wire import field_prefix, split_off
from tests.triton.grpc_fakes import a_request

RAW = 6
MOST = 3
METADATA = ModelMetadata(
    name="m",
    versions=(),
    platform="",
    inputs=(TensorSpec("x", DataType.FP32, (-1,)),),
    outputs=(
        TensorSpec("y", DataType.FP32, (-1,)),
        TensorSpec("z", DataType.BYTES, (-1,)),
        TensorSpec("b", DataType.BOOL, (-1,)),
    ),
)
SOUND = {"y": ("FP32", bytes(8)), "z": ("BYTES", b"\1\0\0\0a\0\0\0\0"), "b": ("BOOL", b"\0\2")}


def varint(value: int, extra: int = 0) -> bytes:
    """The value, in ``extra`` bytes more than it needs."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    groups += [0] * extra
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def field(number: int, kind: int, value: int, payload: bytes, extra: int) -> bytes:
    key = varint(number << 3 | kind, extra)
    if kind == 0:
        return key + varint(value)
    if kind == 2:
        return key + varint(len(payload), extra) + payload
    return key + bytes({1: 8, 5: 4}.get(kind, 0))


fields = st.builds(
    field,
    st.sampled_from([0, 1, 2, 3, 4, 5, RAW, RAW, RAW, 7, 15, 16, 2047, 2**29 - 1, 2**29, 2**32])
    | st.integers(0, 2**33),
    st.sampled_from([0, 1, 2, 2, 2, 3, 4, 5, 6, 7]),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=200),
    st.sampled_from([0, 0, 0, 0, 1, 3]),
)
messages = st.lists(fields, max_size=8).map(b"".join)
tensors: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    name=st.sampled_from(["y", "z", "b", "other"]),
    datatype=st.sampled_from(["FP32", "BYTES", "BOOL", "NOPE"]),
    shape=st.lists(st.integers(0, 3) | st.integers(-(2**63), 2**63 - 1), max_size=3),
)
any_answers = st.builds(
    service_pb2.ModelInferResponse,
    model_name=st.text(max_size=5),
    model_version=st.text(max_size=2),
    id=st.sampled_from(["", "", "theirs"]),
    outputs=st.lists(tensors, max_size=3),
    raw_output_contents=st.lists(st.binary(max_size=200), max_size=4),
)


def sound_answer(order: list[str]) -> Any:
    message = service_pb2.ModelInferResponse(model_name="m", model_version="1")
    message.parameters["p"].int64_param = 1
    for name in order:
        datatype, raw = SOUND[name]
        message.outputs.add(name=name, datatype=datatype, shape=[2])
        message.raw_output_contents.append(raw)
    return message


answers = (any_answers | st.permutations(list(SOUND)).map(sound_answer)).map(
    lambda message: message.SerializeToString()
)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """An answer in which a few bytes are others, are gone or are new, or with strange fields."""
    answer = bytearray(draw(answers))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(answer)))
        answer[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2) | fields)
    return bytes(answer)


def parsed(message: bytes) -> Any:
    """What protobuf makes of it; None if it is no message."""
    try:
        return service_pb2.ModelInferResponse.FromString(message)
    except NO_MESSAGE:
        return None


@given(messages | mutations() | st.binary(max_size=60))
@example(field_prefix(RAW, 5) + b"four")
@example(field_prefix(RAW, 2**31 - 1))
@example(b"\x32")
@example(b"\x32\x80")
@example(b"\x0b\x32\x01a\x0c")
@example(b"\x70" + b"\x80" * 10 + b"\x01")
def test_a_message_is_split_as_protobuf_reads_it_or_left_to_protobuf(message: bytes) -> None:
    found = split_off(message, RAW, MOST)
    if found is None:
        return
    values, rest = found
    whole, others = parsed(message), parsed(rest)
    assert (whole is None) == (others is None)
    assert all(value.obj is message for value in values), "they are not copied"
    if whole is not None:
        assert values == list(whole.raw_output_contents)
        assert not others.raw_output_contents
        whole.ClearField("raw_output_contents")
        assert whole == others


@given(answers)
def test_what_protobuf_writes_is_split_unless_it_has_too_many_values(answer: bytes) -> None:
    found = split_off(answer, RAW, MOST)
    assert (found is None) == (len(parsed(answer).raw_output_contents) > MOST)


@given(st.integers(1, 2**29 - 1), st.binary(max_size=300))
def test_a_prefix_makes_a_field_of_bytes_of_what_follows(number: int, value: bytes) -> None:
    message = field_prefix(number, len(value)) + value
    assert message == varint(number << 3 | 2) + varint(len(value)) + value
    found = split_off(message, number, 1)
    assert found is not None
    assert ([bytes(view) for view in found[0]], found[1]) == ([value], b"")


def outcome(reader: InferResponses, answer: bytes) -> object:
    """All that a caller can tell of the answer."""
    try:
        response = reader.read(answer, a_request(request_id="mine"))
    except InferError as exc:
        return type(exc), str(exc)
    arrays = [
        (name, array.dtype, array.shape, array.flags.writeable, array.tolist())
        for name, array in response.outputs.items()
    ]
    return str(arrays), response.model_version, response.parameters


@given(mutations() | messages)
def test_an_answer_means_the_same_with_and_without_the_scanner(answer: bytes) -> None:
    reader = InferResponses(METADATA, "grpc://h/m")
    with patch.object(_grpc_responses, "split_off", return_value=None):
        by_protobuf = outcome(reader, answer)
    assert outcome(reader, answer) == by_protobuf
    assert outcome(reader, answer) == by_protobuf, "a header that is known makes no difference"
