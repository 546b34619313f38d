"""What goes into a call, and what comes out of it: a part of the suite."""

from __future__ import annotations

import gc
import itertools
import weakref

import numpy as np
import pytest

from infer_backends._errors import InvalidInput
from infer_backends._model import Model
from infer_backends._open import open_model
from infer_backends._tensors import DataType
from infer_backends._url import ModelURL
from infer_backends.testing._rules import keeps
from infer_backends.testing._subject import Subject, URLs
from infer_backends.testing._values import assert_same
from infer_backends.testing._waist import opened, request_of
from infer_backends.testing._wrong_inputs import wrong_inputs


class InputContract(Subject):
    """What goes into a call."""

    @keeps("answers")
    def test_the_answer_is_what_the_model_computes(self, main_model: Model) -> None:
        for number in range(3):
            inputs = self.inputs(number)
            self.check(main_model.infer(inputs), inputs)

    @keeps("binding")
    def test_inputs_come_by_position_by_name_in_a_mapping_or_as_lists(
        self, main_model: Model
    ) -> None:
        inputs = self.inputs(1)
        in_order = [inputs[spec.name] for spec in self.main.inputs]
        backwards = dict(reversed(inputs.items()))
        for outputs in (
            main_model(*in_order),
            main_model(**backwards),
            main_model(backwards),
            main_model(*(array.tolist() for array in in_order)),
        ):
            self.check_call(outputs, inputs)

    @keeps("wrong-inputs")
    def test_wrong_inputs_are_refused_and_do_no_harm(self, main_model: Model, wrong: str) -> None:
        args, kwargs = wrong_inputs(self.main.inputs)[wrong]
        with pytest.raises(InvalidInput):
            main_model(*args, **kwargs)
        self.still_answers(main_model)

    @keeps("inputs-untouched")
    def test_inputs_are_not_written_to_and_not_kept(self, main_model: Model) -> None:
        inputs, same = self.inputs(2), self.inputs(2)
        main_model.infer(inputs)
        for name, array in inputs.items():
            assert_same(array, same[name])
        kept = [weakref.ref(array) for array in inputs.values()]
        del array
        inputs.clear()
        gc.collect()
        assert [name for name, ref in zip(same, kept, strict=True) if ref() is not None] == []


class OutputContract(Subject):
    """What comes out of a call."""

    @keeps("outputs-own")
    def test_outputs_share_no_memory_with_inputs(self, reference_url: URLs, copying: str) -> None:
        with open_model(reference_url(copying)) as model:
            inputs = self.arrays(copying)
            for output, array in itertools.product(model.infer(inputs).values(), inputs.values()):
                assert not np.shares_memory(output, array)

    @keeps("outputs-fresh")
    def test_outputs_are_not_changed_by_the_next_call(self, main_model: Model) -> None:
        inputs, others = self.inputs(1), self.inputs(3)
        first = main_model.infer(inputs)
        second = main_model.infer(others)
        for one, other in itertools.product(first.values(), second.values()):
            assert not np.shares_memory(one, other)
        self.check(first, inputs)
        self.check(second, others)

    @keeps("outputs-apart")
    def test_outputs_of_one_call_share_no_memory(self, main_model: Model) -> None:
        result = main_model.infer(self.inputs())
        for one, other in itertools.combinations(result.values(), 2):
            assert not np.shares_memory(one, other)

    @keeps("outputs-writable")
    def test_outputs_can_be_written_to(self, reference_url: URLs, copying: str) -> None:
        with open_model(reference_url(copying)) as model:
            for output in model.infer(self.arrays(copying)).values():
                assert output.flags.writeable
                output[...] = output.copy()

    @keeps("outputs-plain")
    def test_outputs_are_plain_contiguous_arrays(self, reference_url: URLs, copying: str) -> None:
        with open_model(reference_url(copying)) as model:
            for output in model.infer(self.arrays(copying)).values():
                assert type(output) is np.ndarray
                assert output.flags.c_contiguous
                assert output.dtype.isnative

    @keeps("outputs-declared")
    def test_outputs_are_what_the_metadata_says(self, reference_url: URLs, copying: str) -> None:
        with opened(reference_url(copying)) as backend:
            outputs = backend.infer(request_of(self.arrays(copying))).outputs
            for spec in backend.metadata.outputs:
                output = outputs[spec.name]
                assert output.dtype == spec.dtype.numpy_dtype
                assert output.ndim == len(spec.shape)
                assert all(
                    want in {-1, got} for want, got in zip(spec.shape, output.shape, strict=True)
                )
                if spec.dtype is DataType.BYTES:
                    assert {type(element) for element in output.ravel()} <= {bytes}

    @keeps("outputs-requested")
    def test_outputs_are_those_that_were_asked_for(self, reference_url: URLs) -> None:
        names = [spec.name for spec in self.main.outputs]
        inputs = self.inputs()
        with opened(reference_url(self.main.name)) as backend:
            everything = backend.infer(request_of(inputs)).outputs
            assert set(everything) == set(names)
            for wanted in (names[-1:], names[::-1], names[:1]):
                answered = backend.infer(request_of(inputs, outputs=wanted)).outputs
                assert set(answered) == set(wanted)
        with open_model(reference_url(self.main.name)) as model:
            assert list(model.infer(inputs, outputs=names[::-1])) == names[::-1]

    @keeps("who-answered")
    def test_a_result_says_who_answered(self, main_model: Model, reference_url: URLs) -> None:
        result = main_model.infer(self.inputs(), request_id="r1")
        assert result.backend_url == str(ModelURL.parse(reference_url(self.main.name)))
        assert result.attempts == ()
        assert result.request_id == "r1"
