"""Every error of the library, and nothing else.

::

    InferError
    ├── InvalidURL (ValueError)            the text does not name a model, or an option is wrong
    ├── PluginError                        a plugin is missing, broken, or breaks its contract
    │   ├── UnknownScheme                  no installed plugin serves this scheme
    │   ├── MissingDependency (ImportError)    a plugin needs a package that is not there
    │   └── PluginConflict                 two distributions claim one scheme
    ├── InvalidInput (ValueError)          the arguments of a call do not fit the model
    ├── UnsupportedOperation               this backend, model or runtime cannot do it
    ├── ModelClosed                        the model was closed before, or during, the call
    ├── MetadataMismatch                   the members of a fallback are not the same model
    ├── Unavailable (ConnectionError)      nobody answered; trying elsewhere or later may help
    │   └── AllBackendsFailed              every member of a fallback was unavailable
    ├── DeadlineExceeded (TimeoutError)    the time given for the call is over
    ├── TLSError                           the certificate or the host name was not verified
    ├── PermissionDenied (PermissionError) the credentials were refused
    ├── ModelNotFound (LookupError)        the server answered, and has no such model
    ├── InferenceFailed                    the model itself raised
    └── ProtocolError                      an answer that breaks the protocol

Where a builtin exception says the same, the error derives from it too. All of them take one
message, carry ``attempts`` and ``unprocessed``, and survive pickling. Names, dtypes and shapes may
appear in messages; tensor contents and secrets never do.
"""

from __future__ import annotations

from dataclasses import dataclass


class InferError(Exception):
    """Base of every error that this library raises on purpose.

    Args:
        message: What was wrong, what was expected, what was got, and what to do next.
        attempts: What was tried before the error was raised, oldest first.
        unprocessed: The server certainly did no work for this request, so that the same one may
            be sent again, here or elsewhere: nobody was reached, or the server said that it was
            too busy to begin. Not for a connection that broke once bytes of the request were sent.

    Attributes:
        queued_here: The time was spent behind other calls of this process: that says nothing of
            who would have answered. Whoever raises the error sets it.
    """

    #: Of the class, for a class of its own whose ``__init__`` forgets this one's.
    attempts: tuple[Attempt, ...] = ()
    unprocessed: bool = False
    queued_here: bool = False
    #: Which of the samples of :meth:`Model.map` has this error; None for a single call.
    sample_index: int | None = None

    def __init__(
        self,
        message: str = "",
        *,
        attempts: tuple[Attempt, ...] = (),
        unprocessed: bool = False,
    ) -> None:
        # One positional argument only: an OSError with two prints "[Errno x]".
        super().__init__(message)
        self.attempts = attempts
        self.unprocessed = unprocessed


@dataclass(slots=True)
class Attempt:
    """One failed attempt to answer a call.

    Attributes:
        url: Who was asked, secrets masked.
        error: Why it did not answer.
        started: When the attempt began, in seconds on the monotonic clock.
        duration: How long it took, in seconds.
    """

    url: str
    error: InferError
    started: float
    duration: float


class InvalidURL(InferError, ValueError):
    """The text does not name a model, or one of its options is unknown or wrong."""


class PluginError(InferError):
    """A plugin is broken, or does not keep its contract. The message names its distribution."""


class UnknownScheme(PluginError):
    """No installed plugin serves this URL scheme."""


class MissingDependency(PluginError, ImportError):
    """A package is not installed. The message has the line that installs it."""


class PluginConflict(PluginError):
    """Two installed distributions claim the same URL scheme."""


class InvalidInput(InferError, ValueError):
    """The arguments of a call do not fit the model; nothing was sent."""


class UnsupportedOperation(InferError):
    """This backend, model or runtime cannot do what was asked."""


class ModelClosed(InferError):
    """The model was closed before the call, or while it was in flight."""


class MetadataMismatch(InferError):
    """The members of a fallback do not have the same inputs and outputs."""


class Unavailable(InferError, ConnectionError):
    """Nobody answered: refused, reset, overloaded or unresolvable. Later or elsewhere may help."""


class AllBackendsFailed(Unavailable):
    """Every member of a fallback was unavailable; ``attempts`` has each one's reason."""


class DeadlineExceeded(InferError, TimeoutError):
    """The time given for the call is over."""


class TLSError(InferError):
    """The server's certificate or host name was not verified, or the TLS handshake failed."""


class PermissionDenied(InferError, PermissionError):
    """The server refused the credentials, or wants some."""


class ModelNotFound(InferError, LookupError):
    """The server answered, and has no such model or version."""


class InferenceFailed(InferError):
    """The model itself, or the server around it, failed on this request."""


class ProtocolError(InferError):
    """An answer that breaks the protocol: lengths, shapes or syntax that do not hold together."""
