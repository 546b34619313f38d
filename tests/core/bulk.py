"""Bulk work as tests do it: by threads, and by tasks of an event loop."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from contextlib import aclosing, closing
from typing import Any, Protocol

import numpy as np

from infer_backends import Model
from infer_backends._async_model import AsyncModel
from infer_backends.plugin import Array, Backend
from tests.core.running import in_loop


class Mapped(Protocol):
    """``mapped(backend, samples, **options)``: the outcomes, in a list; at most ``first`` of them.

    What ends the iteration is raised, or put at the end of the list with ``caught=True``.
    """

    def __call__(
        self,
        backend: Backend,
        samples: Any,
        *,
        first: int | None = None,
        caught: bool = False,
        timeout_of_model: float | None = None,
        **options: Any,
    ) -> list[Any]: ...


def by_threads(
    backend: Backend,
    samples: Any,
    *,
    first: int | None = None,
    caught: bool = False,
    timeout_of_model: float | None = None,
    **options: Any,
) -> list[Any]:
    model = Model(backend, timeout=timeout_of_model)
    found: list[Any] = []
    iterator: Any = model.map(samples, **options)
    with closing(iterator):
        try:
            found.extend(itertools.islice(iterator, first))
        except Exception as exc:
            if not caught:
                raise
            found.append(exc)
    left = [thread.name for thread in threading.enumerate() if "backends-map" in thread.name]
    assert not left, f"threads are left: {left}"
    return found


def by_tasks(
    backend: Backend,
    samples: Any,
    *,
    first: int | None = None,
    caught: bool = False,
    timeout_of_model: float | None = None,
    **options: Any,
) -> list[Any]:
    async def collect() -> list[Any]:
        found: list[Any] = []
        async with await _opened(backend, timeout_of_model) as model:
            iterator: Any = model.map(samples, **options)
            async with aclosing(iterator):
                try:
                    while first is None or len(found) < first:
                        found.append(await anext(iterator))
                except StopAsyncIteration:
                    pass
                except Exception as exc:
                    if not caught:
                        raise
                    found.append(exc)
        return found

    return in_loop(collect())


async def _opened(backend: Backend, timeout: float | None) -> AsyncModel:
    return AsyncModel(backend, timeout=timeout)


def rows(count: int, length: int = 3) -> Iterator[Array]:
    for value in range(count):
        yield np.full(length, value, np.float32)


def values(results: Iterable[Any]) -> list[float]:
    return [float(result["y"].reshape(-1)[0]) for result in results]
