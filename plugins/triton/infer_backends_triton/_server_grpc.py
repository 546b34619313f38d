"""How a server is asked about itself and its models over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infer_backends.plugin import Deadline, InvalidInput, ModelNotFound, ModelURL, OpenOptions
from infer_backends_triton._grpc_channel import GrpcConnection
from infer_backends_triton._grpc_messages import (
    MAX_MESSAGE_BYTES,
    parse,
    serialise,
    to_mapping,
)
from infer_backends_triton._grpc_runtime import service_pb2
from infer_backends_triton._server import TritonServer
from infer_backends_triton._settings import ConnectionSettings


class GrpcWire:
    """Asks over gRPC.

    Args:
        url: Where the server is.
        options: How to reach it.

    Raises:
        InvalidURL: A setting is wrong; nothing is sent.
    """

    def __init__(self, url: ModelURL, options: OpenOptions) -> None:
        self._connection = GrpcConnection(ConnectionSettings.read(url, options))

    @property
    def url(self) -> str:
        """Who is asked."""
        return self._connection.url

    def live(self, deadline: Deadline) -> bool:
        """Whether the server says that it is live."""
        return self._ask("ServerLive", deadline).get("live") is True

    def ready(self, deadline: Deadline) -> bool:
        """Whether the server says that it is ready."""
        return self._ask("ServerReady", deadline).get("ready") is True

    def metadata(self, deadline: Deadline) -> Mapping[str, Any]:
        """The server's metadata."""
        return self._ask("ServerMetadata", deadline)

    def index(self, deadline: Deadline) -> list[Mapping[str, Any]]:
        """The repository index."""
        models: list[Mapping[str, Any]] = self._ask("RepositoryIndex", deadline).get("models", [])
        return models

    def has(self, name: str, deadline: Deadline) -> bool:
        """Whether a model is loaded."""
        try:
            self._ask("ModelMetadata", deadline, name=name)
        except (ModelNotFound, InvalidInput):
            return False
        return True

    def load(
        self, name: str, config: str | None, files: Mapping[str, bytes], deadline: Deadline
    ) -> None:
        """Load a model; files travel as they are."""
        size = sum(map(len, files.values()))
        if size > MAX_MESSAGE_BYTES:
            raise InvalidInput(
                f"files= has {size} bytes, and a gRPC message has at most {MAX_MESSAGE_BYTES}: put "
                "the files into the server's repository"
            )
        parameters = {
            f"file:{path}": service_pb2.ModelRepositoryParameter(bytes_param=contents)
            for path, contents in files.items()
        }
        if config is not None:
            parameters["config"] = service_pb2.ModelRepositoryParameter(string_param=config)
        self._ask("RepositoryModelLoad", deadline, model_name=name, parameters=parameters)

    def unload(self, name: str, unload_dependents: bool, deadline: Deadline) -> None:
        """Unload a model."""
        parameters = {}
        if unload_dependents:
            parameters["unload_dependents"] = service_pb2.ModelRepositoryParameter(bool_param=True)
        self._ask("RepositoryModelUnload", deadline, model_name=name, parameters=parameters)

    def statistics(
        self, name: str | None, version: str | None, deadline: Deadline
    ) -> Mapping[str, Any]:
        """The statistics of a model, or of all."""
        return self._ask("ModelStatistics", deadline, name=name or "", version=version or "")

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def _ask(self, method: str, deadline: Deadline, **fields: Any) -> dict[str, Any]:
        message = getattr(service_pb2, f"{method}Request")(**fields)
        answer = self._connection.call(method, serialise(message), deadline)
        return to_mapping(parse(getattr(service_pb2, f"{method}Response"), answer, self.url))


def open_server(url: ModelURL, options: OpenOptions) -> TritonServer:
    """The server at ``url``; nothing is sent."""
    return TritonServer(GrpcWire(url, options))
