"""The handwritten digits and the model of the demo; see ``_demo_data/README.md``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infer_backends._cli._arrays import read_npz

_FOLDER = Path(__file__).parents[1] / "_demo_data"

MODEL_NAME = "digits"
MODEL_PATH = _FOLDER / "digits.onnx"


@dataclass(frozen=True, slots=True)
class Digits:
    """Digits that the model was not trained on.

    Attributes:
        images: Of shape (n, 64), uint8: 8 x 8 pixels, row by row, from 0 (paper) to 16 (ink).
        labels: Of shape (n,), uint8: what they are.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def accuracy(self, probabilities: NDArray[np.float32]) -> float:
        """The part of all digits that the model's answer, of shape (n, 10), gets right."""
        return float(np.mean(np.argmax(probabilities, axis=1) == self.labels))

    def some(self, count: int) -> NDArray[np.intp]:
        """The positions of ``count`` digits, each another one, in the order of the file."""
        _, first = np.unique(self.labels, return_index=True)
        return np.sort(first)[:count]


def held_out_digits() -> Digits:
    """All of them."""
    arrays = read_npz(_FOLDER / "digits.npz")
    return Digits(arrays["images"].astype(np.uint8), arrays["labels"].astype(np.uint8))
