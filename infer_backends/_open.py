"""From one or several URLs to a Model. This is where a URL becomes a backend."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from infer_backends._backend import Backend, SupportsAsync
from infer_backends._batching import Splitting
from infer_backends._chosen import choose
from infer_backends._deadline import Deadline
from infer_backends._errors import DeadlineExceeded, InferError, InvalidURL, PluginError
from infer_backends._model import Model
from infer_backends._observers import Observers, open_observers
from infer_backends._options import CORE_OPTIONS, MODEL_OPTIONS
from infer_backends._registry import serving
from infer_backends._remote_model import DEFAULT_TIMEOUT
from infer_backends._replica_urls import replica_urls
from infer_backends._resilience._policy import FAREWELL, Policy
from infer_backends._resilience._single import Single
from infer_backends._tensors import ModelMetadata
from infer_backends._url import ModelURL, has_scheme, split_urls

if TYPE_CHECKING:
    from infer_backends._async_model import AsyncModel
    from infer_backends._resilience._fallback import Fallback

URL = str | os.PathLike[str] | ModelURL

#: How long after its deadline a plugin may say what it waited for, in seconds.
_GRACE = 0.5

_CORE_NAMES = frozenset(option.name for option in CORE_OPTIONS if not option.repeatable)


def open_model(
    url: URL | Iterable[URL],
    *,
    headers: Mapping[str, str] | None = None,
    version: str | int | None = None,
    **options: Any,
) -> Model:
    """Open the model that a URL names, and read its metadata.

    Args:
        url: A URL; a path that ends in ``.onnx``; or several, in order of preference: a list, or
            a string in which white space separates them. With several, every call is answered by
            the first that is available.
        headers: Headers (gRPC: metadata) for every request to a server.
        version: The model's version; None for the URL's, or the server's choice.
        **options: What could also stand in the URL as ``?name=value``. With several URLs, options
            of the core only: ``timeout`` (seconds for one call, 60 by default),
            ``connect_timeout`` (seconds), ``coerce``, ``parity``, ``auth``.

    Returns:
        The model, ready to be called.

    Raises:
        InvalidURL: A URL or an option is wrong; nothing was sent.
        PluginError: No plugin serves the scheme, or it is broken, or lacks a dependency.
        ModelNotFound: The server, or the file system, has no such model.
        Unavailable: Nobody answered.
        MetadataMismatch: The URLs do not name the same model.
        InferError: Whatever else went wrong; see :mod:`infer_backends`.

    Example:
        >>> with open_model("onnx:digits.onnx") as model:  # doctest: +SKIP
        ...     probabilities = model(images)
    """
    opening = _Opening(url, headers, version, options)
    return Model(
        opening.backend(),
        timeout=opening.timeout,
        coerce=opening.coerce,
        reopen=(_reopen, (opening.urls, headers, opening.given)),
    )


async def open_async_model(
    url: URL | Iterable[URL],
    *,
    headers: Mapping[str, str] | None = None,
    version: str | int | None = None,
    **options: Any,
) -> AsyncModel:
    """Open the model that a URL names, for calls in event loops.

    Takes, and raises, what :func:`open_model` does. A thread finds the plugin and opens the
    model, so that the loop goes on. What it does cannot be stopped, but a task that is cancelled,
    or whose ``timeout`` is over, does not wait for it.

    Returns:
        The model, ready to be awaited.

    Example:
        >>> async with await open_async_model("onnx:digits.onnx") as model:  # doctest: +SKIP
        ...     probabilities = await model(images)
    """
    # Imported where there is a loop: importing the library has to stay cheap.

    from infer_backends._async_model import AsyncModel
    from infer_backends._ways_of_loops import in_own_thread

    urls = parse_urls(url)
    # It may import plugins, which may take long, or for ever: the loop goes on meanwhile.
    opening = await in_own_thread(lambda: _Opening(urls, headers, version, options, in_loops=True))
    handover = _Handover(opening.backend)
    try:
        who = " ".join(serving(parsed.location) for parsed in opening.urls)
        await _within(opening.timeout, in_own_thread(handover.open), who)
        backend = handover.take()
    except BaseException:
        handover.give_up()
        raise
    return AsyncModel(backend, timeout=opening.timeout, coerce=opening.coerce)


async def _within(timeout: float | None, opening: Coroutine[Any, Any, None], who: str) -> None:
    """Wait for a model to be opened, and not longer than the caller said, whatever a hook does."""
    import asyncio

    task = asyncio.ensure_future(opening)
    try:
        # One that minds its deadline says more of what it waited for.
        await asyncio.wait((task,), timeout=None if timeout is None else timeout + _GRACE)
        if task.done():
            return task.result()
    finally:
        if not task.cancel() and not task.cancelled():
            task.exception()
        # An error holds its frames, and this one would hold the error.
        del task
    raise DeadlineExceeded(
        f"the deadline passed while {who} was opened, by a plugin that did not mind it; give a "
        "larger timeout"
    )


class _Handover:
    """What a thread opens for a task, and closes again if that was cancelled meanwhile.

    Args:
        make: Opens it.
    """

    def __init__(self, make: Callable[[], Single | Fallback]) -> None:
        self._make = make
        # One of the two takes it out: whoever comes last sees what the other one did.
        self._opened: list[Single | Fallback] = []
        self._unwanted = False

    def open(self) -> None:
        """Open it; in a thread."""
        self._opened.append(self._make())
        if self._unwanted:
            self._close()

    def take(self) -> Single | Fallback:
        """What was opened."""
        return self._opened.pop()

    def give_up(self) -> None:
        """Have it closed, now or when it is open."""
        self._unwanted = True
        if self._opened:
            threading.Thread(target=self._close, name="infer-backends-close", daemon=True).start()

    def _close(self) -> None:
        with contextlib.suppress(IndexError):
            self._opened.pop().close()


class _Opening:
    """All that is checked before anything is sent, and what is opened then.

    Attributes:
        urls: The URLs, parsed.
        given: The options of the call.
        timeout: The time that a call may take, in seconds; None where nobody said.
        coerce: How far inputs may be converted.
    """

    def __init__(
        self,
        url: URL | Iterable[URL],
        headers: Mapping[str, str] | None,
        version: str | int | None,
        options: Mapping[str, Any],
        *,
        in_loops: bool = False,
    ) -> None:
        self.urls = tuple(_with_version(parsed, version) for parsed in parse_urls(url))
        self.given = {name: value for name, value in options.items() if value is not None}
        if len(self.urls) > 1:
            for name in sorted(self.given.keys() - _CORE_NAMES):
                raise InvalidURL(
                    f"with several URLs, the option {name!r} belongs in the URL that it is meant "
                    f"for; the call takes {', '.join(sorted(_CORE_NAMES))}"
                )
        self._plans = [
            [_Plan(replica, self.given, headers, in_loops) for replica in replica_urls(parsed)]
            for parsed in self.urls
        ]
        self._core = _agree([replicas[0] for replicas in self._plans])
        self.timeout: float | None = self._core["timeout"]
        self.coerce = self._core["coerce"]

    def backend(self) -> Single | Fallback:
        """What stands for all the URLs, open."""
        explicit = self.timeout is not None
        deadline = Deadline.after(self.timeout or DEFAULT_TIMEOUT, explicit=explicit)
        policy = _policy(self._core)
        try:
            return _stand_for(self._plans, deadline, policy)
        except BaseException:
            policy.observers.close(FAREWELL)
            raise


def _policy(core: Mapping[str, Any]) -> Policy:
    return Policy(
        probe_period=core["probe_period"],
        strict=core["parity"] == "strict",
        on_failure=core["fallback_on_failure"],
        idempotent=core["idempotent"],
        observers=open_observers(),
    )


def _stand_for(
    plans: Sequence[Sequence[_Plan]], deadline: Deadline, policy: Policy
) -> Single | Fallback:
    """A backend that stands for all the URLs."""
    if len(plans) == len(plans[0]) == 1:
        plan = plans[0][0]
        return Single(plan.opener(policy.observers)(deadline), str(plan.url), policy)
    # Imported where it is used: importing the library has to stay cheap.
    from infer_backends._resilience._contact import Contact
    from infer_backends._resilience._endpoint import Endpoint
    from infer_backends._resilience._opening import open_members

    members = [
        [
            Endpoint(Contact(str(plan.url), plan.opener(policy.observers), plan.describer), policy)
            for plan in replicas
        ]
        for replicas in plans
    ]
    return open_members(members, deadline, policy)


def _reopen(
    urls: tuple[ModelURL, ...], headers: Mapping[str, str] | None, options: dict[str, Any]
) -> Model:
    return open_model(urls, headers=headers, **options)


class _Plan:
    """One URL with its plugin and its options, all checked, not yet opened."""

    def __init__(
        self,
        url: ModelURL,
        given: Mapping[str, Any],
        headers: Mapping[str, str] | None,
        in_loops: bool,
    ) -> None:
        self._in_loops = in_loops
        self._plugin, self.url, self.options = choose(url, given, headers)

    @property
    def describer(self) -> Callable[[], ModelMetadata | None] | None:
        """Says what the model is without loading it; None if it is to be loaded at open."""
        return None if self.options.core["preload"] else self._describe

    def _describe(self) -> ModelMetadata | None:
        return self._plugin.metadata(self.url, self.options)

    def opener(self, observers: Observers) -> Callable[[Deadline], Backend]:
        """Opens the plugin's backend, splitting what is too large for it, and observed."""

        def open_by(deadline: Deadline) -> Backend:
            # Opened again by a thread of its own, when it has recovered.
            options = copy(self.options)
            options.deadline = deadline
            backend = self._plugin.open(self.url, options)
            try:
                return wrapped(backend)
            except Exception as exc:
                backend.close()
                if isinstance(exc, InferError):
                    raise
                raise PluginError(
                    f"{self._plugin.owner}: the metadata of what infer_backends_open returned "
                    f"raised {type(exc).__name__}; a backend reads it when it is opened"
                ) from exc

        def wrapped(backend: Backend) -> Backend:
            if self._in_loops and not isinstance(backend, SupportsAsync):
                from infer_backends._in_pool import InPool

                backend = InPool(backend)
            if backend.metadata.max_batch_size > 0:
                backend = Splitting(backend, str(self.url))
            if observers:
                # Imported where somebody observes: importing the library has to stay cheap.
                from infer_backends._observed import Observed

                backend = Observed(backend, str(self.url), observers.notify)
            return backend

        return open_by


