"""What the author of a plugin says of the backend under test, and what all of its tests use."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest

from infer_backends._backend import Array
from infer_backends._model import Model
from infer_backends._open import open_model
from infer_backends._result import InferResult
from infer_backends._tensors import DataType
from infer_backends.testing._reference import REFERENCE_MODELS, ReferenceModel
from infer_backends.testing._report import show_rules
from infer_backends.testing._values import assert_all_close, assert_close, example, filled, values
from infer_backends.testing._wrong_inputs import wrong_inputs

#: The models that give back what they get.
COPYING = tuple(name for name in REFERENCE_MODELS if name not in {"mixed", "reshaped", "slow"})
#: No model has this name.
NO_SUCH_MODEL = "no_such_model"

Outage = Callable[[], AbstractContextManager[None]]
URLs = Callable[[str], str]


class Subject:
    """The backend under test, as its author describes it; see :class:`BackendContract`."""

    main: ClassVar[ReferenceModel] = REFERENCE_MODELS["mixed"]
    tolerance: ClassVar[float] = 0.0
    unsupported: ClassVar[Collection[str]] = frozenset()
    absent: ClassVar[Collection[str]] = frozenset()
    refused: ClassVar[Mapping[DataType, Collection[object]]] = {}
    interrupts: ClassVar[bool] = True
    survives_fork: ClassVar[bool] = True
    option_values: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def reference_url(self) -> URLs:
        """A function from a reference model's name to the URL that opens it."""
        pytest.fail("override the fixture reference_url: a function from model name to URL")

    @pytest.fixture
    def outage(self) -> Outage | None:
        """Takes the server away for the time of a ``with`` statement; None where there is none."""
        return None

    def inputs(self, number: int = 0) -> dict[str, Array]:
        """Inputs that the main model takes; others for each ``number``, from 0 to 99."""
        return {spec.name: example(spec, number) for spec in self.main.inputs}

    def values(self, dtype: DataType) -> Array:
        """A 2 x 3 array with the extremes of a datatype, the last accepted one for a refused."""
        array = values(dtype)
        refused = self.refused.get(dtype, ())
        accepted = [element for element in array.ravel().tolist() if not is_among(element, refused)]
        for index, element in enumerate(array.ravel().tolist()):
            if is_among(element, refused):
                array.flat[index] = accepted[-1]
        return array

    # --- what is made of that ---------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Called by pytest: what is tested depends on what is declared."""
        cases: dict[str, Collection[str]] = {
            "wrong": wrong_inputs(self.main.inputs),
            "name": self.all_models(),
            "copying": self.copying_models() or [self.main.name],
        }
        for argument, found in cases.items():
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, list(found))

    @pytest.fixture(autouse=True)
    def _rules_are_shown(self, request: pytest.FixtureRequest) -> None:
        show_rules(request.config)

    @pytest.fixture
    def main_model(self, reference_url: URLs) -> Iterator[Model]:
        """The main model, open."""
        with open_model(reference_url(self.main.name)) as model:
            yield model

    def all_models(self) -> list[str]:
        """The names of the main model, and of the reference models."""
        return list(dict.fromkeys([self.main.name, *REFERENCE_MODELS]))

    def offers(self, name: str) -> bool:
        """Whether there should be such a model to open."""
        return name not in {*self.unsupported, *self.absent}

    def copying_models(self) -> list[str]:
        """Those of the models that give back what they get which there should be."""
        return [name for name in COPYING if self.offers(name)]

    def reference(self, name: str) -> ReferenceModel:
        """The model of a name."""
        return self.main if name == self.main.name else REFERENCE_MODELS[name]

    def arrays(self, name: str) -> dict[str, Array]:
        """Inputs for a model: the extremes of each datatype, where it gives back what it gets."""
        if name == self.main.name:
            return self.inputs()
        return {
            spec.name: filled(self.values(spec.dtype), example(spec).shape)
            for spec in self.reference(name).inputs
        }

    def check(self, got: Mapping[str, Array], inputs: Mapping[str, Array], name: str = "") -> None:
        """Assert that outputs are what a model, or the main one, computes."""
        __tracebackhide__ = True
        reference = self.reference(name or self.main.name)
        tolerance = self.tolerance if reference is self.main else 0.0
        assert_all_close(got, reference.compute(inputs), tolerance)

    def check_call(self, got: Any, inputs: Mapping[str, Array]) -> None:
        """Assert that what a call of the main model returned is what it computes."""
        __tracebackhide__ = True
        expected = list(self.main.compute(inputs).values())
        arrays = [got] if len(expected) == 1 else got
        assert isinstance(arrays, (list, tuple))
        assert len(arrays) == len(expected)
        for array, wanted in zip(arrays, expected, strict=True):
            assert_close(array, wanted, self.tolerance)

    def still_answers(self, model: Model, number: int = 1) -> InferResult:
        """Assert that the main model answers as it should."""
        __tracebackhide__ = True
        inputs = self.inputs(number)
        result = model.infer(inputs)
        self.check(result, inputs)
        return result


def is_among(element: object, elements: Collection[object]) -> bool:
    """Whether an element is one of several, NaN among them."""
    if isinstance(element, float) and math.isnan(element):
        return any(isinstance(other, float) and math.isnan(other) for other in elements)
    return element in elements
