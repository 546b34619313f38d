"""How a server is asked about itself and its models over HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from infer_backends.plugin import (
    Deadline,
    InferenceFailed,
    InvalidInput,
    ModelNotFound,
    ModelURL,
    OpenOptions,
)
from infer_backends_triton._http_client import HTTPClients, naming
from infer_backends_triton._http_messages import (
    model_path,
    parse_object,
    read_index,
    server_path,
)
from infer_backends_triton._server import TritonServer
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._waiting import run


class HTTPWire:
    """Asks over HTTP.

    Args:
        url: Where the server is.
        options: How to reach it.

    Raises:
        InvalidURL: A setting is wrong; nothing is sent.
    """

    def __init__(self, url: ModelURL, options: OpenOptions) -> None:
        self._clients = HTTPClients(ConnectionSettings.read(url, options))
        self._server = self._clients.blocking
        self._base = (*url.base_path, "v2")

    @property
    def url(self) -> str:
        """Who is asked."""
        return self._server.settings.url

    def live(self, deadline: Deadline) -> bool:
        """Whether the server says that it is live."""
        return self._is_well("live", deadline)

    def ready(self, deadline: Deadline) -> bool:
        """Whether the server says that it is ready."""
        return self._is_well("ready", deadline)

    def _is_well(self, question: str, deadline: Deadline) -> bool:
        try:
            self._get(["health", question], deadline)
        # Triton says no by 400, others by 500.
        except (InvalidInput, InferenceFailed):
            return False
        return True

    def metadata(self, deadline: Deadline) -> Mapping[str, Any]:
        """The server's metadata."""
        with naming(self.url):
            return parse_object(self._get([], deadline), "the server's metadata")

    def index(self, deadline: Deadline) -> list[Mapping[str, Any]]:
        """The repository index."""
        return read_index(self._post(["repository", "index"], {}, deadline), self.url)

    def has(self, name: str, deadline: Deadline) -> bool:
        """Whether a model is loaded."""
        try:
            self._get(["models", name], deadline)
        except (ModelNotFound, InvalidInput):
            return False
        return True

    def load(
        self, name: str, config: str | None, files: Mapping[str, bytes], deadline: Deadline
    ) -> None:
        """Load a model; files travel in base64."""
        parameters: dict[str, Any] = {} if config is None else {"config": config}
        for path, contents in files.items():
            parameters[f"file:{path}"] = base64.b64encode(contents).decode()
        body = {"parameters": parameters} if parameters else {}
        self._post(["repository", "models", name, "load"], body, deadline)

    def unload(self, name: str, unload_dependents: bool, deadline: Deadline) -> None:
        """Unload a model."""
        body = {"parameters": {"unload_dependents": True}} if unload_dependents else {}
        self._post(["repository", "models", name, "unload"], body, deadline)

    def statistics(
        self, name: str | None, version: str | None, deadline: Deadline
    ) -> Mapping[str, Any]:
        """The statistics of a model, or of all."""
        path = server_path([*self._base, "models", "stats"])
        if name is not None:
            path = f"{model_path(self._base[:-1], name, version)}/stats"
        answer = run(self._server.get(path, deadline))
        with naming(self.url):
            return parse_object(answer, "the statistics")

    def close(self) -> None:
        """Close the connections."""
        self._clients.close()

    def _get(self, segments: list[str], deadline: Deadline) -> memoryview:
        return run(self._server.get(server_path([*self._base, *segments]), deadline))

    def _post(self, segments: list[str], body: Mapping[str, Any], deadline: Deadline) -> memoryview:
        path = server_path([*self._base, *segments])
        return run(self._server.post(path, json.dumps(body).encode(), deadline))


def open_server(url: ModelURL, options: OpenOptions) -> TritonServer:
    """The server at ``url``; nothing is sent."""
    return TritonServer(HTTPWire(url, options))
