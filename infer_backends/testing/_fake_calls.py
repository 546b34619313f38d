"""What a fake remembers of the calls that reach it."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass

from infer_backends.plugin import (
    Array,
    InferError,
    InferRequest,
    ParameterValue,
    RequestOptions,
)

_SECRET = re.compile(
    r"auth|cookie|credential|key|password|secret|session|signature|token", re.IGNORECASE
)


@dataclass(slots=True)
class FakeCall:
    """One call that reached a fake, answered or not.

    Attributes:
        url: The URL by which it came, secrets masked.
        inputs: Copies of the inputs, by name, as the core made them fit the model.
        outputs: The outputs asked for, in the order asked for; None for all.
        request_id: The caller's name for it; empty for none.
        parameters: Request parameters.
        headers: The headers given at open and with the call, names in lower case. The values of
            those whose names speak of secrets, ``authorization`` or ``x-api-key``, are ``***``.
        options: What else was asked for: priority, the place in a sequence; None for nothing.
        timeout: The seconds that it had when it came.
        answered: Whether it was: for a stream, whether the last response was sent.
        error: Why not; None while it is on its way, and when it was.
    """

    url: str
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...] | None
    request_id: str
    parameters: Mapping[str, ParameterValue]
    headers: Mapping[str, str]
    options: RequestOptions | None
    timeout: float
    answered: bool = False
    error: InferError | None = None

    def failed(self, error: InferError) -> None:
        """Remember why it was not answered: a copy, which holds no frames and no arrays."""
        self.error = copy.copy(error)


def remember(request: InferRequest, url: str, headers: Mapping[str, str]) -> FakeCall:
    """What a fake remembers of a request that comes now.

    Args:
        request: The request.
        url: By which URL it came, secrets masked.
        headers: The headers given at open.
    """
    return FakeCall(
        url=url,
        inputs={name: array.copy() for name, array in request.inputs.items()},
        outputs=request.outputs,
        request_id=request.request_id,
        parameters=dict(request.parameters),
        headers={
            name: "***" if _SECRET.search(name) else value
            for name, value in {**headers, **request.headers}.items()
        },
        options=request.options,
        timeout=request.deadline.remaining(),
    )
