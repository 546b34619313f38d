"""The decisions about shared memory, with a server that answers as it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from infer_backends.plugin import (
    Array,
    DataType,
    Deadline,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InferRequest,
    InferResponse,
    InvalidInput,
    ModelMetadata,
    ModelURL,
    PermissionDenied,
    ProtocolError,
    TensorSpec,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends_triton import _regions, _shared_grpc, _shared_http, _shared_memory
from infer_backends_triton._grpc_runtime import service_pb2
from infer_backends_triton._locality import is_local
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._shared_layout import Answer, AnsweredTensor, Layout, Slot, lay_out
from infer_backends_triton._shared_memory import SharedMemory, share
from infer_backends_triton._status import RegionError, RegionLost, RegionTooSmall
from tests.triton.http_faults import default_options

ECHO = ModelMetadata(
    "echo",
    ("1",),
    "",
    (TensorSpec("x", DataType.FP32, (-1,)), TensorSpec("s", DataType.BYTES, (-1,), optional=True)),
    (TensorSpec("y", DataType.FP32, (-1,)),),
)
X = np.arange(1000, dtype=np.float32)
Y = np.zeros(1000, np.float32)


class Server:
    """Knows regions, and answers each call with what is next on its list."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.layouts: list[Layout] = []
        self.answers: list[InferError | Answer] = []
        self.refusal: InferError | None = None

    def register(self, name: str, _size: int, _deadline: Deadline) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.known.add(name)

    def unregister(self, name: str, _deadline: Deadline) -> None:
        self.known.discard(name)

    def registered(self, _deadline: Deadline) -> list[str]:
        return list(self.known)

    def version(self, _deadline: Deadline) -> str:
        return "2.51.0"

    def infer(self, _request: InferRequest, region: str, layout: Layout) -> Answer:
        assert region in self.known
        self.layouts.append(layout)
        answer = self.answers.pop(0) if self.answers else answer_of()
        if isinstance(answer, InferError):
            raise answer
        return answer


def answer_of(
    name: str = "y",
    datatype: str = "FP32",
    shape: tuple[int, ...] = (1000,),
    raw: bytes | None = Y.tobytes(),
) -> Answer:
    return Answer([AnsweredTensor(name, datatype, shape, raw)], "1", {})


class Inline:
    """The ordinary way, and how often it was gone."""

    calls = 0

    def __call__(self, _request: InferRequest) -> InferResponse:
        self.calls += 1
        return InferResponse({"y": Y.copy()})


@pytest.fixture(autouse=True)
def kilobytes_are_large(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shared_memory, "THRESHOLD", 1000)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def inline() -> Inline:
    return Inline()


@pytest.fixture
def memory(server: Server) -> Iterator[SharedMemory]:
    memory = SharedMemory(server, ECHO, "http://h/echo", is_local=lambda _: True)
    yield memory
    memory.close()
    assert server.known == set()


def insisting(server: Server, local: Callable[[Deadline], bool] = lambda _: True) -> SharedMemory:
    return SharedMemory(server, ECHO, "http://h/echo", is_local=local, insist=True)


def request(
    x: Array = X, outputs: tuple[str, ...] | None = None, **parameters: Any
) -> InferRequest:
    return InferRequest({"x": x}, outputs, Deadline.after(5), parameters=parameters)


def test_tensors_follow_each_other_where_processors_like_them() -> None:
    layout = lay_out({"a": 100, "b": 64}, {"c": 1})
    assert layout == Layout({"a": Slot(0, 100), "b": Slot(128, 64)}, {"c": Slot(192, 1)}, 256)


def test_what_was_learnt_is_used(memory: SharedMemory, server: Server, inline: Inline) -> None:
    for _ in range(3):
        memory.infer(request(), inline)
    assert [set(layout.outputs) for layout in server.layouts] == [set(), {"y"}, {"y"}]
    assert inline.calls == 0


