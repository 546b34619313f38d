"""Pure: the options of a call, checked before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from infer_backends._backend import ParameterValue
from infer_backends._deadline import LONGEST_TIMEOUT
from infer_backends._errors import InvalidInput
from infer_backends._request_options import RequestOptions


def positive_seconds(timeout: object, what: str = "timeout=") -> float:
    """A ``timeout=`` that leaves some time.

    Raises:
        InvalidInput: It is no positive number.
    """
    seconds = number_of_seconds(timeout, what)
    if seconds <= 0:
        raise InvalidInput(f"{what} is a positive number of seconds; this one is not")
    return seconds


def number_of_seconds(timeout: object, what: str = "timeout=") -> float:
    """A ``timeout=``, a year at most.

    Raises:
        InvalidInput: It is no number.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, Real):
        raise InvalidInput(f"{what} is a number of seconds, not {type(timeout).__name__}")
    if timeout != timeout:  # noqa: PLR0124 - NaN; an int may be too large for isnan
        raise InvalidInput(f"{what} is a positive number of seconds; this one is not a number")
    seconds: Any = timeout
    return float(max(-LONGEST_TIMEOUT, min(seconds, LONGEST_TIMEOUT)))


def check_request_id(request_id: object) -> str:
    """A ``request_id=`` that every protocol can carry.

    Raises:
        InvalidInput: It is no text.
    """
    if not isinstance(request_id, str):
        raise InvalidInput(f"request_id= is a str, not {type(request_id).__name__}")
    _require_text(request_id, "request_id=")
    return request_id


def check_parameters(
    parameters: Mapping[str, ParameterValue] | None,
) -> Mapping[str, ParameterValue]:
    """A copy of ``parameters=`` that every protocol can carry.

    Raises:
        InvalidInput: A name or a value could not be carried.
    """
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise InvalidInput("parameters= is a mapping from names to values")
    given: Iterable[tuple[object, object]] = parameters.items()
    for name, value in given:
        if not isinstance(name, str):
            raise InvalidInput(f"parameter names are str, not {type(name).__name__}")
        _require_text(name, "a parameter's name")
        _check_parameter(name, value)
    return dict(parameters)


def _check_parameter(name: str, value: object) -> None:
    """Refuse, on every backend, a value that one of the protocols could not carry."""
    if not isinstance(value, (bool, int, float, str)):
        raise InvalidInput(f"parameter {name!r}: expected a bool, int, float or str")
    if isinstance(value, str):
        _require_text(value, f"parameter {name!r}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"parameter {name!r} is no finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidInput(f"parameter {name!r} does not fit into 64 bits with a sign")


def read_options(given: Mapping[str, Any]) -> RequestOptions | None:
    """The options of a call that only some backends can do; None if there are none.

    Args:
        given: Those of :class:`RequestOptions` by name; None for what is not asked for.

    Raises:
        InvalidInput: One of them is wrong.
    """
    if all(value is None for value in given.values()):
        return None
    _check_integer("top_k", given.get("top_k"), 1, "of how many elements, 1 or more")
    _check_integer(
        "priority", given.get("priority"), 0, "1 for the first, or 0 for the model's own"
    )
    compression = given.get("compression")
    if compression is not None and compression not in ("gzip", "deflate"):
        raise InvalidInput("compression= is 'gzip' or 'deflate'")
    queue_timeout = given.get("queue_timeout")
    if queue_timeout is not None:
        given = {**given, "queue_timeout": positive_seconds(queue_timeout, "queue_timeout=")}
    return RequestOptions(**given)


def _check_integer(name: str, value: object, least: int, meaning: str) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        raise InvalidInput(f"{name}= is a whole number below 2**31: {meaning}")


def _require_text(text: str, what: str) -> None:
    """Refuse lone surrogates, which UTF-8 cannot hold."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # Not chained: the exception holds the text.
            raise InvalidInput(f"{what} is no Unicode text: it holds a lone surrogate") from None
