"""What a call means."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import infer_backends
from infer_backends import (
    DataType,
    InferenceFailed,
    InvalidInput,
    Model,
    ModelClosed,
    PluginError,
    ProtocolError,
    RemoteModel,
    TensorSpec,
    UnsupportedOperation,
)
from infer_backends.plugin import Array, InferRequest, InferResponse
from tests.core.fakes import FakeBackend, double, metadata

X = np.ones((2, 3), np.float32)
TWO_OUTPUTS = metadata(
    outputs=[TensorSpec("b", DataType.FP32, (1,)), TensorSpec("a", DataType.FP32, (1,))]
)


def two_outputs(_: InferRequest) -> dict[str, Array]:
    return {"a": np.array([1.0], np.float32), "b": np.array([2.0], np.float32)}


def test_a_model_is_a_remote_model() -> None:
    model: RemoteModel = Model(FakeBackend())
    assert isinstance(model, RemoteModel)


def test_one_output_alone_and_several_as_a_tuple_in_metadata_order() -> None:
    np.testing.assert_array_equal(Model(FakeBackend())(X), X * 2)
    outputs = Model(FakeBackend(two_outputs, metadata=TWO_OUTPUTS))(X)
    assert isinstance(outputs, tuple)
    assert [output.item() for output in outputs] == [2.0, 1.0]


def test_every_keyword_is_the_name_of_an_input() -> None:
    names = ["self", "timeout", "inputs"]
    backend = FakeBackend(
        lambda request: {"y": np.sum(list(request.inputs.values()), axis=0)},
        metadata=metadata([TensorSpec(name, DataType.FP32, (-1, 3)) for name in names]),
    )
    np.testing.assert_array_equal(Model(backend)(self=X, timeout=X, inputs=X), X * 3)


def test_infer_passes_its_options_on_and_says_who_answered() -> None:
    backend = FakeBackend()
    model = Model(backend)
    headers = {"X-Trace": "1"}
    result = model.infer(
        {"x": X}, outputs=["y"], timeout=5, request_id="r1", parameters={"p": 1}, headers=headers
    )
    (request,) = backend.requests
    assert request.outputs == ("y",)
    assert request.request_id == result.request_id == "r1"
    assert request.parameters == {"p": 1}
    assert request.headers == {"x-trace": "1"}
    assert request.deadline.explicit
    assert 0 < request.deadline.remaining() <= 5
    assert result.backend_url == "fake://h/m"
    assert result.model_version == "1"


def test_the_default_deadline_is_a_minute_and_nobodys_wish() -> None:
    backend = FakeBackend()
    Model(backend)(X)
    assert 50 < backend.requests[0].deadline.remaining() <= 60
    assert not backend.requests[0].deadline.explicit
    Model(backend, timeout=3)(X)
    assert backend.requests[1].deadline.remaining() <= 3
    assert backend.requests[1].deadline.explicit
    Model(backend).infer({"x": X}, timeout=np.float32(2))
    assert backend.requests.pop().deadline.remaining() <= 2
    Model(backend).infer({"x": X}, timeout=float("inf"))
    Model(backend).infer({"x": X}, timeout=10**400)
    assert backend.requests[2].deadline.remaining() < threading.TIMEOUT_MAX


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "positive number of seconds"),
        ({"timeout": -1}, "positive number of seconds"),
        ({"timeout": float("nan")}, "positive number of seconds"),
        ({"timeout": -(10**400)}, "positive number of seconds"),
        ({"timeout": "1"}, "number of seconds, not str"),
        ({"timeout": True}, "number of seconds, not bool"),
        ({"request_id": 3}, "request_id= is a str, not int"),
        ({"parameters": [1]}, "parameters= is a mapping"),
        ({"parameters": {"a": None}}, "parameter 'a': expected"),
        ({"parameters": {1: "a"}}, "parameter names are str, not int"),
        ({"parameters": {"a": float("nan")}}, "parameter 'a' is no finite number"),
        ({"parameters": {"a": -float("inf")}}, "parameter 'a' is no finite number"),
        ({"parameters": {"a": 2**64}}, "parameter 'a' does not fit into 64 bits"),
        ({"parameters": {"a": -(2**63) - 1}}, "parameter 'a' does not fit into 64 bits"),
        ({"parameters": {"a": "\ud800"}}, "parameter 'a' is no Unicode text"),
        ({"parameters": {"\ud800": 1}}, "a parameter's name is no Unicode text"),
        ({"request_id": "\ud800"}, "request_id= is no Unicode text"),
        ({"headers": {"a": "b\n"}}, "the value of 'a'"),
        ({"outputs": "y"}, r"pass \['y'\]"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(
    options: dict[str, Any], message: str
) -> None:
    backend = FakeBackend()
    with pytest.raises(InvalidInput, match=message):
        Model(backend).infer({"x": X}, **options)
    assert backend.requests == []


@pytest.mark.parametrize("timeout", ["1", None, True, float("nan")])
def test_closing_takes_a_number_of_seconds(timeout: Any) -> None:
    backend = FakeBackend()
    model = Model(backend)
    with pytest.raises(InvalidInput, match="number of seconds"):
        model.close(timeout=timeout)
    np.testing.assert_array_equal(model(X), X * 2)
    model.close(timeout=10**400)
    with pytest.raises(ModelClosed):
        model(X)


def test_inputs_are_coerced_as_the_model_was_opened() -> None:
    assert Model(FakeBackend())([[1, 2, 3]]).dtype == np.float32
    with pytest.raises(InvalidInput):
        Model(FakeBackend(), coerce="never")([[1, 2, 3]])
    assert Model(FakeBackend(), coerce="unsafe")([[True] * 3]).tolist() == [[2, 2, 2]]


def test_a_foreign_exception_of_a_backend_is_the_plugins_fault() -> None:
    backend = FakeBackend()
    backend.error = KeyError("hunter2")
    with pytest.raises(PluginError, match="FakeBackend raised KeyError") as caught:
        Model(backend)(X)
    assert caught.value.__cause__ is backend.error
    assert "hunter2" not in str(caught.value)


def test_an_answer_that_is_none_is_the_plugins_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend()
    monkeypatch.setattr(backend, "infer", lambda request: {"y": X})
    with pytest.raises(PluginError, match="FakeBackend returned dict; .*InferResponse"):
        Model(backend)(X)


def test_a_foreign_exception_of_closing_is_the_plugins_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = FakeBackend()

    def close() -> None:
        raise KeyError("hunter2")

    monkeypatch.setattr(backend, "close", close)
    model = Model(backend)
    with pytest.raises(PluginError, match="FakeBackend raised KeyError") as caught:
        model.close()
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ModelClosed):
        model(X)


def test_an_interruption_is_passed_through() -> None:
    backend = FakeBackend()
    backend.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        Model(backend)(X)


def test_an_answer_without_an_output_breaks_the_protocol() -> None:
    with pytest.raises(ProtocolError, match="no output 'y'"):
        Model(FakeBackend(lambda _: {}))(X)


def test_a_closed_model_refuses_calls_and_closes_once_more() -> None:
    backend = FakeBackend()
    with Model(backend) as model:
        model(X)
    model.close()
    assert backend.closed >= 1
    with pytest.raises(ModelClosed):
        model(X)
    with pytest.raises(ModelClosed):
        model.infer({"x": X})
    assert repr(model) == "<Model 'fake': x: FP32[-1, 3] -> y: FP32[-1, 3] (closed)>"


class Slow(FakeBackend):
    """Answers when it is let go, or fails when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def infer(self, request: InferRequest) -> InferResponse:
        self.begun.set()
        assert self.go.wait(10)
        if self.closed:
            raise InferenceFailed("the connection was cut")
        return InferResponse(double(request))

    def close(self) -> None:
        super().close()
        self.go.set()


