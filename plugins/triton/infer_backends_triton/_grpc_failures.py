"""What went wrong with a call of gRPC, in the library's own errors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from infer_backends.plugin import (
    DeadlineExceeded,
    InferError,
    ModelClosed,
    ProtocolError,
    Unavailable,
)
from infer_backends_triton._grpc_runtime import grpc
from infer_backends_triton._settings import ConnectionSettings, secret_values
from infer_backends_triton._status import clean, grpc_error, stream_error

#: After one of these a fresh connection may do better.
MENDED_BY_RECONNECTING = (Unavailable, DeadlineExceeded)

_INT32_MAX = 2**31 - 1
_NOT_REACHED = re.compile(r"failed to connect to |errors resolving |DNS resolution failed")
_TOO_LARGE = re.compile(r"message larger than max \(([0-9]+) vs\. ([0-9]+)\)")


class Failures:
    """Reads the failures of calls to one server.

    Args:
        settings: Where it is, and what no error may show.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings

    def of_closing(self) -> ModelClosed:
        """The error of a call that was made, or waited, when the connection was closed."""
        return ModelClosed(f"{self._settings.url} was closed: open it again")

    def read(
        self, exc: grpc.RpcError, headers: Mapping[str, str], *, closed: bool
    ) -> tuple[InferError, BaseException | None]:
        """The error that a failed call stands for, and what to chain to it.

        Args:
            exc: What gRPC raised.
            headers: The headers of this call alone, which no error may show.
            closed: Whether the connection was closed meanwhile.
        """
        code, details = exc.code().name, exc.details() or ""
        if closed and code in {"CANCELLED", "UNAVAILABLE"}:
            return self.of_closing(), exc
        secrets = self._settings.secrets | secret_values(headers)
        error = self._local_error(code, details, secrets)
        if error is None:
            error = grpc_error(code, details, url=self._settings.url, secrets=secrets)
        if any(secret in details for secret in secrets):
            # The foreign exception would show what the server repeated.
            return error, None
        return error, exc

    def of_message(self, message: str, headers: Mapping[str, str]) -> InferError:
        """The error that a message of the server stands for, which comes without a status."""
        secrets = self._settings.secrets | secret_values(headers)
        return stream_error(message, url=self._settings.url, secrets=secrets)

    def _local_error(self, code: str, details: str, secrets: frozenset[str]) -> InferError | None:
        """The error for what this side's gRPC reports, not the server."""
        url = self._settings.url
        if code == "DEADLINE_EXCEEDED":
            return DeadlineExceeded(
                f"{url} gave no answer within the deadline; give a larger timeout"
            )
        if code == "RESOURCE_EXHAUSTED":
            found = _TOO_LARGE.search(details)
            limit = receive_limit(self._settings)
            if found is not None and int(found.group(2)) == limit and "SERVER:" not in details:
                return ProtocolError(
                    f"{url} answered with {found.group(1)} bytes; expected {limit} or fewer: raise "
                    "max_response_bytes, up to 2 GiB, or use http://"
                )
            # No message of ours is larger than what servers take.
            if details == "Decompressed message larger than max":
                return ProtocolError(
                    f"{url} answered with what becomes more than {limit} bytes when it is "
                    "decompressed: raise max_response_bytes, up to 2 GiB, or use http://"
                )
        if code == "UNAVAILABLE" and _NOT_REACHED.match(details):
            error = grpc_error(code, details, url=url, secrets=secrets)
            text = clean(details, secrets)
            address = self._settings.address
            return type(error)(
                f"{url} could not be reached; is a gRPC server running at {address}? gRPC says: "
                f"{text}",
                unprocessed=True,
            )
        if code == "UNAVAILABLE" and details == "Socket closed":
            return Unavailable(
                f"{url} closed the connection without an answer: did the server stop, or is "
                f"{self._settings.address} not its gRPC port?"
            )
        return None


def require_descriptors(settings: ConnectionSettings) -> None:
    """Refuse to make a channel without descriptors: gRPC ends the process when it gets none.

    Raises:
        Unavailable: There are not enough.
    """
    if not descriptors_left():
        raise Unavailable(
            f"there is no file descriptor left for a connection to {settings.url}: close files, or "
            "raise the limit (ulimit -n)",
            unprocessed=True,
        )


def descriptors_left() -> bool:
    """Whether a channel can be made: gRPC ends the process when it gets no descriptor for one."""
    opened: list[int] = []
    try:
        for _ in range(2):
            opened += os.pipe()
    except OSError:
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True


def receive_limit(settings: ConnectionSettings) -> int:
    """The largest message taken, in bytes: gRPC counts them in 32 bits."""
    return min(settings.max_response_bytes, _INT32_MAX)
