"""What ``linear:`` does that other backends do not."""

from pathlib import Path

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.plugin import Array, Deadline, InferRequest, ModelURL
from infer_backends_linear import BLOCK, LinearBackend


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a model."""
    np.savez(tmp_path / "steps.npz", weights=[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    return f"linear:{tmp_path / 'steps.npz'}"


def test_the_bias_is_added_to_every_output(url: str) -> None:
    with ib.open_model(url, bias=0.5) as model:
        assert model([[1, 1, 1]]).tolist() == [[6.5, 60.5]]


def test_a_file_of_something_else_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no arrays at all")
    np.savez(tmp_path / "other.npz", other=[1.0])
    np.savez(tmp_path / "words.npz", weights=[["a", "b"]])
    np.savez(tmp_path / "flat.npz", weights=[1.0, 2.0])
    for name in ("text", "other", "words", "flat"):
        with pytest.raises(ib.ProtocolError, match=f"{name}.npz' is no model: expected"):
            ib.open_model(f"linear:{tmp_path / name}.npz")


def test_a_call_ends_at_its_deadline_between_two_blocks(url: str) -> None:
    looks = iter([0.0, 0.5, 0.5, 1.5])  # what the clock says, each time that it is read
    deadline = Deadline.after(1.0, clock=lambda: next(looks))
    inputs: dict[str, Array] = {"x": np.ones((3 * BLOCK, 3), np.float32)}
    with pytest.raises(ib.DeadlineExceeded, match="before the last rows were multiplied"):
        LinearBackend(ModelURL.parse(url), bias=0.0).infer(InferRequest(inputs, None, deadline))
    assert list(looks) == []
