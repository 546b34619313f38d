"""Pure: whether what a plugin opened, or says of a model, is what the contract says.

All of it is looked at once, when a model is opened; on the way of a call, nothing is.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from infer_backends._backend import SupportsRequestOptions
from infer_backends._tensors import DataType, ModelMetadata, TensorSpec

_METHODS = ("infer", "close")
#: Those of abilities, which a backend may have.
_FURTHER = ("ready", "describe", "stream", "advice")


def backend_fault(backend: object) -> str:
    """What keeps an object from being a backend; empty if nothing does."""
    if isinstance(backend, type):
        return f"the class {backend.__name__}: call it, to return an instance"
    for name in ("metadata", *_METHODS):
        if not hasattr(backend, name):
            return f"{_kind(backend)}, which is no Backend: it has no {name}"
    return next(_faults(backend), "")


def _faults(backend: object) -> Iterator[str]:
    kind = _kind(backend)
    for name in (*_METHODS, *_FURTHER):
        method = getattr(backend, name, None)
        if name in _METHODS and not callable(method):
            yield f"{kind}, which is no Backend: its {name} is no method, but {_kind(method)}"
        elif inspect.iscoroutinefunction(method):
            yield (
                f"{kind}, whose {name} is async: it is called in threads, so leave async out; "
                f"{name}_async is what is awaited"
            )
    metadata: object = getattr(backend, "metadata", None)
    if callable(metadata):
        yield f"{kind}, whose metadata is a method: make it an attribute, or a property"
    elif not isinstance(metadata, ModelMetadata):
        yield f"{kind}, whose metadata is {_kind(metadata)}; expected a ModelMetadata"
    else:
        yield from (f"{kind}, in whose metadata {fault}" for fault in _metadata_faults(metadata))
    if isinstance(backend, SupportsRequestOptions):
        options: object = backend.request_options
        if not isinstance(options, frozenset) or not _all_are(options, str):
            yield f"{kind}, whose request_options are {_kind(options)}; expected a frozenset of str"


def metadata_fault(metadata: ModelMetadata) -> str:
    """What is wrong with what a plugin says of a model; empty if nothing is."""
    return next(_metadata_faults(metadata), "")


def _metadata_faults(metadata: ModelMetadata) -> Iterator[str]:
    for name in ("name", "platform"):
        value: object = getattr(metadata, name)
        if not isinstance(value, str):
            yield f"{name} is {_kind(value)}; expected a str"
    versions: object = metadata.versions
    if not isinstance(versions, tuple) or not _all_are(versions, str):
        yield f"versions are {_kind(versions)}; expected a tuple of str"
    size: object = metadata.max_batch_size
    if not _is_int(size) or metadata.max_batch_size < 0:
        yield f"max_batch_size is {_value(size)}; expected 0, or a number of rows"
        return
    decoupled: object = metadata.decoupled
    if not isinstance(decoupled, bool):
        yield f"decoupled is {_kind(decoupled)}; expected a bool"
    parameters: object = metadata.parameters
    if not isinstance(parameters, Mapping):
        yield f"parameters are {_kind(parameters)}; expected a mapping"
    yield from _tensor_faults("input", metadata.inputs, batched=metadata.max_batch_size > 0)
    # A shape that is not known is an empty one, too.
    yield from _tensor_faults("output", metadata.outputs, batched=False)


def _tensor_faults(kind: str, specs: object, *, batched: bool) -> Iterator[str]:
    if not isinstance(specs, tuple) or not _all_are(specs, TensorSpec):
        yield f"{kind}s are {_kind(specs)}; expected a tuple of TensorSpec"
        return
    if kind == "output" and not specs:
        yield "there are no outputs"
    for spec in specs:
        yield from (f"the {kind} {spec.name!r} {fault}" for fault in _spec_faults(spec, batched))
    counts = Counter(spec.name for spec in specs if isinstance(spec.name, str))
    yield from (f"the {kind} {name!r} is there {n} times" for name, n in counts.items() if n > 1)


def _spec_faults(spec: TensorSpec, batched: bool) -> Iterator[str]:
    name: object = spec.name
    dtype: object = spec.dtype
    shape: object = spec.shape
    if not isinstance(name, str) or not name:
        yield "has no name; expected a str"
    if not isinstance(dtype, DataType):
        yield f"has the dtype {_value(dtype)}; expected a DataType, as DataType.FP32"
    if not isinstance(shape, tuple):
        yield f"has a shape that is {_kind(shape)}; expected a tuple of int"
        return
    for size in shape:
        if not _is_int(size) or size < -1:
            yield (
                f"has {_value(size)} in its shape; expected an int of 0 or more, or -1 for one "
                "that varies"
            )
    if batched and not shape:
        yield "has no axis, and the first one is that of the batch, by max_batch_size"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _all_are(values: Iterable[object], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


def _kind(value: object) -> str:
    return type(value).__name__


def _value(value: object) -> str:
    # A short one may be shown: metadata holds no secrets.
    return f"{value!r:.40}"
