"""What goes wrong before anything is sent says so: the next step of a sequence begins it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    InferRequest,
    InvalidInput,
    ModelClosed,
    RequestOptions,
    UnsupportedOperation,
)
from infer_backends_triton import _grpc_messages
from infer_backends_triton._unsent import BEFORE_SENDING
from tests.conftest import Protocol
from tests.triton import grpc_fakes
from tests.triton.endpoints import opened_at

Ask = Callable[[Any, InferRequest], object]

# The second is large enough for shared memory.
SIZES = [2, 100_000]


def ask_in_loop(backend: Any, request: InferRequest) -> object:
    return asyncio.run(backend.infer_async(request))


async def _first(backend: Any, request: InferRequest) -> object:
    return await anext(backend.stream_async(request))


@pytest.fixture(params=["blocking", "in a loop"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return (lambda backend, asked: backend.infer(asked)) if request.param == "blocking" else (
        ask_in_loop
    )  # fmt: skip


@pytest.fixture(params=["blocking", "in a loop"])
def begin(request: pytest.FixtureRequest) -> Ask:
    """Asks for the first response of a stream."""
    if request.param == "blocking":
        return lambda backend, asked: next(backend.stream(asked))
    return lambda backend, asked: asyncio.run(_first(backend, asked))


def a_request(size: int, dtype: type[np.generic] = np.float32, **fields: Any) -> InferRequest:
    options = fields.pop("options", None)
    request = grpc_fakes.a_request(inputs={"INPUT": np.zeros(size, dtype)}, **fields)
    request.options = options
    return request


def error_of(ask: Ask, backend: Any, request: InferRequest) -> InferError:
    with pytest.raises(InferError) as caught:
        ask(backend, request)
    return caught.value


def the_impossible(size: int) -> list[InferRequest]:
    """Requests that no protocol has a form for, or that contradict themselves."""
    return [
        a_request(size, headers={"te": "x"}),
        a_request(size, headers={"x-own": "one\ntwo"}),
        a_request(size, headers={"x own": "one"}),
        a_request(size, request_id="\ud800"),
        a_request(size, parameters={"p": "\ud800"}),
        a_request(size, np.float64),
        a_request(size, parameters={"priority": 1}, options=RequestOptions(priority=1)),
        a_request(size, options=RequestOptions(top_k=0)),
    ]


@pytest.mark.parametrize("size", SIZES)
def test_a_request_that_cannot_be_sent(
    triton_url: Callable[..., str], protocol: Protocol, size: int, ask: Ask
) -> None:
    with opened_at(triton_url("identity_1d", protocol)) as backend:
        ask(backend, a_request(size))
        for request in the_impossible(size):
            error = error_of(ask, backend, request)
            assert (type(error), error.unprocessed) == (InvalidInput, True), error


def test_a_stream_that_cannot_be_asked_for(triton_url: Callable[..., str], begin: Ask) -> None:
    with opened_at(triton_url("identity_1d", "grpc")) as backend:
        for request in the_impossible(2):
            error = error_of(begin, backend, request)
            assert (type(error), error.unprocessed) == (InvalidInput, True), error


def test_a_request_of_which_one_protocol_has_no_form(
    triton_url: Callable[..., str], ask: Ask
) -> None:
    for protocol, value in (("http", float("nan")), ("grpc", 2**70)):
        with opened_at(triton_url("identity_1d", protocol)) as backend:
            error = error_of(ask, backend, a_request(2, parameters={"p": value}))
            assert (type(error), error.unprocessed) == (InvalidInput, True)


def test_a_request_that_is_too_large(
    triton_url: Callable[..., str], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_at(triton_url("identity_1d", "grpc"), shared_memory="off") as backend:
        monkeypatch.setattr(_grpc_messages, "MAX_MESSAGE_BYTES", 1000)
        error = error_of(ask, backend, a_request(1000))
    assert (type(error), error.unprocessed) == (InvalidInput, True)


@pytest.mark.parametrize("size", SIZES)
def test_a_deadline_that_has_passed_already(
    triton_url: Callable[..., str], protocol: Protocol, size: int, ask: Ask
) -> None:
    with opened_at(triton_url("identity_1d", protocol)) as backend:
        # Also where there is a connection that could be used at once.
        for warm in (False, True):
            if warm:
                ask(backend, a_request(size))
            error = error_of(ask, backend, a_request(size, timeout=-1.0))
            assert (type(error), error.unprocessed) == (DeadlineExceeded, True)


def test_a_kept_connection_is_sent_nothing_after_the_deadline(
    triton_url: Callable[..., str],
) -> None:
    async def ask_twice(backend: Any) -> None:
        await backend.infer_async(a_request(2))
        with pytest.raises(DeadlineExceeded, match="before asking") as caught:
            await backend.infer_async(a_request(2, timeout=-1.0))
        assert caught.value.unprocessed

    with opened_at(triton_url("identity_1d", "http")) as backend:
        asyncio.run(ask_twice(backend))


def test_a_stream_whose_deadline_has_passed_already(
    triton_url: Callable[..., str], begin: Ask
) -> None:
    with opened_at(triton_url("identity_1d", "grpc")) as backend:
        error = error_of(begin, backend, a_request(2, timeout=-1.0))
    assert (type(error), error.unprocessed) == (DeadlineExceeded, True)


@pytest.mark.parametrize("size", SIZES)
def test_a_model_that_was_closed(
    triton_url: Callable[..., str], protocol: Protocol, size: int, ask: Ask
) -> None:
    with opened_at(triton_url("identity_1d", protocol)) as backend:
        backend.close()
        error = error_of(ask, backend, a_request(size))
    assert (type(error), error.unprocessed) == (ModelClosed, True)


class LateAlarm(Deadline):
    """Passes when a call that was sent begins to wait."""

    __slots__ = ()

    @property
    def alarmed(self) -> bool:
        return True

    def patience(self, doing: str) -> float:
        raise DeadlineExceeded(f"the deadline passed before {doing}", unprocessed=True)


def test_a_stream_whose_deadline_passes_once_it_is_asked_for_promises_nothing(
    triton_url: Callable[..., str],
) -> None:
    request = a_request(2)
    request.deadline = LateAlarm.after(20)
    with opened_at(triton_url("identity_1d", "grpc")) as backend:
        error = error_of(lambda backend, asked: next(backend.stream(asked)), backend, request)
    assert (type(error), error.unprocessed) == (DeadlineExceeded, False)


def test_what_is_unsupported_is_said_of_the_call_and_not_of_the_runtime() -> None:
    """Unprocessed, it would put a member of a fallback out of order."""
    with pytest.raises(UnsupportedOperation) as caught, BEFORE_SENDING:
        raise UnsupportedOperation("not this")
    assert not caught.value.unprocessed
