"""Small answers that are like the one before them, but for the elements of their tensors. Pure.

A model answers requests of one shape in the same words, again and again. Words that were read once
need not be read again: what comes between them is the tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from infer_backends.plugin import Array

#: The most bytes of an answer that is worth remembering: others come in several pieces, and where
#: elements are many, words are few.
LONGEST = 16 * 1024


class Tensor(NamedTuple):
    """One output of an answer that was read.

    Attributes:
        before: What stands between the tensor before it, or the beginning, and its bytes.
        name: Its name.
        shape: Its shape.
        dtype: Its dtype, of which the bytes are the memory; see ``_codec.is_plain``.
        size: How many bytes it has; not 0.
    """

    before: bytes
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    size: int


class Alike:
    """Reads answers that are like one before.

    Args:
        tensors: The outputs of that one, in the order of their bytes, after which it ended.
    """

    __slots__ = ("_length", "_tensors", "names")

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = tuple(tensors)
        self._length = sum(len(tensor.before) + tensor.size for tensor in self._tensors)
        #: The names of the outputs, in this order.
        self.names = tuple(tensor.name for tensor in self._tensors)

    def read(self, answer: bytes) -> dict[str, Array] | None:
        """The outputs of a whole answer, each in memory of its own; None if it is another one."""
        if len(answer) != self._length:
            return None
        outputs = {}
        end = 0
        for before, name, shape, dtype, size in self._tensors:
            if not answer.startswith(before, end):
                return None
            start = end + len(before)
            end = start + size
            outputs[name] = np.ndarray(shape, dtype, bytearray(answer[start:end]))
        return outputs
