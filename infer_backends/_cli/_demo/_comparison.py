"""The first half of the demo: the same call over HTTP, over gRPC and in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from infer_backends._cli._console import plain, table
from infer_backends._cli._demo._digits import Digits
from infer_backends._open import URL, open_model

#: How far the answers of two backends may be apart. They run the same operators, though perhaps
#: not the same build of them.
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Answer:
    """What one backend said of all digits.

    Attributes:
        label: The backend, for people.
        url: Who answered.
        probabilities: Of shape (n, 10).
    """

    label: str
    url: str
    probabilities: NDArray[np.float32]


def ask(label: str, url: URL, digits: Digits) -> Answer:
    """All digits in one call."""
    with open_model(url) as model:
        result = model.infer({"image": digits.images})
    return Answer(label, result.backend_url, result["probabilities"].astype(np.float32))


def difference(answer: Answer, reference: Answer) -> float:
    """The largest difference between two answers; infinite if they do not fit together."""
    if answer.probabilities.shape != reference.probabilities.shape:
        return float("inf")
    return float(np.max(np.abs(answer.probabilities - reference.probabilities)))


def comparison_table(answers: Sequence[Answer], digits: Digits, shown: NDArray[np.intp]) -> Table:
    """One line for each backend; the last one is what the others are compared with."""
    listing = table("who answered", "sees", "right", "largest difference")
    for answer in answers:
        sees = np.argmax(answer.probabilities[shown], axis=1)
        right = round(digits.accuracy(answer.probabilities) * len(digits.labels))
        apart = "-" if answer is answers[-1] else f"{difference(answer, answers[-1]):.2g}"
        listing.add_row(
            plain(answer.label, "bold"),
            " ".join(map(str, sees)),
            f"{right} of {len(digits.labels)} ({right / len(digits.labels):.1%})",
            apart,
        )
    return listing
