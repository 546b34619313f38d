"""A backend as its plugin opens it, with nothing of the library around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from infer_backends._backend import Array, Backend, InferRequest
from infer_backends._chosen import choose
from infer_backends._deadline import Deadline
from infer_backends._url import ModelURL

#: How long a call of the suite may take, in seconds, where it is not about time.
PATIENCE = 60.0


@contextmanager
def opened(url: str | ModelURL) -> Iterator[Backend]:
    """The backend of a URL, open."""
    plugin, parsed, options = choose(ModelURL.parse(url), {}, None)
    options.deadline = Deadline.after(PATIENCE)
    backend = plugin.open(parsed, options)
    try:
        yield backend
    finally:
        backend.close()


def request_of(
    inputs: Mapping[str, Array], outputs: Iterable[str] | None = None, timeout: float = PATIENCE
) -> InferRequest:
    """A request as the library makes one."""
    wanted = None if outputs is None else tuple(outputs)
    return InferRequest(dict(inputs), wanted, Deadline.after(timeout))
