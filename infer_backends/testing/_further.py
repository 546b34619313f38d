"""What a backend has to keep if it streams, or keeps sequences, as tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from infer_backends._async_model import AsyncModel
from infer_backends._errors import DeadlineExceeded, InvalidInput, ModelClosed, UnsupportedOperation
from infer_backends._model import Model
from infer_backends._open import open_async_model, open_model
from infer_backends._result import InferResult
from infer_backends.testing._report import show_rules
from infer_backends.testing._rules import keeps

_MANY = 1_000_000


class _Contract:
    @pytest.fixture(autouse=True)
    def _rules_are_shown(self, request: pytest.FixtureRequest) -> None:
        show_rules(request.config)

    @pytest.fixture
    def reference_url(self) -> Callable[[str], str]:
        """A function from a reference model's name to the URL that opens it."""
        pytest.fail("override the fixture reference_url: a function from model name to URL")


class StreamingContract(_Contract):
    """For a backend that streams. Subclass it, and provide the fixture ``reference_url``.

    The reference model is ``counting``: decoupled, with one input, INT32 ``[1]``; it answers a
    number by so many responses, whose one output, INT32 ``[1]``, counts from 0. For a runtime of
    Python functions it is the generator ``infer_backends.testing.counting``.
    """

    @keeps("stream-order")
    def test_all_responses_come_in_order(self, reference_url: Callable[[str], str]) -> None:
        with open_model(reference_url("counting")) as model:
            for number in (0, 1, 7):
                parts = list(model.stream(_ones(model, number), request_id="r1"))
                assert [_first(part) for part in parts] == list(range(number))
                assert all(part.backend_url and part.request_id == "r1" for part in parts)

    @keeps("stream-outputs")
    def test_outputs_are_the_callers_own(self, reference_url: Callable[[str], str]) -> None:
        with open_model(reference_url("counting")) as model:
            arrays = []
            for part in model.stream(_ones(model, 3)):
                (array,) = part.values()
                np.add(array, 10, out=array, casting="unsafe")
                arrays.append(array)
            assert [int(array.ravel()[0]) for array in arrays] == [10, 11, 12]

    @keeps("stream-early")
    def test_leaving_early_leaves_the_model_usable(
        self, reference_url: Callable[[str], str]
    ) -> None:
        with open_model(reference_url("counting")) as model:
            for _ in range(3):
                for part in model.stream(_ones(model, 1000)):
                    if _first(part) == 2:
                        break
            assert len(list(model.stream(_ones(model, 4)))) == 4

    @keeps("stream-deadline")
    def test_the_deadline_is_that_of_the_whole_stream(
        self, reference_url: Callable[[str], str]
    ) -> None:
        with open_model(reference_url("counting")) as model:
            with pytest.raises(DeadlineExceeded):
                for _ in model.stream(_ones(model, _MANY), timeout=0.3):
                    pass

    @keeps("stream-closed")
    def test_closing_the_model_ends_its_streams(self, reference_url: Callable[[str], str]) -> None:
        model = open_model(reference_url("counting"))
        stream = model.stream(_ones(model, _MANY))
        next(stream)
        model.close(timeout=0)
        with pytest.raises(ModelClosed):
            list(stream)

    @keeps("stream-refused")
    def test_wrong_inputs_and_plain_calls_are_refused(
        self, reference_url: Callable[[str], str]
    ) -> None:
        with open_model(reference_url("counting")) as model:
            assert model.metadata.decoupled
            with pytest.raises(InvalidInput):
                model.stream({})
            with pytest.raises(UnsupportedOperation, match="stream"):
                model(*_ones(model, 1).values())

    @keeps("stream-loops")
    def test_event_loops_have_the_same_streams(self, reference_url: Callable[[str], str]) -> None:
        async def read(model: AsyncModel, number: int) -> list[int]:
            return [_first(part) async for part in model.stream(_ones(model, number))]

        async def work() -> list[list[int]]:
            async with await open_async_model(reference_url("counting")) as model:
                stream: Any = model.stream(_ones(model, 1000))
                assert _first(await stream.__anext__()) == 0
                await stream.aclose()
                return await asyncio.gather(*(read(model, number) for number in range(5)))

        assert _run(work()) == [list(range(number)) for number in range(5)]


class SequenceContract(_Contract):
    """For a backend that keeps sequences. Subclass it, and provide ``reference_url``.

    The reference model is ``adding``: its one input is a single INT32, and its first output the sum
    of those that came in the same sequence. It keeps two sequences at the same time, or more. For a
    runtime of Python functions it is ``infer_backends.testing.adding``.
    """

    @keeps("sequence-together")
    def test_the_steps_of_a_sequence_are_kept_together(
        self, reference_url: Callable[[str], str]
    ) -> None:
        with open_model(reference_url("adding")) as model:
            for _ in range(2):
                with model.sequence() as step:
                    sums = [_step(model, step, 1, last=index == 2) for index in range(3)]
                assert sums == [1, 2, 3]

    @keeps("sequence-apart")
    def test_sequences_are_kept_apart(self, reference_url: Callable[[str], str]) -> None:
        with open_model(reference_url("adding")) as model:
            with model.sequence() as one, model.sequence() as two:
                assert one.id != two.id
                assert _step(model, one, 1) == 1
                assert _step(model, two, 10) == 10
                assert _step(model, one, 2, last=True) == 3
                assert _step(model, two, 20, last=True) == 30

    @keeps("sequence-ended")
    def test_nothing_comes_after_the_last_step(self, reference_url: Callable[[str], str]) -> None:
        with open_model(reference_url("adding")) as model, model.sequence() as step:
            _step(model, step, 1, last=True)
            with pytest.raises(InvalidInput, match="ended"):
                _step(model, step, 1)

    @keeps("sequence-loops")
    def test_event_loops_have_the_same_sequences(self, reference_url: Callable[[str], str]) -> None:
        async def work() -> list[int]:
            async with await open_async_model(reference_url("adding")) as model:
                async with model.sequence() as step:
                    sums = []
                    for index in range(3):
                        result = await step.infer(_ones(model, 1), last=index == 2)
                        sums.append(_first(result))
                    return sums

        assert _run(work()) == [1, 2, 3]


def _ones(model: Model | AsyncModel, number: int) -> dict[str, Any]:
    """The one input of a model, all of whose dimensions are one."""
    (spec,) = model.metadata.inputs
    return {spec.name: np.full([1] * len(spec.shape), number, spec.dtype.numpy_dtype)}


def _first(result: InferResult) -> int:
    return int(next(iter(result.values())).ravel()[0])


def _step(model: Model, step: Any, number: int, *, last: bool = False) -> int:
    return _first(step.infer(_ones(model, number), last=last))


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)
