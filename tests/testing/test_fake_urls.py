"""Fakes that are described by their URLs, with faults of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.testing import FakeModel
from infer_backends.testing._fake_urls import read_tensors
from tests.testing.conftest import ONES

DIGITS = "fake:digits?inputs=x:FP32[-1,3]&outputs=y:FP32[-1,2];label:INT64[-1]"


def test_a_url_says_what_the_model_is() -> None:
    with ib.open_model(DIGITS) as model:
        assert model.metadata.name == "digits"
        assert model.metadata.platform == "fake"
        assert [str(spec) for spec in model.metadata.outputs] == [
            "y: FP32[-1, 2]",
            "label: INT64[-1]",
        ]
        y, label = model(ONES)
    assert (y.shape, label.shape) == ((2, 2), (2,))
    with ib.open_model(f"{DIGITS}&seed=1") as other, ib.open_model(DIGITS) as same:
        assert not np.array_equal(other(ONES)[0], y)
        np.testing.assert_array_equal(same(ONES)[0], y)


def test_the_options_may_be_keywords() -> None:
    with ib.open_model(
        "fake:m", inputs="x: FP32[-1, 3]", outputs="y: BYTES[]", max_batch_size=4, seed=2
    ) as model:
        assert model.metadata.max_batch_size == 4


def test_a_url_is_enough_for_another_process() -> None:
    program = (
        "import os, infer_backends as ib\n"
        "with ib.open_model(os.environ['MODEL_URL']) as model: print(model([[1, 1, 1]])[0].shape)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MODEL_URL": DIGITS},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout.strip() == "(1, 2)"


def test_a_tensors_name_may_hold_a_colon() -> None:
    (spec,) = read_tensors("input:0:fp32[ -1 , 2 ]", "inputs")
    assert spec == ib.TensorSpec("input:0", ib.DataType.FP32, (-1, 2))


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("fake:m?inputs=x:FP32[1]", "without outputs=: write NAME:DATATYPE"),
        ("fake:m?outputs=x:FP32[1]", "without inputs="),
        ("fake:m?max_batch_size=1", "without inputs="),
        ("fake:m?inputs=x&outputs=y:FP32[1]", "'inputs' has a wrong value: expected NAME:DATATYPE"),
        ("fake:m?inputs=x:FP32[-2]&outputs=y:FP32[1]", "'inputs' has a wrong value"),
        ("fake:m?inputs=x:FP32[1,]&outputs=y:FP32[1]", "'inputs' has a wrong value"),
        ("fake:m?inputs=x:FLOAT[1]&outputs=y:FP32[1]", "one of the datatypes BOOL, .*got 'FLOAT'"),
        ("fake:m?inputs=x:FP32[1];x:FP32[1]&outputs=y:FP32[1]", "two tensors of one name"),
        (f"{DIGITS}&faults=2", "expected a share, from 0 to 1"),
        (f"{DIGITS}&delay=-1", "0 or more"),
        (f"{DIGITS}&inputs=z:FP32[1]", "stands twice"),
        (f"{DIGITS}&shape=3", "the options known here are .*delay.*down.*faults.*inputs"),
        ("fake:mixed?inputs=x:FP32[1]&outputs=y:FP32[1]", "described by the suite for plugins"),
        ("fake://host/m", "names a host"),
    ],
)
def test_a_url_that_is_wrong_says_what_to_write(url: str, match: str) -> None:
    with pytest.raises(ib.InvalidURL, match=match):
        ib.open_model(url)


def test_what_a_test_describes_is_not_described_again_by_the_url(fake: FakeModel) -> None:
    with pytest.raises(ib.InvalidURL, match="described by its test: leave inputs="):
        ib.open_model(f"{fake.url}?inputs=x:FP32[1]&outputs=y:FP32[1]")
    with ib.open_model(f"{fake.url}?seed=1") as model:
        model(ONES)
    (call,) = fake.calls
    assert call.url == "fake:double?seed=1"


def test_down_is_nobody_there_from_the_first() -> None:
    with pytest.raises(ib.Unavailable):
        ib.open_model(f"{DIGITS}&down=true")
    with ib.open_model(f"{DIGITS}&down=true {DIGITS}") as model:
        assert model.infer({"x": ONES}).backend_url.endswith("label%3AINT64%5B-1%5D")


def test_a_delay_is_what_each_answer_takes() -> None:
    with ib.open_model(f"{DIGITS}&delay=60") as model:
        with pytest.raises(ib.DeadlineExceeded):
            model.infer({"x": ONES}, timeout=0.05)


def fails(model: ib.Model) -> bool:
    try:
        model(ONES)
    except ib.Unavailable:
        return True
    return False


def test_a_share_of_the_calls_fails_the_same_ones_for_the_same_seed() -> None:
    def failures(seed: int) -> list[int]:
        with ib.open_model(f"{DIGITS}&faults=0.25&seed={seed}") as model:
            return [index for index in range(200) if fails(model)]

    assert failures(1) == failures(1) != failures(2)
    assert 30 < len(failures(1)) < 70
