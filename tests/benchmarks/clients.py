"""How each contender is called: from one NumPy array to another, as its documentation says.

A client library is imported when its contender is opened, so that a process holds no other one.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.models import Array

Call = Callable[[Array], Array]
AsyncCall = Callable[[Array], Awaitable[Array]]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the models are: the server's ports on 127.0.0.1, and the file of ``tiny``."""

    http: int
    grpc: int
    tiny: Path

    def of(self, protocol: str) -> str:
        """Host and port of a protocol."""
        return f"127.0.0.1:{self.http if protocol == 'http' else self.grpc}"


class Ours:
    """One Model for all callers, which may share it.

    Args:
        base: The URL without the model's name.
        suffix: What follows the name.
        options: Options of ``open_model``.
    """

    def __init__(self, base: str, suffix: str = "", **options: Any) -> None:
        self._base, self._suffix, self._options = base, suffix, options
        self._models: dict[str, Call] = {}
        self._lock = threading.Lock()

    def __call__(self, model: str) -> Call:
        """The call of a model."""
        from infer_backends import open_model

        with self._lock:
            if model not in self._models:
                url = f"{self._base}{model}{self._suffix}"
                self._models[model] = open_model(url, **self._options)
            return self._models[model]


def _ours(protocol: str, addresses: Addresses, *, inline: bool) -> Ours:
    from infer_backends_triton import grpc_plugin, http_plugin

    plugin = http_plugin if protocol == "http" else grpc_plugin
    declared = {option.name for option in plugin.infer_backends_options()}
    options = {"shared_memory": "off"} if inline and "shared_memory" in declared else {}
    return Ours(f"{protocol}://{addresses.of(protocol)}/", **options)


def _module(protocol: str) -> Any:
    """The client of that protocol; the types of the two are not the same."""
    if protocol == "http":
        import tritonclient.http as module
    else:
        import tritonclient.grpc as module
    return module


def _tritonclient(protocol: str, address: str, model: str) -> Call:
    """A client of its own for every caller; over HTTP it must not be shared."""
    module = _module(protocol)
    client = module.InferenceServerClient(address)

    def call(array: Array) -> Array:
        tensor = module.InferInput("INPUT", list(array.shape), "FP32")
        tensor.set_data_from_numpy(array)
        answer: Array = client.infer(model, [tensor]).as_numpy("OUTPUT")
        return answer

    return call


def _pytriton(protocol: str, address: str, model: str) -> Call:
    """A client of its own for every caller; none of them may be shared."""
    from pytriton.client import ModelClient

    client = ModelClient(f"{protocol}://{address}", model, lazy_init=False, init_timeout_s=30)

    def call(array: Array) -> Array:
        answer: Array = client.infer_sample(array)["OUTPUT"]
        return answer

    return call


def _onnxruntime(path: Path) -> Call:
    from onnxruntime import InferenceSession

    run = InferenceSession(path, providers=["CPUExecutionProvider"]).run

    def call(array: Array) -> Array:
        answer: Array = run(["y"], {"x": array})[0]
        return answer

    return call


def open_sync(name: str, addresses: Addresses) -> Callable[[str], Call]:
    """What opens a model for one caller, in that caller's thread."""
    client, _, rest = name.partition("-")
    protocol = rest.removesuffix("-inline")
    if name == "onnxruntime":
        return lambda _: _onnxruntime(addresses.tiny)
    if name == "ours-onnx":
        return Ours(f"onnx:{addresses.tiny.parent}/", ".onnx")
    if client == "ours":
        return _ours(protocol, addresses, inline=rest != protocol)
    if client == "limit":
        from tests.benchmarks.limits import BareGRPC, BareSocket

        bare: Callable[[str, str], Call] = BareSocket if protocol == "http" else BareGRPC
        return lambda model: bare(addresses.of(protocol), model)
    opener = {"tritonclient": _tritonclient, "pytriton": _pytriton}[client]
    return lambda model: opener(protocol, addresses.of(protocol), model)


async def open_async(name: str, addresses: Addresses) -> Callable[[str], Awaitable[AsyncCall]]:
    """What opens a model for all tasks; they share one client, as asyncio's clients may be."""
    client, protocol, _ = name.split("-")
    if client == "ours":
        from infer_backends import open_async_model

        return lambda model: open_async_model(f"{protocol}://{addresses.of(protocol)}/{model}")
    if protocol == "http":
        import tritonclient.http.aio as module
    else:
        import tritonclient.grpc.aio as module
    client = module.InferenceServerClient(addresses.of(protocol))

    async def opened(model: str) -> AsyncCall:
        async def call(array: Array) -> Array:
            tensor = module.InferInput("INPUT", list(array.shape), "FP32")
            tensor.set_data_from_numpy(array)
            answer: Array = (await client.infer(model, [tensor])).as_numpy("OUTPUT")
            return answer

        return call

    return opened
