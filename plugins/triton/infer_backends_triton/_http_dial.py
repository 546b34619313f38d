"""Reaching a server: name resolution, TCP, TLS, all within one bound."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import Any

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    InvalidURL,
    TLSError,
    Unavailable,
)
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._waiting import BLOCKING, Waiting

_Address = tuple[Any, ...]
_Candidate = tuple[int, _Address]


def make_tls_context(settings: ConnectionSettings) -> ssl.SSLContext | None:
    """What TLS needs, read from the files of the settings; None for a plain connection.

    Raises:
        InvalidURL: A file is not what its option says.
    """
    if not settings.secure:
        return None
    option = "ca"
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert is not None:
            option = "cert' or 'key"
            # A password, even an empty one, keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(settings.cert, settings.key, password=b"")
    except (OSError, ValueError) as exc:
        raise InvalidURL(
            f"the file of the option '{option}' is not usable: expected PEM, a key without a "
            "password, and a certificate that belongs to it"
        ) from exc
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial(
    settings: ConnectionSettings,
    context: ssl.SSLContext | None,
    deadline: Deadline,
    waiting: Waiting = BLOCKING,
    *,
    known: bool = False,
) -> socket.socket:
    """A connected socket that does not block, after the TLS handshake if there is one.

    Args:
        settings: Whom to connect to.
        context: What TLS needs; None for a plain connection.
        deadline: When the call that needs the connection ends.
        waiting: How to wait.
        known: Whether this server was reached before. If not, one that closes the connection
            during the TLS handshake is taken for one that does not speak TLS.

    Raises:
        Unavailable: The name does not resolve, nobody listens, or connecting took too long.
        DeadlineExceeded: The call's own deadline came first.
        TLSError: The certificate or the host name was not verified, or the other side does not
            speak TLS.
    """
    try:
        return await _reach(settings, context, _Bound(settings, deadline), waiting, known)
    except InferError as error:
        # Of the request that needs the connection, not a byte was sent.
        error.unprocessed = True
        raise


async def _reach(
    settings: ConnectionSettings,
    context: ssl.SSLContext | None,
    bound: _Bound,
    waiting: Waiting,
    known: bool,
) -> socket.socket:
    candidates = await _resolve(settings, bound, waiting)
    failure: InferError | None = None
    for tried, candidate in enumerate(candidates):
        # One address that swallows packets must not take the time of the others.
        share = bound.remaining() / (len(candidates) - tried)
        try:
            sock = await _connect(candidate, share, bound, waiting)
        except OSError as exc:
            failure = _connect_error(settings, exc, bound)
            failure.__cause__ = exc
            if bound.remaining() <= 0:
                break
            continue
        if context is None:
            return sock
        return await _handshake(sock, context, settings, bound, waiting, known=known)
    raise failure or Unavailable(f"{settings.host!r} has no address")


async def resolve(
    settings: ConnectionSettings, deadline: Deadline, waiting: Waiting
) -> list[_Candidate]:
    """The family and the address of each place where the server may be.

    Raises:
        Unavailable: The name does not resolve, or not within the time for connecting.
        DeadlineExceeded: The call's own deadline came first.
    """
    return await _resolve(settings, _Bound(settings, deadline), waiting)


class _Bound:
    """The time for connecting: the connect timeout, or what is left of the call if that is less."""

    __slots__ = ("_deadline", "_ends", "_settings")

    def __init__(self, settings: ConnectionSettings, deadline: Deadline) -> None:
        left = deadline.require(f"connecting to {settings.url}")
        self._deadline = deadline
        self._settings = settings
        self._ends = time.monotonic() + min(left, settings.connect_timeout)

    def remaining(self) -> float:
        return max(0.0, min(self._ends - time.monotonic(), self._deadline.remaining()))

    def require(self, doing: str) -> float:
        """Seconds left, which are more than zero."""
        left = self.remaining()
        if left <= 0:
            raise self.error(doing)
        return left

    def patience(self) -> float:
        """How long to wait now, in seconds: what remains, or less if an alarm is due before.

        Raises:
            TimeoutError: No time is left.
        """
        left = self.remaining()
        if left <= 0:
            raise TimeoutError
        if self._deadline.alarmed:
            left = min(left, self._deadline.patience(f"connecting to {self._settings.url}"))
        return left

    def error(self, doing: str) -> InferError:
        url, timeout = self._settings.url, self._settings.connect_timeout
        if self._deadline.remaining() <= 0:
            return DeadlineExceeded(f"the deadline passed while {doing} {url}")
        return Unavailable(
            f"{doing} {url} took longer than connect_timeout, {timeout:g} s: is the server there?"
        )


_Lookup = Future[list[_Candidate]]

# At most one thread for each name, however many callers wait and give up: ``getaddrinfo`` cannot
# be told to stop. By process, since a child of fork has none of its parent's threads. Operations
# on a dict are atomic.
_lookups: dict[tuple[int, str, int], _Lookup] = {}


async def _resolve(
    settings: ConnectionSettings, bound: _Bound, waiting: Waiting
) -> list[_Candidate]:
    host, port = settings.host, settings.port
    try:
        return _getaddrinfo(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass  # A name, not an address.
    key = (os.getpid(), host, port)
    fresh: _Lookup = Future()
    lookup = _lookups.setdefault(key, fresh)
    if lookup is fresh:
        _start(lookup, key)

    def patience() -> float:
        bound.require("resolving the name of")
        return bound.patience()

    await waiting.settled(lookup, patience)
    failure = lookup.exception()
    if failure is not None:
        raise Unavailable(
            f"the host name {host!r} of {settings.url} does not resolve: check its spelling, and "
            "the network"
        ) from failure
    return lookup.result()


def _start(lookup: _Lookup, key: tuple[int, str, int]) -> None:
    thread = threading.Thread(
        target=_look_up, args=(lookup, key), name=f"resolve {key[1]}", daemon=True
    )
    try:
        thread.start()
    except RuntimeError as exc:
        # The system's limit. Nobody may wait for what was not begun.
        _lookups.pop(key, None)
        lookup.set_exception(OSError(errno.EAGAIN, str(exc)))
        raise Unavailable(f"there is no thread to resolve the host name {key[1]!r}") from exc


def _look_up(lookup: _Lookup, key: tuple[int, str, int]) -> None:
    _, host, port = key
    try:
        candidates = _getaddrinfo(host, port, 0)
    except (OSError, UnicodeError) as exc:
        _lookups.pop(key, None)
        lookup.set_exception(exc)
    else:
        _lookups.pop(key, None)
        lookup.set_result(candidates)


def _getaddrinfo(host: str, port: int, flags: int) -> list[_Candidate]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


async def _connect(
    candidate: _Candidate, timeout: float, bound: _Bound, waiting: Waiting
) -> socket.socket:
    family, address = candidate
    ends = time.monotonic() + timeout

    def patience() -> float:
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, bound.patience())

    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            sock.connect(address)
        except BlockingIOError:
            made = partial(_require_connected, sock)
            await waiting.on(sock).until(made, patience, writing=True, at_once=False)
        # Requests are written in few large pieces; waiting for more only delays the last one.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _require_connected(sock: socket.socket) -> None:
    """Raise what came of connecting; ``BlockingIOError`` if that is not known yet."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    try:
        sock.getpeername()
    except OSError as exc:
        if exc.errno != errno.ENOTCONN:
            raise
        raise BlockingIOError from None


