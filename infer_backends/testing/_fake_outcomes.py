"""What a call of a fake may come to, other than an answer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infer_backends.plugin import (
    Array,
    DataType,
    InferError,
    InvalidInput,
    ModelMetadata,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The call is answered as ever: for a place in a script where nothing happens."""


@dataclass(frozen=True, slots=True)
class Down:
    """The call finds nobody there, and so do those after it for a while.

    Attributes:
        seconds: How long the fake is down from then on, by its clock; 0 for this call alone, None
            until ``up()``.
    """

    seconds: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Slow:
    """The answer takes so long, by the fake's clock; the call's deadline ends it before.

    Attributes:
        seconds: How long.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    """There is no answer before the call's deadline, ``up()`` or the end of the fake."""


@dataclass(frozen=True, slots=True)
class WrongShape:
    """An output has another shape than the metadata says.

    Attributes:
        shape: The shape, filled with zeros; None for one dimension more than it has.
        output: The output's name; None for the first.
    """

    shape: tuple[int, ...] | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class WrongDtype:
    """An output has another datatype than the metadata says.

    Attributes:
        dtype: The datatype; None for INT64, or FP32 where that is the right one.
        output: The output's name; None for the first.
    """

    dtype: DataType | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class MissingOutput:
    """An output is not in the answer.

    Attributes:
        output: The output's name; None for the first.
    """

    output: str | None = None


@dataclass(frozen=True, slots=True)
class ExtraOutput:
    """The answer has an output that nobody asked for, and the metadata does not know.

    Attributes:
        output: Its name.
    """

    output: str = "extra"


#: What an answer is changed into.
Spoiling = WrongShape | WrongDtype | MissingOutput | ExtraOutput
#: What may stand in a script: one of the above, an error to raise, or the outputs themselves.
Outcome = (
    Answer
    | Down
    | Slow
    | Hang
    | Spoiling
    | InferError
    | type[InferError]
    | Mapping[str, Any]
    | Callable[..., Any]
)

_SPOILING = (WrongShape, WrongDtype, MissingOutput, ExtraOutput)


def check_outcome(outcome: object, metadata: ModelMetadata) -> None:
    """Refuse what is no outcome, where the script is written.

    Raises:
        InvalidInput: It is none, or names an output that the model does not have.
    """
    if isinstance(outcome, type) and not issubclass(outcome, InferError):
        raise InvalidInput(
            f"a script has outcomes, not the class {outcome.__name__}: write {outcome.__name__}()"
        )
    known = (Answer, Down, Slow, Hang, *_SPOILING, InferError, Mapping)
    if not isinstance(outcome, known) and not callable(outcome):
        raise InvalidInput(
            f"{type(outcome).__name__} is no outcome of a call: expected Answer(), Down(), Slow(), "
            "Hang(), WrongShape(), WrongDtype(), MissingOutput(), ExtraOutput(), an error of "
            "infer_backends, a mapping of outputs, or a function"
        )
    if isinstance(outcome, (Down, Slow)) and outcome.seconds is not None:
        check_seconds(outcome.seconds)
    if isinstance(outcome, (WrongShape, WrongDtype, MissingOutput)):
        names = [spec.name for spec in metadata.outputs]
        if outcome.output is not None and outcome.output not in names:
            raise InvalidInput(
                f"the fake model {metadata.name!r} has no output {outcome.output!r}; it has {names}"
            )


def check_seconds(seconds: object) -> None:
    """Refuse what is no time.

    Raises:
        InvalidInput: It is none.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise InvalidInput(f"expected a number of seconds, 0 or more; got {seconds!r}")


def error_of(outcome: InferError | type[InferError], who: str) -> InferError:
    """An error to raise: a copy, since several calls may raise it, each with its own attempts."""
    if isinstance(outcome, InferError):
        return copy.copy(outcome)
    return outcome(f"{who} was told to raise {outcome.__name__}")


def spoil(outputs: dict[str, Array], outcome: object, metadata: ModelMetadata) -> dict[str, Array]:
    """The outputs as a spoilt answer has them; as they are for any other outcome."""
    if isinstance(outcome, ExtraOutput):
        return {**outputs, outcome.output: np.zeros(1, np.float32)}
    if not isinstance(outcome, (WrongShape, WrongDtype, MissingOutput)):
        return outputs
    name = metadata.outputs[0].name if outcome.output is None else outcome.output
    if name not in outputs:
        # It was not asked for.
        return outputs
    if isinstance(outcome, MissingOutput):
        return {key: array for key, array in outputs.items() if key != name}
    array = outputs[name]
    if isinstance(outcome, WrongShape):
        shape = (*array.shape, 1) if outcome.shape is None else outcome.shape
        return {**outputs, name: np.zeros(shape, array.dtype)}
    usual = DataType.FP32 if array.dtype == np.int64 else DataType.INT64
    dtype = (outcome.dtype or usual).numpy_dtype
    return {**outputs, name: np.zeros(array.shape, dtype)}
