"""What a model says of itself, and how tensors come back: a part of the suite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infer_backends._backend import Array, SupportsDescription, SupportsReadiness
from infer_backends._deadline import Deadline
from infer_backends._errors import (
    InferError,
    InvalidInput,
    ModelNotFound,
    UnsupportedOperation,
)
from infer_backends._open import open_model
from infer_backends._tensors import DataType, ModelMetadata
from infer_backends.testing._reference import REFERENCE_MODELS
from infer_backends.testing._rules import keeps
from infer_backends.testing._subject import Subject, URLs
from infer_backends.testing._values import assert_same
from infer_backends.testing._waist import PATIENCE, opened


class MetadataContract(Subject):
    """What a model says of itself."""

    @keeps("declared")
    def test_a_model_opens_or_is_refused_as_declared(self, reference_url: URLs, name: str) -> None:
        url = reference_url(name)
        if self.offers(name):
            open_model(url).close()
            return
        what, error = (
            ("absent", ModelNotFound)
            if name in self.absent
            else ("unsupported", UnsupportedOperation)
        )
        try:
            open_model(url).close()
        except InferError as exc:
            assert type(exc) is error  # noqa: PT017 - that it opens is another failure
        else:
            pytest.fail(f"it opens: take {name!r} out of `{what}`")

    @keeps("metadata")
    def test_metadata_is_that_of_the_model(self, reference_url: URLs, name: str) -> None:
        if not self.offers(name):
            return
        expected = self.reference(name)
        with open_model(reference_url(name)) as model:
            metadata = model.metadata
        assert metadata.inputs == expected.inputs
        assert metadata.outputs == expected.outputs
        assert not metadata.decoupled
        if REFERENCE_MODELS.get(name) is expected:
            assert metadata.max_batch_size == 0

    @keeps("metadata-stays")
    def test_metadata_does_not_change(self, reference_url: URLs) -> None:
        with opened(reference_url(self.main.name)) as backend:
            before = backend.metadata
            with open_model(reference_url(self.main.name)) as model:
                self.still_answers(model)
            assert isinstance(before, ModelMetadata)
            assert backend.metadata is before

    @keeps("names")
    def test_names_of_tensors_are_not_changed(self, reference_url: URLs) -> None:
        if not self.offers("odd_names"):
            return
        with open_model(reference_url("odd_names")) as model:
            inputs = self.arrays("odd_names")
            self.check(model.infer(inputs), inputs, "odd_names")

    @keeps("readiness")
    def test_a_model_that_answers_is_ready(self, reference_url: URLs) -> None:
        with opened(reference_url(self.main.name)) as backend:
            if isinstance(backend, SupportsReadiness):
                assert backend.ready(Deadline.after(PATIENCE)) is True

    @keeps("description")
    def test_a_description_is_what_was_said_at_open(self, reference_url: URLs) -> None:
        with opened(reference_url(self.main.name)) as backend:
            if isinstance(backend, SupportsDescription):
                assert backend.describe(Deadline.after(PATIENCE)) == backend.metadata


class TensorContract(Subject):
    """How tensors come back from models that do not change them."""

    @keeps("datatypes")
    def test_every_element_comes_back_as_it_went(self, reference_url: URLs, copying: str) -> None:
        with open_model(reference_url(copying)) as model:
            inputs = self.arrays(copying)
            self.check(model.infer(inputs), inputs, copying)

    @keeps("refused")
    def test_elements_that_cannot_be_kept_are_refused(self, reference_url: URLs) -> None:
        for dtype, elements in self.refused.items():
            with open_model(reference_url(f"identity_{dtype.value.lower()}")) as model:
                kept = self.values(dtype)
                for element in elements:
                    array = kept.copy()
                    array[1, 1] = element
                    try:
                        model(array)
                    except (InvalidInput, UnsupportedOperation):
                        continue
                    pytest.fail(f"it is answered: take {element!r} out of `refused`")
                assert_same(model(kept), kept)

    @keeps("empty")
    def test_tensors_without_elements_keep_their_shape(
        self, reference_url: URLs, copying: str
    ) -> None:
        if copying not in self.copying_models():
            return
        with open_model(reference_url(copying)) as model:
            arrays = self.arrays(copying)
            for axis in range(max(array.ndim for array in arrays.values())):
                inputs = {
                    spec.name: arrays[spec.name].take([], axis)
                    for spec in model.metadata.inputs
                    if spec.shape[axis : axis + 1] == (-1,)
                }
                if len(inputs) == len(arrays):
                    self.check(model.infer(inputs), inputs, copying)

    @keeps("ranks")
    def test_scalars_and_high_ranks_keep_their_rank(self, reference_url: URLs) -> None:
        for name in filter(self.offers, ("scalar", "deep")):
            with open_model(reference_url(name)) as model:
                (spec,) = model.metadata.inputs
                array = np.zeros([1] * len(spec.shape), spec.dtype.numpy_dtype)
                if name == "deep":
                    array = np.arange(12, dtype=np.int32).reshape(1, 1, 2, 2, 3)
                got = model(array)
                assert got.shape == array.shape
                assert_same(got, array)

    @keeps("memory")
    def test_how_an_input_lies_in_memory_makes_no_difference(
        self, reference_url: URLs, copying: str
    ) -> None:
        with open_model(reference_url(copying)) as model:
            arrays = self.arrays(copying)
            for arrange in (_reversed, _fortran, _part, _read_only, _swapped):
                inputs = {name: arrange(array) for name, array in arrays.items()}
                native: dict[str, Any] = {
                    spec.name: np.array(inputs[spec.name].tolist(), object).reshape(
                        inputs[spec.name].shape
                    )
                    if spec.dtype is DataType.BYTES
                    else inputs[spec.name].astype(spec.dtype.numpy_dtype, order="C")
                    for spec in model.metadata.inputs
                }
                self.check(model.infer(inputs), native, copying)


def _reversed(array: Array) -> Array:
    """With negative strides."""
    return array[::-1] if array.ndim else array


def _fortran(array: Array) -> Array:
    """The first axis in the place of the last."""
    return np.asfortranarray(array) if array.ndim else array


def _part(array: Array) -> Array:
    """A contiguous part of a larger array, whose first elements are others."""
    larger = np.stack([np.zeros_like(array), array])
    return np.asarray(larger[1])


def _read_only(array: Array) -> Array:
    copied: Array = array.copy()
    copied.flags.writeable = False
    return copied


def _swapped(array: Array) -> Array:
    """In the byte order of other machines."""
    if array.dtype == object or array.dtype.name == "bfloat16":
        return array
    swapped: np.dtype[np.generic] = array.dtype.newbyteorder(">")
    return array.astype(swapped)
