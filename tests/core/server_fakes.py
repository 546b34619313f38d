"""A server in memory, and a plugin that opens it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infer_backends.plugin import (
    Deadline,
    ModelState,
    ModelStatistics,
    ModelURL,
    OpenOptions,
    Option,
    ServerBackend,
    ServerMetadata,
    hookimpl,
)


class FakeServer:
    """A server in memory. Unloading takes as many looks at its models as it is told."""

    def __init__(self) -> None:
        self.states = {"m": "READY", "other": "READY"}
        self.looks_until_unloaded = 0
        self.calls: list[tuple[Any, ...]] = []
        self.deadlines: list[Deadline] = []
        self.error: Exception | None = None
        self.answer: Any = None
        self.closed = 0

    def _see(self, deadline: Deadline, *call: Any) -> Any:
        self.deadlines.append(deadline)
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return self.answer

    def live(self, deadline: Deadline) -> bool:
        return self._see(deadline, "live") is not False

    def ready(self, deadline: Deadline) -> bool:
        return self._see(deadline, "ready") is not False

    def metadata(self, deadline: Deadline) -> ServerMetadata:
        answer: ServerMetadata = self._see(deadline, "metadata")
        return answer

    def models(self, deadline: Deadline) -> list[ModelState]:
        answer: list[ModelState] | None = self._see(deadline, "models")
        if self.states["m"] == "UNLOADING":
            self.looks_until_unloaded -= 1
            if self.looks_until_unloaded <= 0:
                self.states["m"] = "UNAVAILABLE"
        if answer is not None:
            return answer
        return [ModelState(name, "1", state) for name, state in self.states.items()]

    def load(
        self, name: str, *, config: str | None, files: Mapping[str, bytes], deadline: Deadline
    ) -> None:
        self._see(deadline, "load", name, config, files)

    def unload(self, name: str, *, unload_dependents: bool, deadline: Deadline) -> None:
        self._see(deadline, "unload", name, unload_dependents)
        self.states["m"] = "UNLOADING"

    def statistics(
        self, name: str | None, version: str | None, deadline: Deadline
    ) -> list[ModelStatistics]:
        answer: list[ModelStatistics] = self._see(deadline, "statistics", name, version)
        return answer

    def close(self) -> None:
        self.closed += 1


class Minimal:
    """A server that can do nothing that need not be done."""

    def live(self, deadline: Deadline) -> bool:
        return True

    def ready(self, deadline: Deadline) -> bool:
        return True

    def metadata(self, deadline: Deadline) -> ServerMetadata:
        return ServerMetadata("minimal")

    def close(self) -> None:
        pass


class Plugin:
    INFER_BACKENDS_API = 1

    def __init__(self, server: Any) -> None:
        self.server = server
        self.opened: list[tuple[ModelURL, OpenOptions]] = []

    @hookimpl
    def infer_backends_open(self, url: ModelURL, options: OpenOptions) -> Any:
        raise AssertionError

    @hookimpl
    def infer_backends_options(self) -> list[Option]:
        return [Option("token", secret=True)]

    @hookimpl
    def infer_backends_server(self, url: ModelURL, options: OpenOptions) -> ServerBackend:
        self.opened.append((url, options))
        answer: ServerBackend = self.server
        return answer