def parse_urls(url: URL | Iterable[URL]) -> list[ModelURL]:
    """What ``open_model`` takes, as URLs.

    Raises:
        InvalidURL: One of them is wrong, or there is none.
    """
    if isinstance(url, str):
        # One path may hold spaces only as a PathLike, or as an item of a list.
        items: list[URL] = list(split_urls(url)) or [url]
        _require_urls(items[1:])
    elif isinstance(url, (os.PathLike, ModelURL)):
        items = [url]
    elif isinstance(url, (bytes, bytearray, Mapping)):
        raise InvalidURL(f"a model is named by a URL or a path, not by {type(url).__name__}")
    else:
        try:
            items = list(url)
        except TypeError:
            raise InvalidURL(
                f"a model is named by a URL or a path, not by {type(url).__name__}"
            ) from None
    if not items:
        raise InvalidURL("no URL is given: write http://host:8000/model or onnx:model.onnx")
    return [ModelURL.parse(item) for item in items]


def _require_urls(items: list[URL]) -> None:
    """Refuse what is the rest of a URL that holds white space: it may be the rest of a secret."""
    for item in items:
        if not has_scheme(str(item)) and not str(item).lower().endswith(".onnx"):
            raise InvalidURL(
                "what follows white space in the string has no scheme, so it is no URL of its own: "
                "write %20 for a space in a URL, and scheme://host/model for every model"
            )


def _with_version(url: ModelURL, version: str | int | None) -> ModelURL:
    if version is None:
        return url
    given: object = version
    if not isinstance(given, (str, int)) or (isinstance(given, int) and given >= 1 << 63):
        raise InvalidURL("version= is a text, or a number of at most 63 bits")
    return url.with_version(str(version))


def _agree(plans: list[_Plan]) -> dict[str, Any]:
    """The options of the Model, on which all its URLs have to agree."""
    defaults = {option.name: option.default for option in CORE_OPTIONS}
    core = {name: defaults[name] for name in MODEL_OPTIONS}
    for name in MODEL_OPTIONS:
        given = {plan.options.core[name] for plan in plans} - {defaults[name]}
        if len(given) > 1:
            raise InvalidURL(
                f"the URLs differ in the option {name!r}, which is one for all of them"
            )
        core.update(dict.fromkeys([name], given.pop()) if given else {})
    return core
