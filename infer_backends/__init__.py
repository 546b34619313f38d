"""One URL names a model, wherever it runs.

Door 1, for applications: :func:`open_model` opens the model that a URL names, and returns a
:class:`Model`; :func:`open_server` opens a server, to control it. Every error is an
:class:`InferError`.

.. For pytest, which warns of what was imported before it and has a plugin: PYTEST_DONT_REWRITE
"""

from typing import TYPE_CHECKING, Any

from infer_backends._backend import Attempt
from infer_backends._classes import Classification
from infer_backends._errors import (
    AllBackendsFailed,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    InvalidURL,
    MetadataMismatch,
    MissingDependency,
    ModelClosed,
    ModelNotFound,
    PermissionDenied,
    PluginConflict,
    PluginError,
    ProtocolError,
    TLSError,
    Unavailable,
    UnknownScheme,
    UnsupportedOperation,
)
from infer_backends._events import AttemptEvent, FallbackEvent, ProbeEvent, TransitionEvent
from infer_backends._member_state import MemberState
from infer_backends._model import Model
from infer_backends._observers import register_observer
from infer_backends._open import open_async_model, open_model
from infer_backends._open_server import open_server
from infer_backends._registry import register_backend
from infer_backends._remote_model import AsyncRemoteModel, RemoteModel
from infer_backends._result import InferResult
from infer_backends._server import Server
from infer_backends._server_answers import (
    BatchStatistics,
    ModelState,
    ModelStatistics,
    ServerMetadata,
    StatisticDuration,
)
from infer_backends._status import MemberStatus, ModelStatus
from infer_backends._tensors import DataType, ModelMetadata, TensorSpec
from infer_backends._url import ModelURL
from infer_backends._verification import MemberVerification, Verification
from infer_backends._version import __version__

if TYPE_CHECKING:
    from infer_backends._async_model import AsyncModel

__all__ = [
    "AllBackendsFailed",
    "AsyncModel",
    "AsyncRemoteModel",
    "Attempt",
    "AttemptEvent",
    "BatchStatistics",
    "Classification",
    "DataType",
    "DeadlineExceeded",
    "FallbackEvent",
    "InferError",
    "InferResult",
    "InferenceFailed",
    "InvalidInput",
    "InvalidURL",
    "MemberState",
    "MemberStatus",
    "MemberVerification",
    "MetadataMismatch",
    "MissingDependency",
    "Model",
    "ModelClosed",
    "ModelMetadata",
    "ModelNotFound",
    "ModelState",
    "ModelStatistics",
    "ModelStatus",
    "ModelURL",
    "PermissionDenied",
    "PluginConflict",
    "PluginError",
    "ProbeEvent",
    "ProtocolError",
    "RemoteModel",
    "Server",
    "ServerMetadata",
    "StatisticDuration",
    "TLSError",
    "TensorSpec",
    "TransitionEvent",
    "Unavailable",
    "UnknownScheme",
    "UnsupportedOperation",
    "Verification",
    "__version__",
    "open_async_model",
    "open_model",
    "open_server",
    "register_backend",
    "register_observer",
]


def __getattr__(name: str) -> Any:
    """What needs asyncio, which those who run no loop need not load."""
    if name == "AsyncModel":
        from infer_backends._async_model import AsyncModel

        return AsyncModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
