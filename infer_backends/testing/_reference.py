"""The models that the contract is tested on: what each takes, gives and computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from infer_backends._backend import Array
from infer_backends._tensors import DataType, TensorSpec


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A model that a backend under test has to serve.

    Attributes:
        name: Its name.
        inputs: Its inputs, in order.
        outputs: Its outputs, in order.
        compute: What it computes, from arrays by input name to arrays by output name.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    compute: Callable[[Mapping[str, Array]], dict[str, Array]]


def _identity(dtype: DataType) -> ReferenceModel:
    return ReferenceModel(
        f"identity_{dtype.value.lower()}",
        (TensorSpec("x", dtype, (-1, -1)),),
        (TensorSpec("y", dtype, (-1, -1)),),
        lambda arrays: {"y": arrays["x"]},
    )


def _mixed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {
        "scaled": np.asarray(arrays["image"]) * np.float32(2),
        "copied": arrays["codes"],
        "again": np.asarray(arrays["image"]) * np.float32(2),
    }


#: The reference models by name: ``identity_DTYPE`` for every datatype, ``x`` [-1, -1] -> ``y``; and
#: ``mixed``: ``image`` FP32 [-1, 3], ``codes`` INT64 [2] -> ``scaled`` (twice the image),
#: ``copied`` (the codes), ``again`` (the same as ``scaled``). None of them does batching.
REFERENCE_MODELS = {
    model.name: model
    for model in (
        *map(_identity, DataType),
        ReferenceModel(
            "mixed",
            (
                TensorSpec("image", DataType.FP32, (-1, 3)),
                TensorSpec("codes", DataType.INT64, (2,)),
            ),
            (
                TensorSpec("scaled", DataType.FP32, (-1, 3)),
                TensorSpec("copied", DataType.INT64, (2,)),
                TensorSpec("again", DataType.FP32, (-1, 3)),
            ),
            _mixed,
        ),
    )
}
