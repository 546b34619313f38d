"""Where in a region the tensors of a call are, and what a server answers to such a call. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from infer_backends.plugin import ParameterValue

# Elements of any datatype begin where processors like them to.
_ALIGNMENT = 64


class Slot(NamedTuple):
    """A part of a region, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a call's region which tensors are.

    Attributes:
        inputs: The inputs that are in it, by name; the others go inline.
        outputs: The outputs that the server shall put there.
        size: How long the region has to be, in bytes.
    """

    inputs: Mapping[str, Slot]
    outputs: Mapping[str, Slot]
    size: int


class AnsweredTensor(NamedTuple):
    """An output as the server described it; ``raw`` is None if its bytes are in the region."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered to a call that used a region."""

    tensors: Sequence[AnsweredTensor]
    model_version: str
    parameters: Mapping[str, ParameterValue]


def lay_out(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Layout:
    """One after the other, inputs first: where tensors of these sizes go."""
    end = 0
    placed: list[dict[str, Slot]] = []
    for sizes in (inputs, outputs):
        slots = {}
        for name, size in sizes.items():
            slots[name] = Slot(end, size)
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        placed.append(slots)
    return Layout(placed[0], placed[1], end)
