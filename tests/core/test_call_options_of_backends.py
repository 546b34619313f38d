"""What a call asks for beyond its tensors is done by who can do it, and refused if nobody can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    DeadlineExceeded,
    InvalidInput,
    MemberState,
    Model,
    UnsupportedOperation,
)
from infer_backends._batching import Splitting
from infer_backends.plugin import RequestOptions
from tests.core.fakes import FakeBackend, metadata
from tests.core.resilience.members import OPEN, Switch, opened

X = np.array([[1, 3, 2]], np.float32)


class Able(FakeBackend):
    """Can do some of the options, and knows who can do others."""

    def __init__(self, *options: str, **given: Any) -> None:
        super().__init__(**given)
        self.request_options = frozenset(options)

    def advice(self, ability: str) -> str:
        return f"ask able://h/m for {ability}"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def options_of(backend: FakeBackend) -> RequestOptions | None:
    return backend.requests[-1].options


def test_a_call_without_options_has_none() -> None:
    backend = Able("priority")
    Model(backend).infer({"x": X})
    assert options_of(backend) is None


def test_options_reach_a_backend_that_has_them() -> None:
    backend = Able("top_k", "priority", "queue_timeout", "compression")
    backend.answer = lambda _: {"y": np.array([[b"2:1"]], object)}
    result = Model(backend).infer(
        {"x": X}, top_k=1, priority=2, queue_timeout=0.5, compression="gzip"
    )
    assert options_of(backend) == RequestOptions(
        top_k=1, priority=2, queue_timeout=0.5, compression="gzip"
    )
    assert result.classes("y")[0][0].index == 1


def test_classes_come_from_a_backend_that_knows_nothing_of_them() -> None:
    backend = FakeBackend(metadata=metadata(max_batch_size=4))
    result = Model(backend).infer({"x": X}, top_k=2)
    assert [one.index for one in result.classes("y")[0]] == [1, 2]
    assert options_of(backend) is None


@pytest.mark.parametrize(
    "option", [{"priority": 1}, {"queue_timeout": 1.0}, {"compression": "gzip"}]
)
def test_an_option_that_nobody_has_is_refused_before_anything_is_sent(
    option: dict[str, Any],
) -> None:
    backend = Able()
    (name,) = option
    with pytest.raises(UnsupportedOperation, match=f"{name}: ask able://h/m for {name}"):
        Model(backend).infer({"x": X}, **option)
    assert backend.requests == []


@pytest.mark.parametrize(
    "option",
    [
        {"top_k": 0},
        {"top_k": True},
        {"top_k": 1.5},
        {"priority": -1},
        {"priority": "high"},
        {"queue_timeout": 0},
        {"queue_timeout": float("nan")},
        {"queue_timeout": "1"},
        {"compression": "zstd"},
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(option: dict[str, Any]) -> None:
    backend = Able("top_k", "priority", "queue_timeout", "compression")
    (name,) = option
    with pytest.raises(InvalidInput, match=f"{name}="):
        Model(backend).infer({"x": X}, **option)
    assert backend.requests == []


def test_a_member_that_cannot_do_what_only_helps_is_asked_without_it() -> None:
    first = Switch("fake://first/m", Able("priority"))
    second = Switch("fake://second/m", FakeBackend())
    model = Model(opened(first, second))
    model.infer({"x": X}, priority=1)
    assert options_of(first.backend) == RequestOptions(priority=1)
    first.backend.error = UnsupportedOperation("no")
    with pytest.raises(UnsupportedOperation):
        model.infer({"x": X}, priority=1)


def test_options_survive_the_splitting_of_a_batch() -> None:
    backend = Able("top_k", metadata=metadata(max_batch_size=2))
    backend.answer = lambda request: {
        "y": np.full((request.inputs["x"].shape[0], 1), b"2:1", object)
    }
    result = Model(Splitting(backend, "fake://h/m")).infer({"x": np.ones((5, 3))}, top_k=1)
    assert result["y"].shape == (5, 1)
    assert [request.options for request in backend.requests] == [RequestOptions(top_k=1)] * 3


def test_a_fallback_can_do_what_one_of_its_members_can() -> None:
    fallback = opened(Switch("fake://a/m", FakeBackend()), Switch("fake://b/m", Able("priority")))
    assert fallback.request_options == {"top_k", "priority"}
    with pytest.raises(UnsupportedOperation, match="no compression: ask able://h/m"):
        Model(fallback).infer({"x": X}, compression="gzip")


def test_a_request_that_left_the_queue_is_answered_elsewhere_and_its_server_is_not_suspected() -> (
    None
):
    first = Switch("fake://first/m", Able("queue_timeout"))
    second = Switch("fake://second/m", FakeBackend(url="fake://second/m"))
    model = Model(opened(first, second))
    first.backend.error = DeadlineExceeded("waited in the queue", unprocessed=True)
    result = model.infer({"x": X}, queue_timeout=0.01)
    assert result.backend_url == "fake://second/m"
    assert [member.state for member in model.status().members] == [MemberState.READY] * 2
    assert model.status().members[0].failures == 0
    model.infer({"x": X})
    assert model.status().members[0].state is MemberState.SUSPECT
