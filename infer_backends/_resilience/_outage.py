"""Pure: whether an error says that a member could not do its work, so that another one may."""

from __future__ import annotations

from infer_backends._errors import (
    DeadlineExceeded,
    ModelNotFound,
    ProtocolError,
    Unavailable,
    UnsupportedOperation,
)

#: ``ModelNotFound`` only of a model that was there: a stopping Triton has "no available versions",
#: and so has one whose model was unloaded. An answer that breaks the protocol is no answer.
_OUTAGES = (Unavailable, DeadlineExceeded, ModelNotFound, ProtocolError)


def is_outage(error: BaseException) -> bool:
    """Whether it is the member that failed, and not the call.

    That something is unsupported is about the call, and another member might only hide it; unless
    nothing was even tried: a fork may leave a process in which a runtime can't be used any more.
    """
    if isinstance(error, UnsupportedOperation):
        return error.unprocessed
    return isinstance(error, _OUTAGES)
