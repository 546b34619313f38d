"""Shared memory over HTTP: a server's list of regions, and requests whose tensors are in one."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Protocol

from infer_backends.plugin import (
    Deadline,
    InferRequest,
    InvalidInput,
    ModelMetadata,
    ParameterValue,
    ProtocolError,
)
from infer_backends_triton._call_options import ranks
from infer_backends_triton._codec import encode
from infer_backends_triton._http_messages import parse_object, read_index, server_path
from infer_backends_triton._http_requests import ranked
from infer_backends_triton._shared_layout import Answer, AnsweredTensor, Layout, Slot
from infer_backends_triton._unsent import BEFORE_SENDING

_Tensors = list[bytes | memoryview]

#: Sends a JSON object and tensors, gives the answer's body and the length of its own JSON.
Ask = Callable[[InferRequest, Mapping[str, Any], _Tensors], tuple[memoryview, int | None]]
#: The same, awaited.
AskInLoop = Callable[
    [InferRequest, Mapping[str, Any], _Tensors],
    Coroutine[Any, Any, tuple[memoryview, int | None]],
]


class Control(Protocol):
    """Small requests to the server itself."""

    def get(self, path: str, deadline: Deadline) -> memoryview:
        """The body of the answer to a GET."""
        ...

    def post(self, path: str, body: bytes, deadline: Deadline) -> memoryview:
        """The body of the answer to a POST of JSON."""
        ...


class HTTPSharedServer:
    """One model on a server that speaks HTTP.

    Args:
        ask: How to ask the model.
        control: How to ask the server.
        base: The segments of the path before ``v2``.
        metadata: What the model says of itself.
        url: Whom errors name.
    """

    def __init__(
        self,
        ask: Ask,
        control: Control,
        base: Iterable[str],
        metadata: ModelMetadata,
        url: str,
    ) -> None:
        self._ask = ask
        self._control = control
        self._root = [*base, "v2", "systemsharedmemory"]
        self._metadata = metadata
        self._url = url

    def register(self, name: str, size: int, deadline: Deadline) -> None:
        """Have the server open the region ``name``."""
        body = json.dumps({"key": f"/{name}", "offset": 0, "byte_size": size}).encode()
        self._control.post(self._path("region", name, "register"), body, deadline)

    def unregister(self, name: str, deadline: Deadline) -> None:
        """Have the server forget the region ``name``."""
        self._control.post(self._path("region", name, "unregister"), b"{}", deadline)

    def registered(self, deadline: Deadline) -> Iterable[str]:
        """The names of the regions that the server knows."""
        entries = read_index(self._control.get(self._path("status"), deadline), "the server")
        return [name for entry in entries if isinstance(name := entry.get("name"), str)]

    def version(self, deadline: Deadline) -> str:
        """The server's version, as it says it."""
        body = self._control.get(server_path(self._root[:-1]), deadline)
        version = parse_object(body, "the server's metadata").get("version")
        return version if isinstance(version, str) else ""

    def infer(self, request: InferRequest, region: str, layout: Layout) -> Answer:
        """Ask the model; the inputs of the layout are in the region already."""
        return self._read(
            self._ask(request, *self._build(request, region, layout)),
            request,
            layout,
        )

    async def infer_async(
        self, ask: AskInLoop, request: InferRequest, region: str, layout: Layout
    ) -> Answer:
        """Do the same in the running event loop, by what asks the model there."""
        return self._read(
            await ask(request, *self._build(request, region, layout)),
            request,
            layout,
        )

    def _build(
        self, request: InferRequest, region: str, layout: Layout
    ) -> tuple[dict[str, Any], _Tensors]:
        with BEFORE_SENDING:
            return build_infer(request, self._metadata, region, layout)

    def _read(
        self, answered: tuple[memoryview, int | None], request: InferRequest, layout: Layout
    ) -> Answer:
        try:
            return read_infer(*answered, request, layout)
        except ProtocolError as exc:
            raise ProtocolError(f"{self._url}: {exc}") from exc

    def _path(self, *segments: str) -> str:
        return server_path([*self._root, *segments])


