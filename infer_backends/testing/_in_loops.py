"""The part of the suite that calls models in event loops."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any, ClassVar

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
    UnsupportedOperation,
)
from infer_backends._open import open_async_model
from infer_backends._tensors import DataType
from infer_backends.testing._reference import REFERENCE_MODELS
from infer_backends.testing._values import CODES, IMAGE, WRONG_INPUTS, assert_same, values


class LoopContract:
    """What a backend has to keep in event loops, whether it is made for them or not.

    ``BackendContract`` is one, and says what it asks of a backend's tests.
    """

    unsupported: ClassVar[frozenset[str]] = frozenset()
    absent: ClassVar[frozenset[str]] = frozenset()

    def values(self, dtype: DataType) -> Array:
        """A 2 x 3 array with the extremes of a datatype."""
        return values(dtype)

    def test_an_event_loop_gets_what_a_thread_gets(
        self, reference_url: Callable[[str], str]
    ) -> None:
        async def call() -> None:
            for dtype in DataType:
                name = f"identity_{dtype.value.lower()}"
                if name in self.unsupported | self.absent:
                    refusal = ModelNotFound if name in self.absent else UnsupportedOperation
                    with pytest.raises(refusal):
                        await open_async_model(reference_url(name))
                    continue
                array = self.values(dtype)
                async with await open_async_model(reference_url(name)) as model:
                    for part in (array, array[:0], array[:1], array.T):
                        output = await model(part)
                        assert_same(output, part)
                        assert output.flags.writeable
                        assert output.flags.c_contiguous
                        assert not np.shares_memory(output, array)

        asyncio.run(call())

    def test_awaited_calls_mean_what_others_do(self, reference_url: Callable[[str], str]) -> None:
        url = reference_url("mixed")
        inputs = {"image": IMAGE, "codes": CODES}

        async def call() -> None:
            async with await open_async_model(url) as model:
                assert model.metadata.inputs == REFERENCE_MODELS["mixed"].inputs
                for outputs in (
                    await model(IMAGE, CODES),
                    await model(codes=CODES, image=IMAGE),
                    await model(inputs),
                ):
                    np.testing.assert_array_equal(outputs[0], IMAGE * 2)
                    np.testing.assert_array_equal(outputs[1], CODES)
                wanted = ["again", "copied"]
                result = await model.infer(inputs, outputs=wanted, request_id="r1")
                assert list(result) == wanted
                assert (result.backend_url, result.attempts, result.request_id) == (url, (), "r1")

        asyncio.run(call())

    @pytest.mark.parametrize("wrong", WRONG_INPUTS)
    def test_wrong_inputs_are_refused_in_an_event_loop(
        self, reference_url: Callable[[str], str], wrong: str
    ) -> None:
        args, kwargs = WRONG_INPUTS[wrong]

        async def call() -> None:
            async with await open_async_model(reference_url("mixed")) as model:
                with pytest.raises(InvalidInput):
                    await model(*args, **kwargs)
                np.testing.assert_array_equal((await model(IMAGE, CODES))[1], CODES)

        asyncio.run(call())

    def test_what_is_not_opened_says_why_in_an_event_loop(
        self, reference_url: Callable[[str], str]
    ) -> None:
        url = reference_url("mixed")
        with pytest.raises(InvalidURL, match="the options known here are .*timeout"):
            asyncio.run(_open(url, no_such_option=1))
        with pytest.raises(ModelNotFound):
            asyncio.run(_open(url.replace("mixed", "no_such_model")))

    def test_a_deadline_that_has_passed_ends_an_awaited_call(
        self, reference_url: Callable[[str], str]
    ) -> None:
        async def call() -> None:
            async with await open_async_model(reference_url("mixed")) as model:
                with pytest.raises(DeadlineExceeded):
                    await model.infer({"image": IMAGE, "codes": CODES}, timeout=1e-9)
                assert len(await model(IMAGE, CODES)) == 3

        asyncio.run(call())

    def test_tasks_share_a_model_and_those_cancelled_do_the_others_no_harm(
        self, reference_url: Callable[[str], str]
    ) -> None:
        async def call() -> None:
            async with await open_async_model(reference_url("mixed")) as model:
                images = [np.full((4, 3), value, np.float32) for value in range(60)]
                tasks = [asyncio.ensure_future(_call(model, image)) for image in images]
                await asyncio.sleep(0)
                # All at once: some servers do not survive it when a call is cancelled just as its
                # answer is sent (Triton 2.51 over gRPC).
                for task in tasks[::3]:
                    task.cancel()
                answers = await asyncio.gather(*tasks, return_exceptions=True)
                for number, (image, answer) in enumerate(zip(images, answers, strict=True)):
                    # One that was answered before it could be cancelled is right, too.
                    if isinstance(answer, asyncio.CancelledError) and number % 3 == 0:
                        continue
                    assert not isinstance(answer, BaseException), answer
                    np.testing.assert_array_equal(answer[0], image * 2)
                assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(call())

    def test_event_loops_use_a_model_one_after_the_other_and_at_the_same_time(
        self, reference_url: Callable[[str], str]
    ) -> None:
        async def call(model: AsyncModel, value: int) -> bool:
            image = np.full((4, 3), value, np.float32)
            answers = await asyncio.gather(*(model(image, CODES) for _ in range(5)))
            return all(np.array_equal(answer[0], image * 2) for answer in answers)

        model = asyncio.run(_open(reference_url("mixed")))
        right: list[bool] = []
        try:
            for value in range(2):
                right.append(asyncio.run(call(model, value)))  # noqa: PERF401 - one by one
            threads = [
                threading.Thread(target=lambda: right.append(asyncio.run(call(model, 3))))
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            asyncio.run(model.close())
        assert right == [True] * 6
        # What ended with its loop complains of nothing when it is collected.
        gc.collect()

    def test_a_closed_model_stays_closed_in_event_loops(
        self, reference_url: Callable[[str], str]
    ) -> None:
        async def call() -> AsyncModel:
            model = await open_async_model(reference_url("mixed"))
            await model(IMAGE, CODES)
            await model.close()
            await model.close()
            with pytest.raises(ModelClosed):
                await model(IMAGE, CODES)
            return model

        model = asyncio.run(call())
        with pytest.raises(ModelClosed):
            asyncio.run(_call(model, IMAGE))


async def _open(url: str, **options: Any) -> AsyncModel:
    return await open_async_model(url, **options)


async def _call(model: AsyncModel, image: Array) -> Any:
    return await model(image, CODES)
