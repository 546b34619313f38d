"""What applications annotate with: how a model's metadata is loaded, and what a call means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from infer_backends._backend import ParameterValue
from infer_backends._request_options import Compression
from infer_backends._result import InferResult
from infer_backends._tensors import ModelMetadata

DEFAULT_TIMEOUT = 60.0
CLOSE_TIMEOUT = 10.0


@runtime_checkable
class RemoteModel(Protocol):
    """A model, wherever it runs: how its metadata is loaded, and what a call means.

    What applications annotate with; :func:`infer_backends.open_model` returns one.
    """

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself, loaded when it was opened."""
        ...

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the model; see :meth:`Model.__call__`."""
        ...

    def infer(  # noqa: PLR0913 - the options of a call
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Iterable[str] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        parameters: Mapping[str, ParameterValue] | None = None,
        headers: Mapping[str, str] | None = None,
        top_k: int | None = None,
        priority: int | None = None,
        queue_timeout: float | None = None,
        compression: Compression | None = None,
    ) -> InferResult:
        """Run the model, with options; see :meth:`Model.infer`."""
        ...

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Release everything; see :meth:`Model.close`."""
        ...


@runtime_checkable
class AsyncRemoteModel(Protocol):
    """A model, wherever it runs, as code in an event loop calls it.

    What applications annotate with; :func:`infer_backends.open_async_model` returns one.
    """

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself, loaded when it was opened."""
        ...

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the model; see :meth:`AsyncModel.__call__`."""
        ...

    async def infer(  # noqa: PLR0913 - the options of a call
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Iterable[str] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        parameters: Mapping[str, ParameterValue] | None = None,
        headers: Mapping[str, str] | None = None,
        top_k: int | None = None,
        priority: int | None = None,
        queue_timeout: float | None = None,
        compression: Compression | None = None,
    ) -> InferResult:
        """Run the model, with options; see :meth:`AsyncModel.infer`."""
        ...

    async def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Release everything; see :meth:`AsyncModel.close`."""
        ...
