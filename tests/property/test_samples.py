"""Whatever a model says of its inputs: a made-up sample passes the checks of a call of it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from infer_backends import DataType, ModelMetadata, TensorSpec
from infer_backends._binding import Binder
from infer_backends._samples import sample

sizes = st.sampled_from([-1, 0, 1, 2, 3, 5])
specs = st.builds(
    TensorSpec,
    st.text(min_size=1, max_size=4),
    st.sampled_from(DataType),
    st.lists(sizes, max_size=5).map(tuple),
    st.booleans(),
)


@st.composite
def models(draw: st.DrawFn) -> ModelMetadata:
    inputs = draw(st.lists(specs, max_size=4, unique_by=lambda spec: spec.name))
    batch = draw(st.sampled_from([0, 1, 8]))
    if batch:
        # A model whose inputs never have the same number of rows could not be called at all.
        rows = draw(st.sampled_from([1, 4]))
        first = st.sampled_from([-1, rows])
        inputs = [
            TensorSpec(s.name, s.dtype, (draw(first), *s.shape[1:]) if s.shape else (), s.optional)
            for s in inputs
        ]
    return ModelMetadata("m", (), "memory", tuple(inputs), (), batch)


@given(models(), st.integers(0, 2**32), st.integers(1, 3))
@settings(deadline=None)
def test_a_sample_passes_the_checks_of_a_call(model: ModelMetadata, seed: int, rows: int) -> None:
    drawn = sample(model, seed=seed, rows=rows)
    bound = Binder(model, "never").bind_mapping(drawn)
    assert list(bound) == [spec.name for spec in model.inputs if not spec.optional]
    assert all(
        bound[name] is array for name, array in drawn.items() if array.dtype != np.dtype(object)
    )
