"""Datatypes and their NumPy counterparts."""

from __future__ import annotations

import pickle
import sys

import ml_dtypes
import numpy as np
import pytest

from infer_backends import DataType, InvalidInput, MissingDependency, ModelMetadata, TensorSpec
from infer_backends._tensors import _numpy_dtype

NUMBERS = {
    DataType.BOOL: "bool",
    DataType.UINT8: "uint8",
    DataType.UINT16: "uint16",
    DataType.UINT32: "uint32",
    DataType.UINT64: "uint64",
    DataType.INT8: "int8",
    DataType.INT16: "int16",
    DataType.INT32: "int32",
    DataType.INT64: "int64",
    DataType.FP16: "float16",
    DataType.FP32: "float32",
    DataType.FP64: "float64",
}


@pytest.mark.parametrize(("datatype", "name"), NUMBERS.items())
def test_a_number_has_the_numpy_dtype_of_its_name_and_back(datatype: DataType, name: str) -> None:
    dtype = np.dtype(name)
    assert datatype.numpy_dtype == dtype
    assert datatype.itemsize == dtype.itemsize
    assert DataType.from_numpy(dtype) is datatype
    assert DataType.from_numpy(dtype.newbyteorder(">")) is datatype


def test_bf16_is_the_bfloat16_of_ml_dtypes() -> None:
    assert DataType.BF16.numpy_dtype == np.dtype(ml_dtypes.bfloat16)
    assert DataType.BF16.itemsize == 2
    assert DataType.from_numpy(np.dtype(ml_dtypes.bfloat16)) is DataType.BF16


def test_bf16_without_ml_dtypes_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _numpy_dtype.cache_clear()
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingDependency, match="pip install ml_dtypes"):
        DataType.BF16.numpy_dtype  # noqa: B018 - the property raises


def test_bytes_are_objects_whose_size_varies() -> None:
    assert DataType.BYTES.numpy_dtype == np.dtype(object)
    assert DataType.BYTES.itemsize is None
    for dtype in ("O", "S4", "U4"):
        assert DataType.from_numpy(np.dtype(dtype)) is DataType.BYTES


@pytest.mark.parametrize("dtype", ["complex64", "M8[s]", "m8[s]", [("a", "i4")]])
def test_a_dtype_outside_the_protocol_is_named(dtype: object) -> None:
    with pytest.raises(InvalidInput, match="no datatype in the protocol; expected one of bfloat16"):
        DataType.from_numpy(np.dtype(dtype))  # type: ignore[call-overload]


def test_texts_are_the_names_of_the_protocol() -> None:
    assert str(DataType.FP32) == "FP32"
    assert DataType("INT64") is DataType.INT64
    assert str(TensorSpec("image", DataType.FP32, (-1, 64))) == "image: FP32[-1, 64]"


def test_metadata_compares_by_value_and_pickles() -> None:
    spec = TensorSpec("x", DataType.INT8, (2,), optional=True, labels=("a", "b"))
    one = ModelMetadata("m", ("1",), "p", (spec,), (spec,), 8, parameters={"names": "a"})
    assert pickle.loads(pickle.dumps(one)) == one
    assert one == ModelMetadata("m", ("1",), "p", (spec,), (spec,), 8)
