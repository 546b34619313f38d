"""The part of the suite that calls models in event loops."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from operator import sub
from typing import Any, TypeVar

import numpy as np
import pytest

from infer_backends._async_model import AsyncModel
from infer_backends._backend import Array
from infer_backends._errors import (
    DeadlineExceeded,
    InvalidInput,
    InvalidURL,
    ModelClosed,
    ModelNotFound,
)
from infer_backends._open import open_async_model, open_model
from infer_backends._url import ModelURL
from infer_backends.testing._of_time import rounds_of
from infer_backends.testing._rules import keeps
from infer_backends.testing._subject import NO_SUCH_MODEL, Subject, URLs
from infer_backends.testing._waist import PATIENCE
from infer_backends.testing._wrong_inputs import wrong_inputs

_T = TypeVar("_T")
#: How much of a long call a loop may stand still in one go: a busy machine stops it for a little.
_MOST = 0.8


class LoopContract(Subject):
    """What a backend has to keep in event loops, whether it is made for them or not."""

    @keeps("loops-answers")
    def test_an_event_loop_gets_what_a_thread_gets(self, reference_url: URLs, copying: str) -> None:
        inputs = self.arrays(copying)

        async def call() -> None:
            async with await open_async_model(reference_url(copying)) as model:
                result = await model.infer(inputs)
                self.check(result, inputs, copying)
                for output in result.values():
                    assert output.flags.writeable
                    assert output.flags.c_contiguous
                    assert not any(np.shares_memory(output, array) for array in inputs.values())

        run_in_loop(call())

    @keeps("loops-answers")
    def test_awaited_calls_mean_what_others_do(self, reference_url: URLs) -> None:
        url = reference_url(self.main.name)
        inputs = self.inputs(1)
        names = [spec.name for spec in self.main.outputs]

        async def call() -> None:
            async with await open_async_model(url) as model:
                assert model.metadata.inputs == self.main.inputs
                in_order = [inputs[spec.name] for spec in self.main.inputs]
                for outputs in (
                    await model(*in_order),
                    await model(**inputs),
                    await model(inputs),
                ):
                    self.check_call(outputs, inputs)
                result = await model.infer(inputs, outputs=names[::-1], request_id="r1")
                assert list(result) == names[::-1]
                assert (result.attempts, result.request_id) == ((), "r1")
                assert result.backend_url == str(ModelURL.parse(url))

        run_in_loop(call())

    @keeps("loops-wrong-inputs")
    def test_wrong_inputs_are_refused_in_an_event_loop(
        self, reference_url: URLs, wrong: str
    ) -> None:
        args, kwargs = wrong_inputs(self.main.inputs)[wrong]

        async def call() -> None:
            async with await open_async_model(reference_url(self.main.name)) as model:
                with pytest.raises(InvalidInput):
                    await model(*args, **kwargs)
                self.check(await model.infer(self.inputs(1)), self.inputs(1))

        run_in_loop(call())

    @keeps("loops-opening")
    def test_what_is_not_opened_says_why_in_an_event_loop(self, reference_url: URLs) -> None:
        with pytest.raises(InvalidURL, match="the options known here are .*timeout"):
            run_in_loop(_open(reference_url(self.main.name), no_such_option=1))
        with pytest.raises(ModelNotFound):
            run_in_loop(_open(reference_url(NO_SUCH_MODEL)))

    @keeps("loops-deadline")
    def test_a_deadline_that_has_passed_ends_an_awaited_call(self, reference_url: URLs) -> None:
        async def call() -> None:
            async with await open_async_model(reference_url(self.main.name)) as model:
                with pytest.raises(DeadlineExceeded):
                    await model.infer(self.inputs(), timeout=1e-9)
                self.check(await model.infer(self.inputs(1)), self.inputs(1))

        run_in_loop(call())

    @keeps("loops-tasks")
    def test_tasks_share_a_model_and_those_cancelled_do_the_others_no_harm(
        self, reference_url: URLs
    ) -> None:
        async def call() -> None:
            before = asyncio.all_tasks()
            async with await open_async_model(reference_url(self.main.name)) as model:
                calls = [self.inputs(number) for number in range(60)]
                tasks = [asyncio.ensure_future(model.infer(inputs)) for inputs in calls]
                await asyncio.sleep(0)
                # All at once: some servers do not survive it when a call is cancelled just as its
                # answer is sent (Triton 2.51 over gRPC).
                for task in tasks[::3]:
                    task.cancel()
                answers = await asyncio.gather(*tasks, return_exceptions=True)
                for number, (inputs, answer) in enumerate(zip(calls, answers, strict=True)):
                    # One that was answered before it could be cancelled is right, too.
                    if isinstance(answer, asyncio.CancelledError) and number % 3 == 0:
                        continue
                    assert not isinstance(answer, BaseException), answer
                    self.check(answer, inputs)
                assert asyncio.all_tasks() == before

        run_in_loop(call())

    @keeps("loops-several")
    def test_event_loops_use_a_model_one_after_the_other_and_at_the_same_time(
        self, reference_url: URLs
    ) -> None:
        async def call(model: AsyncModel, number: int) -> None:
            inputs = self.inputs(number)
            for answer in await asyncio.gather(*(model.infer(inputs) for _ in range(5))):
                self.check(answer, inputs)

        model = run_in_loop(_open(reference_url(self.main.name)))
        try:
            for number in range(2):
                run_in_loop(call(model, number))
            with ThreadPoolExecutor(4) as pool:
                for loop in [pool.submit(lambda: run_in_loop(call(model, 3))) for _ in range(4)]:
                    loop.result()
        finally:
            run_in_loop(model.close())
        # What ended with its loop complains of nothing when it is collected.
        gc.collect()

    @keeps("loops-free")
    def test_an_event_loop_goes_on_while_it_waits(self, reference_url: URLs) -> None:
        if not self.offers("slow"):
            return
        url = reference_url("slow")
        with open_model(url) as model:
            rounds = rounds_of(model, 0.5)

        async def call() -> float:
            async with await open_async_model(url) as model:
                answer = asyncio.ensure_future(model.infer({"rounds": [rounds]}))
                times = [time.monotonic()]
                while not answer.done():
                    await asyncio.sleep(0.01)
                    times.append(time.monotonic())
                await answer
            longest: float = max(map(sub, times[1:], times))
            return longest / (times[-1] - times[0])

        assert run_in_loop(call()) < _MOST, "the loop stood still for the most of a long call"

    @keeps("loops-closed")
    def test_a_closed_model_stays_closed_in_event_loops(self, reference_url: URLs) -> None:
        inputs = self.inputs(1)

        async def call() -> AsyncModel:
            model = await open_async_model(reference_url(self.main.name))
            self.check(await model.infer(inputs), inputs)
            await model.close()
            await model.close()
            with pytest.raises(ModelClosed):
                await model.infer(inputs)
            return model

        model = run_in_loop(call())
        with pytest.raises(ModelClosed):
            run_in_loop(_infer(model, inputs))


async def _open(url: str, **options: Any) -> AsyncModel:
    return await open_async_model(url, **options)


async def _infer(model: AsyncModel, inputs: dict[str, Array]) -> Any:
    return await model.infer(inputs)


def run_in_loop(work: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns, in a loop of its own, and within a time that nobody exceeds."""
    return asyncio.run(asyncio.wait_for(work, PATIENCE))
