"""The suite that every backend passes."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import ClassVar

import numpy as np
import pytest

from infer_backends._backend import Array
from infer_backends._errors import (
    DeadlineExceeded,
    InvalidInput,
    InvalidURL,
    ModelClosed,
    ModelNotFound,
    UnsupportedOperation,
)
from infer_backends._model import Model
from infer_backends._open import open_model
from infer_backends._tensors import DataType
from infer_backends.testing._in_loops import LoopContract
from infer_backends.testing._reference import REFERENCE_MODELS
from infer_backends.testing._values import CODES, IMAGE, WRONG_INPUTS, assert_same, values


class BackendContract(LoopContract):
    """What a backend has to keep, as tests. Subclass it, and provide :meth:`reference_url`.

    Attributes:
        unsupported: The names of the reference models that this backend cannot serve; opening
            one has to raise ``UnsupportedOperation``.
        absent: The names of the reference models that cannot even be given to the server, whose
            own limit it is; opening one has to raise ``ModelNotFound``.
        refused: Elements that the runtime could not keep as they are, by datatype: those of
            the method ``values`` that a call has to refuse with ``InvalidInput``, or with
            ``UnsupportedOperation``. A runtime that computes in 32 bits names the extremes of
            INT64, for example; what speaks JSON alone, NaN and the infinities.
        survives_fork: Whether an open model can be called in a forked child. If not, such a call
            has to raise ``UnsupportedOperation``, at once.
    """

    unsupported: ClassVar[frozenset[str]] = frozenset()
    absent: ClassVar[frozenset[str]] = frozenset()
    refused: ClassVar[Mapping[DataType, Collection[object]]] = {}
    survives_fork: ClassVar[bool] = True

    def values(self, dtype: DataType) -> Array:
        """A 2 x 3 array with the extremes of a datatype, the last accepted one for a refused."""
        array = values(dtype)
        refused = self.refused.get(dtype, ())
        accepted = [
            element for element in array.ravel().tolist() if not _is_among(element, refused)
        ]
        for index, element in enumerate(array.ravel().tolist()):
            if _is_among(element, refused):
                array.flat[index] = accepted[-1]
        return array

    @pytest.fixture
    def reference_url(self) -> Callable[[str], str]:
        """A function from a reference model's name to the URL that opens it."""
        pytest.fail("override the fixture reference_url: a function from model name to URL")

    @pytest.fixture
    def mixed(self, reference_url: Callable[[str], str]) -> Iterator[Model]:
        """The reference model ``mixed``, open."""
        with open_model(reference_url("mixed")) as model:
            yield model

    @pytest.fixture(params=list(DataType), ids=str)
    def identity(
        self, request: pytest.FixtureRequest, reference_url: Callable[[str], str]
    ) -> Iterator[tuple[Model | None, DataType]]:
        """Each identity model, open; None for one that has to refuse to open."""
        dtype: DataType = request.param
        name = f"identity_{dtype.value.lower()}"
        if name in self.unsupported | self.absent:
            with pytest.raises(ModelNotFound if name in self.absent else UnsupportedOperation):
                open_model(reference_url(name))
            yield None, dtype
        else:
            with open_model(reference_url(name)) as model:
                yield model, dtype

    def test_metadata_is_that_of_the_model(self, mixed: Model) -> None:
        expected = REFERENCE_MODELS["mixed"]
        assert mixed.metadata.inputs == expected.inputs
        assert mixed.metadata.outputs == expected.outputs
        assert mixed.metadata.max_batch_size == 0

    def test_every_datatype_comes_back_as_it_went(
        self, identity: tuple[Model | None, DataType]
    ) -> None:
        model, dtype = identity
        if model is None:
            return
        assert [spec.dtype for spec in model.metadata.inputs] == [dtype]
        array = self.values(dtype)
        for part in (array, array[:0], array[:, :0], array[:1]):
            assert_same(model(part), part)

    def test_values_that_the_runtime_cannot_keep_are_refused(
        self, identity: tuple[Model | None, DataType]
    ) -> None:
        model, dtype = identity
        if model is None:
            return
        kept = self.values(dtype)
        for element in self.refused.get(dtype, ()):
            array = kept.copy()
            array[1, 1] = element
            with pytest.raises((InvalidInput, UnsupportedOperation)):
                model(array)
        assert_same(model(kept), kept)

    def test_layout_and_byte_order_do_not_matter(
        self, identity: tuple[Model | None, DataType]
    ) -> None:
        model, dtype = identity
        if model is None:
            return
        array = self.values(dtype)
        variants = [array.T, array[:, ::-1], np.asfortranarray(array), array.copy()]
        variants[-1].flags.writeable = False
        if dtype not in {DataType.BYTES, DataType.BF16}:
            variants.append(array.astype(array.dtype.newbyteorder(">")))
        for variant in variants:
            assert_same(model(variant), variant.astype(dtype.numpy_dtype))

    def test_outputs_belong_to_the_caller(self, identity: tuple[Model | None, DataType]) -> None:
        model, dtype = identity
        if model is None:
            return
        array = self.values(dtype)
        before = array.copy()
        first, second = model(array), model(array)
        for output in (first, second):
            assert output.flags.writeable
            assert output.flags.c_contiguous
            assert output.dtype.isnative
            assert not np.shares_memory(output, array)
        assert not np.shares_memory(first, second)
        first[...] = first[0, 0]
        assert_same(array, before)
        assert_same(second, before)

    def test_outputs_of_one_call_do_not_share_memory(self, mixed: Model) -> None:
        scaled, copied, again = mixed(IMAGE, CODES)
        assert not np.shares_memory(scaled, again)
        scaled[...] = -1
        np.testing.assert_array_equal(again, IMAGE * 2)
        np.testing.assert_array_equal(copied, CODES)

    def test_inputs_come_by_position_by_name_or_in_a_mapping(self, mixed: Model) -> None:
        for outputs in (
            mixed(IMAGE, CODES),
            mixed(codes=CODES, image=IMAGE),
            mixed({"codes": CODES, "image": IMAGE}),
            mixed(IMAGE.tolist(), CODES.tolist()),
        ):
            assert isinstance(outputs, tuple)
            np.testing.assert_array_equal(outputs[0], IMAGE * 2)
            np.testing.assert_array_equal(outputs[1], CODES)

    def test_outputs_come_in_metadata_order_or_as_asked_for(self, mixed: Model) -> None:
        inputs = {"image": IMAGE, "codes": CODES}
        assert list(mixed.infer(inputs)) == ["scaled", "copied", "again"]
        assert list(mixed.infer(inputs, outputs=["again", "copied"])) == ["again", "copied"]
        assert list(mixed.infer(inputs, outputs=["copied"])) == ["copied"]

    def test_a_result_says_who_answered(
        self, mixed: Model, reference_url: Callable[[str], str]
    ) -> None:
        result = mixed.infer({"image": IMAGE, "codes": CODES}, request_id="r1")
        assert result.backend_url == reference_url("mixed")
        assert result.attempts == ()
        assert result.request_id == "r1"

    @pytest.mark.parametrize("wrong", WRONG_INPUTS)
    def test_wrong_inputs_are_refused_and_do_no_harm(self, mixed: Model, wrong: str) -> None:
        args, kwargs = WRONG_INPUTS[wrong]
        with pytest.raises(InvalidInput):
            mixed(*args, **kwargs)
        np.testing.assert_array_equal(mixed(IMAGE, CODES)[1], CODES)

    def test_an_unknown_option_lists_the_known_ones(
        self, reference_url: Callable[[str], str]
    ) -> None:
        with pytest.raises(InvalidURL, match="the options known here are .*timeout"):
            open_model(reference_url("mixed"), no_such_option=1)

    def test_a_model_that_is_not_there_is_not_found(
        self, reference_url: Callable[[str], str]
    ) -> None:
        url = reference_url("mixed").replace("mixed", "no_such_model")
        with pytest.raises(ModelNotFound):
            open_model(url)

    def test_a_deadline_that_has_passed_ends_the_call(self, mixed: Model) -> None:
        with pytest.raises(DeadlineExceeded):
            mixed.infer({"image": IMAGE, "codes": CODES}, timeout=1e-9)
        assert len(mixed(IMAGE, CODES)) == 3

    def test_threads_share_a_model(self, mixed: Model) -> None:
        wrong: list[object] = []

        def call(value: int) -> None:
            image = np.full((4, 3), value, np.float32)
            try:
                wrong.extend(
                    "another thread's answer"
                    for _ in range(20)
                    if not (mixed(image, CODES)[0] == image * 2).all()
                )
            except Exception as exc:  # noqa: BLE001 - shown by the assert
                wrong.append(exc)

        threads = [threading.Thread(target=call, args=(value,)) for value in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_a_model_pickles_by_its_url(self, mixed: Model) -> None:
        with pickle.loads(pickle.dumps(mixed)) as again:
            assert again.metadata == mixed.metadata
            np.testing.assert_array_equal(again(IMAGE, CODES)[0], IMAGE * 2)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_model_works_in_a_forked_child(self, mixed: Model) -> None:
        mixed(IMAGE, CODES)
        child = multiprocessing.get_context("fork").Process(
            target=_call_in_child, args=(mixed, self.survives_fork)
        )
        child.start()
        child.join(30)
        alive = child.is_alive()
        child.kill()
        assert not alive, "a call in a forked child hangs: reconnect or reload there, or refuse"
        assert child.exitcode == 0
        np.testing.assert_array_equal(mixed(IMAGE, CODES)[1], CODES)

    def test_a_closed_model_stays_closed(self, reference_url: Callable[[str], str]) -> None:
        model = open_model(reference_url("mixed"))
        model(IMAGE, CODES)
        model.close()
        model.close()
        with pytest.raises(ModelClosed):
            model(IMAGE, CODES)


def _is_among(element: object, elements: Collection[object]) -> bool:
    if isinstance(element, float) and math.isnan(element):
        return any(isinstance(other, float) and math.isnan(other) for other in elements)
    return element in elements


def _call_in_child(model: Model, survives: bool) -> None:
    if not survives:
        with pytest.raises(UnsupportedOperation):
            model(IMAGE, CODES)
        return
    np.testing.assert_array_equal(model(IMAGE, CODES)[0], IMAGE * 2)
