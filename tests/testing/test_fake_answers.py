"""What the function of a fake may return, and what it may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.plugin import Deadline
from infer_backends.testing import FakeModel
from tests.testing.conftest import ONES, X, Y

TEXT = ib.TensorSpec("t", ib.DataType.BYTES, (-1,))


def answer_of(outputs: list[ib.TensorSpec], compute: Any) -> Any:
    with FakeModel("m", [X], outputs, compute=compute) as fake, ib.open_model(fake.url) as model:
        return model(ONES)


@pytest.mark.parametrize(
    "answer",
    [
        {"y": ONES},
        ONES,
        ONES.tolist(),
        ONES.astype(np.float64),
        ONES.astype(np.int64),
        np.asfortranarray(ONES),
        ONES.astype(">f4"),
    ],
)
def test_one_output_may_be_a_mapping_an_array_or_a_list(answer: Any) -> None:
    array = answer_of([Y], lambda _: answer)
    assert (array.dtype, array.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(array, ONES)


@pytest.mark.parametrize("answer", [(ONES, ["a", b"b"]), {"t": np.array(["a", "b"]), "y": ONES}])
def test_several_outputs_may_be_a_mapping_or_a_tuple(answer: Any) -> None:
    y, texts = answer_of([Y, TEXT], lambda _: answer)
    np.testing.assert_array_equal(y, ONES)
    assert texts.tolist() == [b"a", b"b"]


def test_outputs_belong_to_the_caller_and_inputs_to_the_function() -> None:
    kept = ONES.copy()

    def keep(arrays: dict[str, Any]) -> Any:
        arrays["x"][...] = 5
        return kept

    with FakeModel("m", [X], [Y], compute=keep) as fake, ib.open_model(fake.url) as model:
        image = ONES.copy()
        model(image)[...] = 9
        np.testing.assert_array_equal(image, ONES)
        np.testing.assert_array_equal(kept, ONES)
        np.testing.assert_array_equal(fake.calls[0].inputs["x"], ONES)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ({"z": ONES}, r"returned \['z'\]; expected a mapping of arrays by the names \['y'\]"),
        ({"y": ONES, "z": ONES}, r"returned \['y', 'z'\]"),
        (None, "no array of FP32: NoneType"),
        (["a"], "no array of FP32: list"),
        (np.ones((2, 3), bool), "no array of FP32"),
        ([[1], [1, 2]], "no array of FP32"),
        (np.ones((2, 4)), r"the shape \[2, 4\]; its metadata says \[-1, 3\]"),
        (np.ones(3), r"the shape \[3\]"),
    ],
)
def test_what_does_not_fit_the_metadata_is_the_functions_fault(answer: Any, match: str) -> None:
    with pytest.raises(ib.InferenceFailed, match=match):
        answer_of([Y], lambda _: answer)


@pytest.mark.parametrize("answer", [(ONES,), ONES, {"y": ONES}])
def test_several_outputs_are_all_there(answer: Any) -> None:
    with pytest.raises(ib.InferenceFailed, match="or a tuple of so many arrays"):
        answer_of([Y, TEXT], lambda _: answer)


def test_a_number_is_no_text() -> None:
    with pytest.raises(ib.InferenceFailed, match="no array of BYTES"):
        answer_of([TEXT], lambda _: [1])


def test_an_error_of_the_function_is_the_models_failure_unless_it_is_the_librarys() -> None:
    def divide(arrays: Any) -> Any:
        raise ZeroDivisionError("secret 7")

    def refuse(arrays: Any) -> Any:
        raise ib.PermissionDenied("not you")

    with pytest.raises(ib.InferenceFailed, match="raised ZeroDivisionError") as found:
        answer_of([Y], divide)
    assert isinstance(found.value.__cause__, ZeroDivisionError)
    assert "secret" not in str(found.value)
    with pytest.raises(ib.PermissionDenied, match="not you"):
        answer_of([Y], refuse)


def test_an_answer_that_comes_after_the_deadline_is_none() -> None:
    def take_long(arrays: Any) -> Any:
        deadline = Deadline.after(0.02)
        while not deadline.expired:
            pass
        return ONES

    with FakeModel("m", [X], [Y], compute=take_long) as fake, ib.open_model(fake.url) as model:
        with pytest.raises(ib.DeadlineExceeded):
            model.infer({"x": ONES}, timeout=0.01)