def test_what_is_small_goes_inline(memory: SharedMemory, server: Server, inline: Inline) -> None:
    memory.infer(request(X[:249]), inline)
    assert (server.layouts, inline.calls) == ([], 1)
    # Its answer was large: the next one's has room in a region.
    memory.infer(request(X[:249]), inline)
    assert [(layout.inputs, set(layout.outputs)) for layout in server.layouts] == [({}, {"y"})]


def test_bytes_go_inline(memory: SharedMemory, server: Server, inline: Inline) -> None:
    texts = np.array([b"x" * 99] * 999, object)
    memory.infer(InferRequest({"x": X, "s": texts}, None, Deadline.after(5)), inline)
    assert set(server.layouts[0].inputs) == {"x"}


def test_an_output_that_is_not_wanted_gets_no_room(
    memory: SharedMemory, server: Server, inline: Inline
) -> None:
    memory.infer(request(), inline)
    server.answers = [Answer([], "1", {})]
    assert memory.infer(request(outputs=()), inline).outputs == {}
    assert server.layouts[-1].outputs == {}


def test_an_answer_that_is_too_large_is_left_to_be_refused(server: Server, inline: Inline) -> None:
    memory = SharedMemory(server, ECHO, "u", is_local=lambda _: True, max_answer=3999)
    for _ in range(2):
        memory.infer(request(), inline)
        assert server.layouts[-1].outputs == {}
    memory.close()


def test_a_step_of_a_sequence_goes_inline(
    memory: SharedMemory, server: Server, inline: Inline
) -> None:
    memory.infer(request(sequence_id=7), inline)
    assert (server.layouts, inline.calls) == ([], 1)


def test_an_output_that_does_not_fit_comes_inline_and_is_learnt(
    memory: SharedMemory, server: Server, inline: Inline
) -> None:
    memory.infer(request(), inline)
    larger = np.ones(1500, np.float32)
    server.answers = [RegionTooSmall("too small"), answer_of(shape=(1500,), raw=larger.tobytes())]
    got = memory.infer(request(), inline).outputs["y"]
    assert got.tobytes() == larger.tobytes()
    assert [set(layout.outputs) for layout in server.layouts] == [set(), {"y"}, set()]
    memory.infer(request(), inline)
    assert server.layouts[-1].outputs["y"].size == 12000


def test_a_large_output_alone_that_does_not_fit_comes_inline(
    memory: SharedMemory, server: Server, inline: Inline
) -> None:
    memory.infer(request(X[:3]), inline)
    server.answers = [RegionTooSmall("too small")]
    memory.infer(request(X[:3]), inline)
    assert inline.calls == 2


def test_a_region_that_was_lost_is_replaced_within_the_call(
    memory: SharedMemory, server: Server, inline: Inline
) -> None:
    server.answers = [RegionLost("Unable to find")]
    memory.infer(request(), inline)
    assert (len(server.layouts), inline.calls) == (2, 0)


@pytest.mark.parametrize("answers", [[RegionLost("1"), RegionLost("2")], [RegionError("no")]])
def test_a_server_that_goes_on_refusing_is_left_in_peace(
    memory: SharedMemory, server: Server, inline: Inline, answers: list[Any]
) -> None:
    server.answers = list(answers)
    for _ in range(3):
        memory.infer(request(), inline)
    assert (len(server.layouts), inline.calls) == (len(answers), 3)


