"""What channels to one gRPC server need, whoever makes them."""

from __future__ import annotations

from collections.abc import Mapping

from infer_backends.plugin import InvalidInput, InvalidURL
from infer_backends_triton._grpc_failures import Failures, receive_limit
from infer_backends_triton._grpc_headers import GrpcMetadata, to_grpc_metadata
from infer_backends_triton._grpc_tls import channel_credentials
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._unsent import BEFORE_SENDING

#: What the methods of the service are called by.
SERVICE = "/inference.GRPCInferenceService/"
#: In seconds: gRPC counts in nanoseconds from 1970, in 64 bits.
LONGEST_CALL = 10 * 365 * 86400.0

_INT32_MAX = 2**31 - 1
# A status message travels in the trailers, and a model's own traceback may be long.
_MAX_TRAILERS = 1024 * 1024


class Endpoint:
    """What channels to one server need, and calls on them.

    Args:
        settings: Where to connect, and how.

    Attributes:
        settings: As given.
        target: gRPC's name of the server.
        options: How a channel has to behave.
        credentials: For TLS; None without.
        failures: What reads the failures of calls.

    Raises:
        InvalidURL: A header or a TLS file is wrong.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.target = f"dns:///{settings.address}"
        self.options = channel_options(settings)
        self.credentials = channel_credentials(settings)
        self.failures = Failures(settings)
        self._metadata = to_grpc_metadata(settings.headers, InvalidURL)

    def metadata(self, headers: Mapping[str, str] | None) -> GrpcMetadata:
        """The metadata of a call that has these headers of its own."""
        if not headers:
            return self._metadata
        with BEFORE_SENDING:
            return self._metadata + to_grpc_metadata(headers, InvalidInput)


def channel_options(settings: ConnectionSettings) -> list[tuple[str, int]]:
    """How gRPC has to behave: bounded, straight to the host that the URL names."""
    connect_ms = min(round(settings.connect_timeout * 1000), _INT32_MAX)
    return [
        ("grpc.enable_retries", 1),
        ("grpc.service_config_disable_resolution", 1),
        # Proxy variables of the environment are not used.
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Also the time that one attempt to connect may take, handshakes included.
        ("grpc.min_reconnect_backoff_ms", connect_ms),
        ("grpc.dns_ares_query_timeout", connect_ms),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", receive_limit(settings)),
        ("grpc.max_metadata_size", _MAX_TRAILERS),
        ("grpc.absolute_max_metadata_size", _MAX_TRAILERS),
    ]
