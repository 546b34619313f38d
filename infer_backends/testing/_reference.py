"""The models that the contract is tested on: what each takes, gives and computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infer_backends._backend import Array
from infer_backends._tensors import DataType, TensorSpec

_FOLDER = Path(__file__).with_name("models")
#: The rows and columns of the matrix that the model ``slow`` multiplies.
_SLOW_SIZE = 128


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A model that a backend under test has to serve: as a function, and as an ONNX file.

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

    @property
    def onnx_file(self) -> Path:
        """The same model as an ONNX file, which comes with this package: not to be changed."""
        return _FOLDER / f"{self.name}.onnx"


def _model(
    name: str,
    inputs: Mapping[str, tuple[DataType, tuple[int, ...]]],
    outputs: Mapping[str, tuple[DataType, tuple[int, ...]]],
    compute: Callable[[Mapping[str, Array]], dict[str, Array]],
) -> ReferenceModel:
    return ReferenceModel(
        name,
        tuple(TensorSpec(tensor, *form) for tensor, form in inputs.items()),
        tuple(TensorSpec(tensor, *form) for tensor, form in outputs.items()),
        compute,
    )


def _identity(name: str, dtype: DataType, shape: tuple[int, ...] = (-1, -1)) -> ReferenceModel:
    form = (dtype, shape)
    return _model(name, {"x": form}, {"y": form}, lambda arrays: {"y": arrays["x"]})


def _mixed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {
        "scaled": np.asarray(arrays["image"]) * np.float32(2),
        "copied": arrays["codes"],
        "again": np.asarray(arrays["image"]) * np.float32(2),
    }


def _odd_names(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {"call:0": arrays["default_x:0"], "out-1": arrays["model/ids.1"]}


def _slow(arrays: Mapping[str, Array]) -> dict[str, Array]:
    rounds = np.asarray(arrays["rounds"])
    weights = np.full((_SLOW_SIZE, _SLOW_SIZE), 1 / _SLOW_SIZE, np.float32)
    matrix = weights
    for _ in range(int(rounds[0])):
        matrix = matrix @ weights
    return {"total": matrix.sum(axis=0)[:1]}


_ROWS = (DataType.FP32, (-1, 3))
_CODES = (DataType.INT64, (2,))
_FLOATS, _INTEGERS = (DataType.FP32, (-1,)), (DataType.INT64, (-1,))

#: The reference models by name. None of them does batching. ``scripts/reference_models.py`` makes
#: their ONNX files.
#:
#: ``identity_DTYPE`` for every datatype: ``x`` [-1, -1] -> ``y``, the same.
#: ``scalar``: ``x`` FP32 [] -> ``y``, the same.
#: ``deep``: ``x`` INT32 [-1, 1, 2, -1, 3] -> ``y``, the same.
#: ``mixed``: ``image`` FP32 [-1, 3], ``codes`` INT64 [2] -> ``scaled`` (twice the image),
#: ``copied`` (the codes), ``again`` (the same as ``scaled``).
#: ``odd_names``: ``default_x:0`` FP32 [-1], ``model/ids.1`` INT64 [-1] -> ``call:0``, ``out-1``,
#: the same.
#: ``reshaped``: ``x`` FP32 [-1] -> ``y`` FP32 [2, 3], the same elements; the model fails when they
#: are not six.
#: ``slow``: ``rounds`` INT64 [1] -> ``total`` FP32 [1], which is 1: it multiplies matrices of 128 x
#: 128 so many times.
REFERENCE_MODELS = {
    model.name: model
    for model in (
        *(_identity(f"identity_{dtype.value.lower()}", dtype) for dtype in DataType),
        _identity("scalar", DataType.FP32, ()),
        _identity("deep", DataType.INT32, (-1, 1, 2, -1, 3)),
        _model(
            "mixed",
            {"image": _ROWS, "codes": _CODES},
            {"scaled": _ROWS, "copied": _CODES, "again": _ROWS},
            _mixed,
        ),
        _model(
            "odd_names",
            {"default_x:0": _FLOATS, "model/ids.1": _INTEGERS},
            {"call:0": _FLOATS, "out-1": _INTEGERS},
            _odd_names,
        ),
        _model(
            "reshaped",
            {"x": _FLOATS},
            {"y": (DataType.FP32, (2, 3))},
            lambda arrays: {"y": arrays["x"].reshape(2, 3)},
        ),
        _model(
            "slow",
            {"rounds": (DataType.INT64, (1,))},
            {"total": (DataType.FP32, (1,))},
            _slow,
        ),
    )
}


def counting(arrays: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The model ``counting`` of :class:`StreamingContract`, which is decoupled.

    ``number`` INT32 [1] -> so many times ``count`` INT32 [1], from 0 on.
    """
    for count in range(int(np.asarray(arrays["number"])[0])):
        yield {"count": np.array([count], np.int32)}


def adding(arrays: Mapping[str, Array], state: MutableMapping[str, int]) -> dict[str, Array]:
    """The model ``adding`` of :class:`SequenceContract`, which is stateful.

    ``term`` INT32 [1] -> ``total`` INT32 [1], the sum of all in the same sequence.

    Args:
        arrays: The inputs by name.
        state: What is kept of one sequence from its first step to its last; empty at the first.
    """
    state["total"] = state.get("total", 0) + int(np.asarray(arrays["term"])[0])
    return {"total": np.array([state["total"]], np.int32)}