@pytest.mark.parametrize(
    "refusal",
    [
        RegionError("Unable to open"),
        UnsupportedOperation("UNIMPLEMENTED"),
        PermissionDenied("403"),
        InferenceFailed("500"),
        ProtocolError("?"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_server_that_takes_no_regions_is_called_inline(
    memory: SharedMemory, server: Server, inline: Inline, refusal: InferError
) -> None:
    server.refusal = refusal
    for _ in range(3):
        memory.infer(request(), inline)
    assert inline.calls == 3
    insist = insisting(server)
    with pytest.raises(UnsupportedOperation, match="shared_memory=auto"):
        insist.infer(request(), inline)
    insist.close()


@pytest.mark.parametrize("error", [Unavailable("refused"), DeadlineExceeded("late")])
def test_a_server_that_does_not_answer_is_an_error(
    memory: SharedMemory, server: Server, inline: Inline, error: InferError
) -> None:
    server.refusal = error
    with pytest.raises(type(error)):
        memory.infer(request(), inline)
    server.refusal = None
    server.answers = [error]
    with pytest.raises(type(error)):
        memory.infer(request(), inline)
    assert inline.calls == 0
    assert not memory._pool._busy
    assert not memory._pool._idle


def test_calls_beyond_the_limit_go_inline_and_the_others_do_not(
    memory: SharedMemory, server: Server, inline: Inline
) -> None:
    memory._pool._limit = 20_000
    memory.infer(request(np.zeros(50_000, np.float32)), inline)
    memory.infer(request(), inline)
    assert (len(server.layouts), inline.calls) == (1, 1)


def test_a_server_elsewhere_is_called_inline(server: Server, inline: Inline) -> None:
    asked = []

    def elsewhere(_deadline: Deadline) -> bool:
        asked.append(1)
        return False

    memory = SharedMemory(server, ECHO, "u", is_local=elsewhere)
    for _ in range(3):
        memory.infer(request(), inline)
    assert (len(asked), inline.calls) == (1, 3)
    with pytest.raises(UnsupportedOperation, match="another machine"):
        insisting(server, elsewhere).infer(request(), inline)


def test_a_name_that_does_not_resolve_is_asked_for_again(server: Server, inline: Inline) -> None:
    def unknown(_deadline: Deadline) -> bool:
        raise Unavailable("does not resolve")

    memory = SharedMemory(server, ECHO, "u", is_local=unknown)
    memory.infer(request(), inline)
    assert inline.calls == 1
    assert memory._local is None
    with pytest.raises(Unavailable):
        insisting(server, unknown).infer(request(), inline)


WRONG_ANSWERS: Mapping[str, Answer] = {
    "no outputs": Answer([], "1", {}),
    "another output": answer_of(name="z"),
    "another datatype": answer_of(datatype="FP64"),
    "twice": Answer([*answer_of().tensors, *answer_of().tensors], "1", {}),
    "too few bytes": answer_of(raw=b"1234"),
    "in a region, larger than asked for": answer_of(shape=(1001,), raw=None),
    "in a region, negative": answer_of(shape=(-1,), raw=None),
    "in a region, twice negative": answer_of(shape=(-10, -100), raw=None),
}


@pytest.mark.parametrize("wrong", WRONG_ANSWERS)
def test_an_answer_that_lies_is_an_error(
    memory: SharedMemory, server: Server, inline: Inline, wrong: str
) -> None:
    memory.infer(request(), inline)
    server.answers = [WRONG_ANSWERS[wrong]]
    with pytest.raises(ProtocolError):
        memory.infer(request(), inline)


def test_an_output_said_to_be_in_a_region_that_has_no_room_for_it_is_an_error(
    memory: SharedMemory, server: Server, inline: Inline
) -> None:
    server.answers = [answer_of(raw=None)]
    with pytest.raises(ProtocolError):
        memory.infer(request(), inline)


def settings(url: str, mode: str) -> ConnectionSettings:
    return ConnectionSettings.read(ModelURL.parse(url), default_options(shared_memory=mode))


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("127.8.9.1", True), ("192.0.2.1", False)],
)
def test_an_address_of_this_machine_is_known(host: str, local: bool) -> None:
    assert is_local(settings(f"http://{host}:1/m", "auto"), Deadline.after(5)) is local


def test_what_cannot_be_is_said_when_the_model_is_opened(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = "http://127.0.0.1:1/m", "http://192.0.2.1:1/m"
    decoupled = ModelMetadata("m", (), "", (), (), decoupled=True)

    def shared(url: str, mode: str, metadata: ModelMetadata = ECHO) -> SharedMemory | None:
        return share(server, server, metadata, settings(url, mode), url, Deadline.after(5))

    assert shared(here, "off") is None
    assert shared(here, "auto", decoupled) is None
    assert shared(there, "auto") is not None
    for url, metadata in ((there, ECHO), (here, decoupled)):
        with pytest.raises(UnsupportedOperation, match="shared_memory=system"):
            shared(url, "system", metadata)
    with pytest.raises(UnsupportedOperation, match="a server that has shared memory"):
        share(server, server, ECHO, settings(here, "system"), "u", Deadline.after(5), offered=False)
    monkeypatch.setattr(_regions, "supported", lambda: False)
    assert shared(here, "auto") is None
    with pytest.raises(UnsupportedOperation, match="on Linux"):
        shared(here, "system")


LAYOUT = lay_out({"x": 4000}, {"y": 4000})


def http_answer(answer: Any, raw: bytes = b"", request_id: str = "") -> Answer:
    text = json.dumps(answer).encode()
    asked = InferRequest({}, None, Deadline.after(5), request_id=request_id)
    return _shared_http.read_infer(memoryview(text + raw), len(text), asked, LAYOUT)


def y(**entry: Any) -> dict[str, Any]:
    return {"name": "y", "datatype": "FP32", "shape": [2], **entry}


def test_an_answer_over_http_says_where_its_outputs_are() -> None:
    inline = y(name="z", parameters={"binary_data_size": 8})
    answer = http_answer({"outputs": [y(), inline], "parameters": {"a": 1, "b": []}}, b"8 bytes!")
    assert [tensor.raw for tensor in answer.tensors] == [None, b"8 bytes!"]
    assert (answer.model_version, answer.parameters) == ("", {"a": 1})


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"outputs": {}},
        {"outputs": ["y"]},
        {"outputs": [y(name=1)]},
        {"outputs": [y(datatype=None)]},
        {"outputs": [y(shape=2)]},
        {"outputs": [y(shape=[2.0])]},
        {"outputs": [y(name="z")]},
        {"outputs": [y(data=[1, 2])]},
        {"outputs": [y(parameters={"binary_data_size": 9})]},
        {"outputs": [y(parameters={"binary_data_size": -1})]},
        {"outputs": [y(parameters={"binary_data_size": True})]},
        {"outputs": []},
        {"outputs": [y(parameters={"binary_data_size": 8})], "id": "another"},
    ],
)
def test_an_answer_over_http_that_does_not_hold_together_is_an_error(answer: Any) -> None:
    with pytest.raises(ProtocolError):
        http_answer(answer, b"8 bytes!", "mine")


def test_an_answer_over_http_that_is_shorter_than_it_says_is_an_error() -> None:
    with pytest.raises(ProtocolError):
        _shared_http.read_infer(memoryview(b"{}"), 3, request(), LAYOUT)


def test_a_parameter_that_is_not_for_callers_is_refused() -> None:
    with pytest.raises(InvalidInput, match="remove it"):
        _shared_http.build_infer(request(binary_data_output=False), ECHO, "r", LAYOUT)


def test_an_answer_over_grpc_that_does_not_hold_together_is_an_error() -> None:
    message = service_pb2.ModelInferResponse(id="another")
    message.outputs.add(name="y", datatype="FP32", shape=[2])
    asked = InferRequest({}, None, Deadline.after(5), request_id="mine")
    for wrong in (b"\xff", message.SerializeToString()):
        with pytest.raises(ProtocolError):
            _shared_grpc.read_infer(wrong, asked, LAYOUT, "u")
    message.id = "mine"
    with pytest.raises(ProtocolError, match="1 outputs and the bytes of 0"):
        _shared_grpc.read_infer(message.SerializeToString(), asked, LAYOUT, "u")