def build_infer(
    request: InferRequest, metadata: ModelMetadata, region: str, layout: Layout
) -> tuple[dict[str, Any], _Tensors]:
    """The JSON object of one request, and the bytes of the inputs that are not in the region.

    Raises:
        InvalidInput: A parameter is not for callers.
    """
    dtypes = {spec.name: spec.dtype for spec in metadata.inputs}
    tensors: _Tensors = []
    inputs = []
    for name, array in request.inputs.items():
        parameters: dict[str, Any]
        if name in layout.inputs:
            parameters = _place(region, layout.inputs[name])
        else:
            raw = encode(array, dtypes[name])
            parameters = {"binary_data_size": len(raw)}
            if len(raw):
                tensors.append(raw)
        datatype = dtypes[name].value
        shape = list(array.shape)
        inputs.append(
            {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters}
        )
    outputs = []
    more = ranked(ranks(request))
    for name in request.outputs or [spec.name for spec in metadata.outputs]:
        slot = layout.outputs.get(name)
        wanted = {"binary_data": True, **more} if slot is None else _place(region, slot)
        outputs.append({"name": name, "parameters": wanted})
    header: dict[str, Any] = {"inputs": inputs, "outputs": outputs}
    if request.request_id:
        header["id"] = request.request_id
    if "binary_data_output" in request.parameters:
        raise InvalidInput("the parameter 'binary_data_output' is not for callers: remove it")
    if request.parameters:
        header["parameters"] = dict(request.parameters)
    return header, tensors


def read_infer(
    body: memoryview, header_length: int | None, request: InferRequest, layout: Layout
) -> Answer:
    """What an answer says; the tensors in the region are not looked at.

    Raises:
        ProtocolError: The answer does not hold together, or is not one to this request.
    """
    end = len(body) if header_length is None else header_length
    if end > len(body):
        raise ProtocolError(f"the answer's JSON should have {end} bytes; all of it has {len(body)}")
    answer = parse_object(body[:end], "the answer")
    if request.request_id and answer.get("id") not in (None, "", request.request_id):
        raise ProtocolError("the answer has the id of another request")
    version = answer.get("model_version")
    return Answer(
        tensors=list(_tensors(answer, body[end:], layout)),
        model_version=version if isinstance(version, str) else "",
        parameters=_parameters(answer),
    )


def _place(region: str, slot: Slot) -> dict[str, Any]:
    return {
        "shared_memory_region": region,
        "shared_memory_offset": slot.offset,
        "shared_memory_byte_size": slot.size,
    }


def _tensors(
    answer: Mapping[str, Any], raw: memoryview, layout: Layout
) -> Iterator[AnsweredTensor]:
    entries = answer.get("outputs")
    if not isinstance(entries, list):
        raise ProtocolError("the answer has no list of outputs")
    start = 0
    for entry in entries:
        if not isinstance(entry, dict):
            raise ProtocolError("the answer has an output that is no object")
        name, datatype, shape = entry.get("name"), entry.get("datatype"), entry.get("shape")
        if not isinstance(name, str) or not isinstance(datatype, str):
            raise ProtocolError("the answer has an output without a name or a datatype")
        if not isinstance(shape, list) or not all(type(dim) is int for dim in shape):
            raise ProtocolError(f"output {name[:100]!r} has no shape")
        parameters = entry.get("parameters") or {}
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None and name in layout.outputs and "data" not in entry:
            yield AnsweredTensor(name, datatype, tuple(shape), None)
            continue
        if type(size) is not int or not 0 <= size <= len(raw) - start:
            raise ProtocolError(f"output {name[:100]!r} came without its bytes")
        yield AnsweredTensor(name, datatype, tuple(shape), raw[start : start + size])
        start += size
    if start != len(raw):
        raise ProtocolError(f"the answer has {len(raw) - start} bytes that belong to no output")


def _parameters(answer: Mapping[str, Any]) -> dict[str, ParameterValue]:
    parameters = answer.get("parameters")
    if not isinstance(parameters, dict):
        return {}
    return {
        name: value
        for name, value in parameters.items()
        if isinstance(value, bool | int | float | str)
    }
