"""Random tensors through the models that give back what they get: a part of the suite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infer_backends._errors import InvalidInput, UnsupportedOperation
from infer_backends._open import open_model
from infer_backends._tensors import DataType, TensorSpec
from infer_backends.testing._rules import keeps
from infer_backends.testing._subject import Subject, URLs

_EXAMPLES = 15
_LONGEST = 5


class RandomContract(Subject):
    """Whatever the shape and the elements are."""

    @keeps("random")
    def test_random_tensors_come_back(self, reference_url: URLs, copying: str) -> None:
        pytest.importorskip("hypothesis", reason="the extra `testing` has hypothesis")
        from hypothesis import given, settings

        if copying not in self.copying_models():
            return
        specs = self.reference(copying).inputs
        may_be_refused = any(spec.dtype in self.refused for spec in specs)
        with open_model(reference_url(copying)) as model:

            @settings(max_examples=_EXAMPLES, deadline=None, derandomize=True, database=None)
            @given(_arrays(specs))
            def check(inputs: dict[str, Any]) -> None:
                try:
                    result = model.infer(inputs)
                except (InvalidInput, UnsupportedOperation):
                    if may_be_refused:
                        return
                    raise
                self.check(result, inputs, copying)

            check()


def _arrays(specs: tuple[TensorSpec, ...]) -> Any:
    """A strategy: arrays that fit, by name."""
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as npst

    def array(spec: TensorSpec) -> Any:
        lengths = [st.integers(0, _LONGEST) if size == -1 else st.just(size) for size in spec.shape]
        kind, elements = _elements(spec.dtype)
        shapes = st.tuples(*lengths)
        drawn = shapes.flatmap(lambda shape: npst.arrays(kind, shape, elements=elements))
        return drawn.map(lambda array: array.astype(spec.dtype.numpy_dtype))

    return st.fixed_dictionaries({spec.name: array(spec) for spec in specs})


def _elements(dtype: DataType) -> tuple[Any, Any]:
    """The dtype of the arrays that are drawn, and a strategy for their elements."""
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as npst

    if dtype is DataType.BYTES:
        # Some runtimes have texts only; other bytes are a matter of the datatype.
        return object, st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(str.encode)
    if dtype is DataType.BF16:
        return np.float32, st.floats(width=16)
    kind = dtype.numpy_dtype
    return kind, npst.from_dtype(kind)
