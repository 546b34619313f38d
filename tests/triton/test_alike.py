"""Small answers that are like the one before them, but for the elements of their tensors."""

from __future__ import annotations

import numpy as np

from infer_backends_triton._alike import Alike, Tensor

ALIKE = Alike(
    [
        Tensor(b"x:", "x", (2,), np.dtype(np.uint8), 2),
        Tensor(b", y:", "y", (1, 1), np.dtype(np.uint16), 2),
    ]
)


def test_what_comes_between_the_same_words_is_the_tensors() -> None:
    outputs = ALIKE.read(b"x:\1\2, y:\3\0")
    assert outputs is not None
    assert {name: array.tolist() for name, array in outputs.items()} == {"x": [1, 2], "y": [[3]]}
    assert tuple(outputs) == ALIKE.names == ("x", "y")


def test_the_arrays_are_their_callers_own() -> None:
    answer = b"x:\1\2, y:\3\0"
    first, second = ALIKE.read(answer), ALIKE.read(answer)
    assert first is not None
    assert second is not None
    for name, array in first.items():
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert not np.shares_memory(array, second[name])
        array[:] = 9
    assert answer == b"x:\1\2, y:\3\0"


def test_other_words_and_other_lengths_are_another_answer() -> None:
    for other in (b"", b"x:\1\2, y:\3", b"x:\1\2, y:\3\0.", b"z:\1\2, y:\3\0", b"x:\1\2. y:\3\0"):
        assert ALIKE.read(other) is None
