"""How code that is written once waits in an event loop; see ``_waiting.py``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from infer_backends.plugin import Unavailable
from infer_backends_triton._waiting import LONGEST_WAIT, Patience, Readiness, Waiting

Result = TypeVar("Result")


def can_watch_sockets() -> bool:
    """Whether the running loop can wait for a socket; the usual one of Windows cannot."""
    loop = type(asyncio.get_running_loop())
    return loop.add_reader is not asyncio.AbstractEventLoop.add_reader


class _InLoop:
    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Have threads of this process's own; they start when there is work."""
        # Not the loop's own, which others may keep busy for as long as they like.
        self._workers = concurrent.futures.ThreadPoolExecutor(
            os.cpu_count() or 1, thread_name_prefix="infer-backends-triton-work"
        )

    def on(self, sock: socket.socket) -> Readiness:
        return _Watched(sock)

    async def settled(self, future: concurrent.futures.Future[Any], patience: Patience) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def tell(_: object) -> None:
            # Whoever waited may have given up, and the loop with it.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, done, None)

        future.add_done_callback(tell)
        await wait_for(done, patience)

    async def work(self, task: Callable[[], Result], patience: Patience) -> Result:
        try:
            future = self._workers.submit(task)
        except RuntimeError as exc:
            # The system's limit, or the interpreter is being taken down.
            raise Unavailable(f"no thread could be started: {exc}") from exc
        try:
            await self.settled(future, patience)
        finally:
            # What was not begun is not begun any more.
            future.cancel()
        return future.result()


_in_loop = _InLoop()
#: The way of the running event loop.
IN_LOOP: Waiting = _in_loop

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_loop.renew)


async def wait_for(future: asyncio.Future[Result], patience: Patience) -> Result:
    """What ``future`` brings; cancelled when patience ends, or the task is cancelled."""
    timer = _Timer(future, patience)
    try:
        return await future
    finally:
        timer.cancel()


def settle(future: asyncio.Future[Result], result: Result) -> None:
    """Give a future its result, if somebody still waits for it."""
    if not future.done():
        future.set_result(result)


class _Timer:
    """Asks for patience again and again, which rings alarms; ends a future when there is none."""

    __slots__ = ("_future", "_handle", "_loop", "_patience", "_tick")

    def __init__(
        self,
        future: asyncio.Future[Any],
        patience: Patience,
        tick: Callable[[], None] | None = None,
    ) -> None:
        self._future = future
        self._patience = patience
        self._tick = tick
        self._loop = future.get_loop()
        self._handle = self._loop.call_later(min(patience(), LONGEST_WAIT), self._ask)

    def cancel(self) -> None:
        self._handle.cancel()

    def _ask(self) -> None:
        if self._future.done():
            return
        try:
            left = self._patience()
        except Exception as exc:  # noqa: BLE001 - the waiting task raises it
            self._future.set_exception(exc)
            return
        self._handle = self._loop.call_later(min(left, LONGEST_WAIT), self._ask)
        if self._tick is not None:
            self._tick()


class _Watched:
    """A socket that the running loop watches while somebody waits for it."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def until(
        self,
        attempt: Callable[[], Result],
        patience: Patience,
        *,
        writing: bool = False,
        at_once: bool = True,
    ) -> Result:
        if at_once:
            try:
                return attempt()
            except BlockingIOError:
                pass
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
                writing = isinstance(exc, ssl.SSLWantWriteError)
        watch = _Watch(self._sock.fileno(), attempt, writing=writing)
        timer = _Timer(watch.future, patience, watch.try_again)
        try:
            watch.begin()
            result: Result = await watch.future
            return result
        finally:
            timer.cancel()
            watch.end()


class _Watch:
    """One wait. Attempts are made by the loop itself, so that the task wakes up once."""

    __slots__ = ("_attempt", "_fd", "_loop", "_writing", "future")

    def __init__(self, fd: int, attempt: Callable[[], Any], *, writing: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._attempt = attempt
        self._writing = writing
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def begin(self) -> None:
        watch = self._loop.add_writer if self._writing else self._loop.add_reader
        watch(self._fd, self.try_again)

    def end(self) -> None:
        # A task that is thrown away, not cancelled, may outlive its loop.
        if not self._loop.is_closed():
            ignore = self._loop.remove_writer if self._writing else self._loop.remove_reader
            ignore(self._fd)

    def try_again(self) -> None:
        if self.future.done():
            return
        try:
            self.future.set_result(self._attempt())
        except BlockingIOError:
            pass
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
            self._turn_to(isinstance(exc, ssl.SSLWantWriteError))
        except Exception as exc:  # noqa: BLE001 - the waiting task raises it
            self.future.set_exception(exc)

    def _turn_to(self, writing: bool) -> None:
        if writing is not self._writing:
            self.end()
            self._writing = writing
            self.begin()


class Slots:
    """Lets so many tasks in at a time, in the order in which they came.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def take(self, patience: Patience) -> None:
        """Wait for a slot, which :meth:`give` wants back.

        Args:
            patience: How long to wait each time; what it raises is raised.
        """
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await wait_for(turn, patience)
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # It was given just before the task was cancelled.
                self.give()
            elif turn in self._waiters:
                # A turn that nobody waits for any more must not be given.
                self._waiters.remove(turn)
            raise

    def give(self) -> None:
        """Give a slot back: to whoever has waited longest."""
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
