"""Who takes part, by name. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Where = Literal["http", "grpc", "local"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One client, which gets a process of its own.

    Attributes:
        name: What the driver calls it: unique, without spaces.
        label: What the tables call it.
        where: The protocol that it speaks, or ``local`` for a model in its own process.
        ours: Whether it is this library.
        served: Whether it runs from the server's environment, because it needs NumPy 1.x.
        limit: Whether it is no client but a limit of all of them; see ``limits.py``.
    """

    name: str
    label: str
    where: Where
    ours: bool = False
    served: bool = False
    limit: bool = False

    @property
    def awaited(self) -> bool:
        """Whether its callers are tasks of one event loop."""
        return self.name.endswith("-aio")


CONTENDERS = (
    Contender("ours-http", "ours", "http", ours=True),
    Contender("ours-http-inline", "ours, inline", "http", ours=True),
    Contender("ours-http-aio", "ours, awaited", "http", ours=True),
    Contender("tritonclient-http", "tritonclient", "http"),
    Contender("tritonclient-http-aio", "tritonclient aio", "http"),
    Contender("pytriton-http", "pytriton", "http", served=True),
    Contender("ours-grpc", "ours", "grpc", ours=True),
    Contender("ours-grpc-inline", "ours, inline", "grpc", ours=True),
    Contender("ours-grpc-aio", "ours, awaited", "grpc", ours=True),
    Contender("tritonclient-grpc", "tritonclient", "grpc"),
    Contender("tritonclient-grpc-aio", "tritonclient aio", "grpc"),
    Contender("pytriton-grpc", "pytriton", "grpc", served=True),
    Contender("limit-http", "bare socket", "http", limit=True),
    Contender("limit-grpc", "bare grpcio", "grpc", limit=True),
    Contender("ours-onnx", "ours", "local", ours=True),
    Contender("onnxruntime", "session.run", "local"),
)
#: NVIDIA's load tester in C++, a program of its own; takes part if it is there.
PERF_ANALYZER = (
    Contender("perf-analyzer-http", "perf_analyzer", "http"),
    Contender("perf-analyzer-grpc", "perf_analyzer", "grpc"),
)
BY_NAME = {contender.name: contender for contender in (*CONTENDERS, *PERF_ANALYZER)}