def _connect_error(settings: ConnectionSettings, exc: OSError, bound: _Bound) -> InferError:
    if isinstance(exc, TimeoutError):
        return bound.error("connecting to")
    reason = os.strerror(exc.errno) if exc.errno else type(exc).__name__
    return Unavailable(
        f"cannot connect to {settings.url}: {reason.lower()}; is the server running at "
        f"{settings.address}?"
    )


async def _handshake(
    sock: socket.socket,
    context: ssl.SSLContext,
    settings: ConnectionSettings,
    bound: _Bound,
    waiting: Waiting,
    *,
    known: bool,
) -> ssl.SSLSocket:
    secure: socket.socket = sock
    try:
        # A name's final dot is for resolving it; certificates don't have it.
        wrapped = context.wrap_socket(
            sock, server_hostname=settings.host.rstrip("."), do_handshake_on_connect=False
        )
        secure = wrapped
        bound.patience()
        await waiting.on(wrapped).until(wrapped.do_handshake, bound.patience)
    except OSError as exc:
        secure.close()
        raise _handshake_error(settings, exc, bound, known) from exc
    except BaseException:
        secure.close()
        raise
    return wrapped


def _handshake_error(
    settings: ConnectionSettings, exc: OSError, bound: _Bound, known: bool
) -> InferError:
    if isinstance(exc, TimeoutError):
        return bound.error("shaking hands (TLS) with")
    if isinstance(exc, ssl.SSLCertVerificationError):
        return TLSError(
            f"the certificate of {settings.url} was not verified: {exc.verify_message} (give the "
            "authority that signed it: ca=FILE)"
        )
    if not isinstance(exc, ssl.SSLError):
        return Unavailable(f"the connection to {settings.url} was reset in the TLS handshake")
    if not is_end_of_tls(exc):
        return TLSError(f"the TLS handshake with {settings.url} failed: {tls_reason(exc)}")
    closed = f"{settings.url} closed the connection during the TLS handshake"
    return Unavailable(closed) if known else TLSError(f"{closed}: does this port speak TLS?")


def is_end_of_tls(exc: ssl.SSLError) -> bool:
    """Whether the other side closed the connection, politely or not."""
    return isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def tls_reason(exc: ssl.SSLError) -> str:
    """What OpenSSL says was wrong, in words."""
    reason = exc.reason or "unknown reason"
    hint = " (does this port speak TLS at all?)" if reason == "WRONG_VERSION_NUMBER" else ""
    return reason.lower().replace("_", " ") + hint
