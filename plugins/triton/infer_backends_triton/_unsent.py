"""What goes wrong before anything of a request is sent, which the server has done no work for."""

from __future__ import annotations

from infer_backends.plugin import InferError, UnsupportedOperation


def mark_unsent(error: InferError) -> None:
    """Mark an error: nothing was sent, so that the same request may be sent again.

    All but ``UnsupportedOperation``: to the core, one that is marked says that this process cannot
    use the runtime at all, so that a member is out of order. Those that say it mark themselves.
    """
    if not isinstance(error, UnsupportedOperation):
        error.unprocessed = True


class _BeforeSending:
    """Marks the errors that leave its block.

    It costs two calls of functions, so that what is on the path of every call does without:
    it catches its errors, and marks them.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, InferError):
            mark_unsent(error)


#: It has no state, so that one is enough: unlike a generator, it costs a call next to nothing.
BEFORE_SENDING = _BeforeSending()
