"""Door 2: everything that a plugin needs, and nothing else.

A plugin is a module named by entry points of the group ``infer_backends``, one for each scheme
(``+`` in the scheme is written ``.`` in the name):

.. code-block:: toml

    [project.entry-points.infer_backends]
    myruntime = "my_package.plugin"

The module says which contract it was written for, and implements ``infer_backends_open``::

    from infer_backends.plugin import Backend, ModelURL, OpenOptions, hookimpl

    INFER_BACKENDS_API = 1


    @hookimpl
    def infer_backends_open(url: ModelURL, options: OpenOptions) -> Backend: ...

A plugin that observes is a module named by an entry point of the group
``infer_backends.observers``. It says which contract it was written for, too, and implements
``infer_backends_event``.
"""

from infer_backends._accounts import one_line, without_numbers
from infer_backends._backend import (
    Array,
    Attempt,
    Backend,
    InferRequest,
    InferResponse,
    ParameterValue,
    SupportsAdvice,
    SupportsAsync,
    SupportsAsyncStreaming,
    SupportsDescription,
    SupportsReadiness,
    SupportsRequestOptions,
    SupportsStreaming,
)
from infer_backends._deadline import Deadline
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
from infer_backends._events import (
    AttemptEvent,
    Event,
    FallbackEvent,
    ProbeEvent,
    TransitionEvent,
)
from infer_backends._forked_child import never_destroy, skip_exit_handlers_of_c
from infer_backends._hookspecs import API_VERSION, hookimpl
from infer_backends._labels import with_labels
from infer_backends._member_state import MemberState
from infer_backends._model_file import FileState, ModelFile
from infer_backends._options import OpenOptions, Option
from infer_backends._owned import OwnedStream
from infer_backends._request_options import RequestOptions, SequenceStep
from infer_backends._server_answers import (
    BatchStatistics,
    ModelState,
    ModelStatistics,
    ServerMetadata,
    StatisticDuration,
)
from infer_backends._server_backend import (
    ServerBackend,
    SupportsRepository,
    SupportsStatistics,
)
from infer_backends._tensors import DataType, ModelMetadata, TensorSpec
from infer_backends._url import ModelURL

__all__ = [
    "API_VERSION",
    "AllBackendsFailed",
    "Array",
    "Attempt",
    "AttemptEvent",
    "Backend",
    "BatchStatistics",
    "DataType",
    "Deadline",
    "DeadlineExceeded",
    "Event",
    "FallbackEvent",
    "FileState",
    "InferError",
    "InferRequest",
    "InferResponse",
    "InferenceFailed",
    "InvalidInput",
    "InvalidURL",
    "MemberState",
    "MetadataMismatch",
    "MissingDependency",
    "ModelClosed",
    "ModelFile",
    "ModelMetadata",
    "ModelNotFound",
    "ModelState",
    "ModelStatistics",
    "ModelURL",
    "OpenOptions",
    "Option",
    "OwnedStream",
    "ParameterValue",
    "PermissionDenied",
    "PluginConflict",
    "PluginError",
    "ProbeEvent",
    "ProtocolError",
    "RequestOptions",
    "SequenceStep",
    "ServerBackend",
    "ServerMetadata",
    "StatisticDuration",
    "SupportsAdvice",
    "SupportsAsync",
    "SupportsAsyncStreaming",
    "SupportsDescription",
    "SupportsReadiness",
    "SupportsRepository",
    "SupportsRequestOptions",
    "SupportsStatistics",
    "SupportsStreaming",
    "TLSError",
    "TensorSpec",
    "TransitionEvent",
    "Unavailable",
    "UnknownScheme",
    "UnsupportedOperation",
    "hookimpl",
    "never_destroy",
    "one_line",
    "skip_exit_handlers_of_c",
    "with_labels",
    "without_numbers",
]