def start(model: Model) -> tuple[threading.Thread, list[object]]:
    outcome: list[object] = []

    def call() -> None:
        try:
            outcome.append(model(X))
        except Exception as exc:  # noqa: BLE001 - the outcome is looked at
            outcome.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, outcome


def test_closing_waits_for_calls_in_flight() -> None:
    backend = Slow()
    model = Model(backend)
    caller, outcome = start(model)
    assert backend.begun.wait(10)
    closer = threading.Thread(target=model.close)
    closer.start()
    backend.go.set()
    closer.join(10)
    caller.join(10)
    assert isinstance(outcome[0], np.ndarray)
    assert backend.closed == 1


def test_calls_that_outlast_the_wait_are_cancelled_as_closed() -> None:
    backend = Slow()
    model = Model(backend)
    caller, outcome = start(model)
    assert backend.begun.wait(10)
    model.close(timeout=0)
    caller.join(10)
    assert isinstance(outcome[0], ModelClosed)
    assert isinstance(outcome[0].__cause__, InferenceFailed)


def test_a_model_made_from_a_backend_refuses_to_be_pickled_or_copied() -> None:
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(UnsupportedOperation, match="open it by its URL"):
            copied(Model(FakeBackend()))


def opener(url: object, options: object) -> FakeBackend:
    return FakeBackend(url=str(url))


def test_a_model_pickles_by_its_url_and_options() -> None:
    with infer_backends.register_backend("fake", opener):
        model = infer_backends.open_model("fake://u:p@h/m?timeout=7", coerce="never")
        again = pickle.loads(pickle.dumps(model))
        assert again.infer({"x": X}).backend_url == "fake://***@h/m?timeout=7"
        with pytest.raises(InvalidInput):
            again([[1, 2, 3]])


def test_a_fault_of_a_plugin_names_the_url_that_it_was_opened_by() -> None:
    backend = FakeBackend()
    backend.error = KeyError("hunter2")
    with (
        infer_backends.register_backend("fake", lambda url, options: backend),
        infer_backends.open_model("fake://u:p@h/m") as model,
        pytest.raises(PluginError, match=r"^the backend of fake://\*\*\*@h/m raised KeyError"),
    ):
        model(X)


def child_call(model: Model, answers: Any) -> None:
    answers.put(model(X).sum())
    model.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking is the point
def test_a_model_works_in_a_forked_child_while_the_parent_is_in_a_call() -> None:
    backend = FakeBackend()
    model = Model(backend)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    model._calls.enter()
    child = context.Process(target=child_call, args=(model, answers))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert answers.get() == 12
    assert backend.closed == 0


def test_threads_share_a_model() -> None:
    model = Model(FakeBackend())
    results: list[float] = []

    def call(value: int) -> None:
        x = np.full((1, 3), value, np.float32)
        results.extend(float(model(x)[0, 0]) - 2 * value for _ in range(50))

    threads = [threading.Thread(target=call, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [0.0] * 400
