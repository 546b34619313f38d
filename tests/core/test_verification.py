"""Every member is asked by itself, and what they answer is compared."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    DataType,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    MemberState,
    MemberStatus,
    Model,
    ModelClosed,
    ModelStatus,
    PluginError,
    TensorSpec,
    Unavailable,
)
from infer_backends._agreement import Tolerance
from infer_backends._verification import MemberVerification, Verification, verify
from infer_backends.plugin import Array, Deadline, InferRequest, InferResponse, ModelMetadata
from tests.core.fakes import FakeBackend, ManualClock, double, metadata, request

USUAL = Tolerance(1e-3, 1e-5)
INPUTS = request().inputs


class Member:
    """A member that is a fake backend, and remembers who was asked when."""

    def __init__(
        self, url: str, answer: Callable[[InferRequest], dict[str, Array]] = double
    ) -> None:
        self.url = url
        self.backend = FakeBackend(answer, url=url)
        self.shares: list[float] = []

    def failing(self, error: BaseException) -> Member:
        self.backend.error = error
        return self

    def metadata(self, deadline: Deadline) -> ModelMetadata:
        return self.backend.metadata

    def run(self, request: InferRequest) -> InferResponse:
        self.shares.append(request.deadline.remaining())
        return self.backend.infer(request)


def answering(value: float) -> Callable[[InferRequest], dict[str, Array]]:
    return lambda request: {"y": np.full((2, 3), value, np.float32)}


def taking(seconds: float, clock: ManualClock) -> Callable[[InferRequest], dict[str, Array]]:
    def answer(request: InferRequest) -> dict[str, Array]:
        clock.advance(seconds)
        return double(request)

    return answer


class Several:
    """A backend that stands for several."""

    def __init__(self, *members: Member) -> None:
        self._members = members
        self.metadata = metadata()

    def infer(self, request: InferRequest) -> InferResponse:
        raise AssertionError("its members are asked, and not the one who speaks for them")

    def members(self) -> tuple[Member, ...]:
        return self._members

    def status(self) -> ModelStatus:
        return ModelStatus((), fallbacks=7, retries=0)

    def close(self) -> None: ...


def ask(
    *members: Member, tolerance: Tolerance | None = USUAL, made_up: bool = False
) -> Verification:
    return verify(members, INPUTS, Deadline.after(60), tolerance, made_up=made_up)


def test_members_that_answer_the_same_agree() -> None:
    found = ask(Member("a://h/m"), Member("b://h/m"))
    assert found
    assert found.agreed
    first, second = found.members
    assert (first.url, first.error, first.differences) == ("a://h/m", None, ())
    assert first.largest_difference is None
    assert second.largest_difference == 0.0
    assert second.duration >= 0


def test_a_member_that_answers_otherwise_is_told_by_counts_and_never_by_values() -> None:
    found = ask(Member("a://h/m", answering(1.0)), Member("b://h/m", answering(4321.0)))
    assert not found
    assert found.members[1].differences == (
        "output 'y': 6 of 6 elements differ, by 4.32e+03 at most",
    )
    assert "4321" not in str(found)


def test_the_first_member_that_answers_is_the_one_to_compare_with() -> None:
    down = Unavailable("connection refused")
    members = [
        Member("a://h/m").failing(down),
        Member("b://h/m", answering(1.0)),
        Member("c://h/m", answering(1.0)),
        Member("d://h/m", answering(2.0)),
    ]
    found = ask(*members)
    assert not found
    assert found.members[0].error is down
    assert [bool(member.differences) for member in found.members] == [False, False, False, True]


def test_each_member_has_a_fair_share_of_the_time_that_is_left() -> None:
    clock = ManualClock()
    slow = Member("a://h/m", taking(2.0, clock))
    others = [Member("b://h/m"), Member("c://h/m")]
    verify([slow, *others], INPUTS, Deadline.after(12.0, clock=clock), USUAL)
    assert [m.shares for m in (slow, *others)] == [[4.0], [5.0], [10.0]]


def test_who_has_no_time_left_is_not_asked() -> None:
    clock = ManualClock()
    late = Member("b://h/m")
    slow = Member("a://h/m", taking(99.0, clock))
    found = verify([slow, late], INPUTS, Deadline.after(12.0, clock=clock), USUAL)
    assert late.backend.requests == []
    assert isinstance(found.members[1].error, DeadlineExceeded)


@pytest.mark.parametrize("tolerance", [USUAL, None])
def test_outputs_are_compared_only_within_a_tolerance(tolerance: Tolerance | None) -> None:
    members = Member("a://h/m", answering(1.0)), Member("b://h/m", answering(2.0))
    assert ask(*members, tolerance=tolerance).agreed == (tolerance is None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda request: {"y": [1.0]}, "an output is no array"),
        (lambda request: None, "its outputs are no dict of arrays"),
        (lambda request: 1 / 0, "it raised ZeroDivisionError"),
    ],
)
def test_a_broken_backend_is_reported_like_one_that_is_down(
    answer: Callable[[InferRequest], Any], said: str
) -> None:
    found = ask(Member("a://h/m", answer), Member("b://h/m"))
    assert isinstance(found.members[0].error, PluginError)
    assert said in str(found.members[0].error)
    assert found.members[1].error is None


def test_a_member_that_returns_no_response_is_reported() -> None:
    class Wrong(Member):
        def run(self, request: InferRequest) -> InferResponse:
            return {"y": 1}  # type: ignore[return-value]  # what is tested

    assert "it returned dict" in str(ask(Wrong("a://h/m")).members[0].error)


def test_an_interruption_is_none_of_the_results() -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(Member("a://h/m").failing(KeyboardInterrupt()))


@pytest.mark.parametrize("error", [InvalidInput("no"), InferenceFailed("no")])
def test_where_all_refuse_made_up_inputs_one_is_told_to_pass_some(error: InferError) -> None:
    members = Member("a://h/m").failing(error), Member("b://h/m").failing(error)
    assert "pass inputs=" in ask(*members, made_up=True).hint
    assert "pass inputs=" in str(ask(*members, made_up=True))
    assert ask(*members, made_up=False).hint == ""
    assert ask(Member("a://h/m"), members[1], made_up=True).hint == ""
    down = Member("a://h/m").failing(Unavailable("gone"))
    assert ask(down, members[1], made_up=True).hint == ""


def test_a_verification_reads_as_a_table() -> None:
    table = str(
        Verification(
            (
                MemberVerification("http://a:8000/m", 0.0042, None),
                MemberVerification("onnx:m.onnx", 0.5, None, (), 1.25e-7),
                MemberVerification("onnx:m.onnx", 0.5, None, (), 0.0),
                MemberVerification("onnx:n.onnx", 0.5, None, ("output y", "output z")),
                MemberVerification("http://b:8000/m", 0.0001, Unavailable("connection\nrefused")),
            )
        )
    )
    assert [line.split() for line in table.splitlines()] == [
        ["member", "time", "answer"],
        ["http://a:8000/m", "4.2", "ms", "answers"],
        ["onnx:m.onnx", "500.0", "ms", "agrees,", "largest", "difference", "1.25e-07"],
        ["onnx:m.onnx", "500.0", "ms", "agrees", "exactly"],
        ["onnx:n.onnx", "500.0", "ms", "differs:", "output", "y;", "output", "z"],
        ["http://b:8000/m", "0.1", "ms", "Unavailable:", "connection", "refused"],
    ]


def test_a_verification_can_be_sent_to_another_process() -> None:
    found = ask(Member("a://h/m"), Member("b://h/m").failing(Unavailable("gone")))
    assert str(pickle.loads(pickle.dumps(found))) == str(found)


# --- as methods of a model ----------------------------------------------------------------------


def test_a_model_asks_every_member_that_its_backend_stands_for() -> None:
    members = Member("a://h/m", answering(1.0)), Member("b://h/m", answering(2.0))
    model = Model(Several(*members))
    assert not model.verify()
    assert model.warmup()
    assert model.verify(rtol=1.0)
    assert [len(member.backend.requests) for member in members] == [3, 3]
    assert model.status().fallbacks == 7


def test_a_backend_by_itself_is_the_only_member() -> None:
    found = Model(FakeBackend()).verify()
    assert found
    assert [member.url for member in found.members] == ["fake://h/m"]
    backend = FakeBackend()
    backend.error = Unavailable("gone")
    (member,) = Model(backend).warmup().members
    assert (member.url, member.error) == ("fake", backend.error)


def test_the_status_of_a_backend_by_itself_is_ready() -> None:
    (member,) = Model(FakeBackend()).status().members
    assert isinstance(member, MemberStatus)
    assert (member.url, member.state) == ("fake", MemberState.READY)
    assert member.since >= 0


def test_made_up_inputs_are_the_same_for_all_and_drawn_by_the_seed() -> None:
    members = Member("a://h/m"), Member("b://h/m")
    model = Model(Several(*members), coerce="never")
    for seed in (0, 0, 1):
        model.verify(seed=seed)
    drawn = [[sent.inputs["x"] for sent in member.backend.requests] for member in members]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0][0], drawn[0][1])
    assert not np.array_equal(drawn[0][0], drawn[0][2])


def test_inputs_of_ones_own_are_checked_and_converted_as_in_a_call() -> None:
    backend = FakeBackend()
    model = Model(backend)
    model.verify({"x": [[1, 2, 3]]})
    assert backend.requests[0].inputs["x"].dtype == np.float32
    with pytest.raises(InvalidInput, match="expected shape"):
        model.warmup({"x": [[1, 2]]})
    assert len(backend.requests) == 1


def test_only_made_up_inputs_are_told_to_be_replaced() -> None:
    backend = FakeBackend()
    backend.error = InvalidInput("no")
    assert "pass inputs=" in Model(backend).verify().hint
    assert Model(backend).verify({"x": [[1, 2, 3]]}).hint == ""


def test_the_timeout_is_that_of_the_call_or_else_of_the_model() -> None:
    backend = FakeBackend()
    Model(backend).verify(timeout=5)
    Model(backend, timeout=7).warmup()
    Model(backend).warmup()
    deadlines = [sent.deadline for sent in backend.requests]
    assert [deadline.explicit for deadline in deadlines] == [True, True, False]
    limits = (5, 7, 60)
    assert all(d.remaining() <= limit for d, limit in zip(deadlines, limits, strict=True))
    with pytest.raises(InvalidInput, match="timeout="):
        Model(backend).verify(timeout=0)


@pytest.mark.parametrize("wrong", [{"rtol": -1}, {"atol": "x"}, {"seed": -1}, {"seed": 1.5}])
def test_arguments_that_make_no_sense_are_refused_before_anything_is_sent(
    wrong: dict[str, Any],
) -> None:
    backend = FakeBackend()
    with pytest.raises(InvalidInput, match=f"{next(iter(wrong))}="):
        Model(backend).verify(**wrong)
    assert backend.requests == []


def test_bf16_and_bytes_inputs_are_made_up_too() -> None:
    specs = [TensorSpec("a", DataType.BYTES, (-1,)), TensorSpec("b", DataType.BF16, (2, -1))]
    backend = FakeBackend(lambda request: dict(request.inputs), metadata=metadata(specs, specs))
    assert Model(backend).verify()


def test_a_closed_model_says_so() -> None:
    model = Model(FakeBackend())
    model.close()
    for method in (model.verify, model.warmup, model.status):
        with pytest.raises(ModelClosed):
            method()


def test_a_model_that_is_closed_meanwhile_says_so_and_not_what_failed() -> None:
    def close_and_fail(request: InferRequest) -> dict[str, Array]:
        model.close(timeout=0)
        raise Unavailable("gone")

    model = Model(FakeBackend(close_and_fail))
    with pytest.raises(ModelClosed, match="while its members were asked"):
        model.verify()


def test_answers_that_came_before_the_end_of_the_model_are_kept() -> None:
    def close_and_answer(request: InferRequest) -> dict[str, Array]:
        model.close(timeout=0)
        return double(request)

    model = Model(FakeBackend(close_and_answer))
    assert model.verify()
