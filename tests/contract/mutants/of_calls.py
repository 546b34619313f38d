"""Backends that break one rule each: about what is said, taken, answered and refused."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from infer_backends import DataType, TensorSpec
from infer_backends.plugin import (
    Array,
    Backend,
    Deadline,
    InferenceFailed,
    InferError,
    InferRequest,
    InferResponse,
    InvalidInput,
    InvalidURL,
    ModelMetadata,
    ModelURL,
    OpenOptions,
    ProtocolError,
)
from tests.contract.mutants.sane import Opener, Outputs, SaneBackend


class OutputsBackwards(SaneBackend):
    def declare(self) -> ModelMetadata:
        metadata = super().declare()
        return replace(metadata, outputs=metadata.outputs[::-1])


class MetadataAnew(SaneBackend):
    @property
    def metadata(self) -> ModelMetadata:
        return replace(self._metadata)

    @metadata.setter
    def metadata(self, metadata: ModelMetadata) -> None:
        self._metadata = metadata


class NamesEscaped(SaneBackend):
    def declare(self) -> ModelMetadata:
        metadata = super().declare()
        outputs = [replace(spec, name=spec.name.replace(":", "_")) for spec in metadata.outputs]
        return replace(metadata, outputs=tuple(outputs))

    def respond(self, request: InferRequest, outputs: Outputs) -> InferResponse:
        return super().respond(request, {n.replace(":", "_"): a for n, a in outputs.items()})


class NoDoubles(SaneBackend):
    def __init__(self, name: str, url: ModelURL, options: OpenOptions) -> None:
        if name == "identity_fp64":
            raise InferenceFailed("this runtime has no FP64")
        super().__init__(name, url, options)


class NeverReady(SaneBackend):
    def ready(self, deadline: Deadline) -> bool:
        return False


class DescribedOtherwise(SaneBackend):
    def describe(self, deadline: Deadline) -> ModelMetadata:
        return replace(self.declare(), platform="")


class NoMinusZero(SaneBackend):
    def finish(self, spec: TensorSpec, array: Array) -> Array:
        finished = super().finish(spec, array)
        if finished.dtype.kind == "f":
            np.add(finished, finished.dtype.type(0), out=finished)
        return finished


class FlatWhereEmpty(SaneBackend):
    def finish(self, spec: TensorSpec, array: Array) -> Array:
        finished = super().finish(spec, array)
        return finished if finished.size else finished.ravel()


class NoScalars(SaneBackend):
    def finish(self, spec: TensorSpec, array: Array) -> Array:
        return np.atleast_1d(super().finish(spec, array))


class ReadsTheBase(SaneBackend):
    def compute(self, request: InferRequest) -> Outputs:
        for name, array in request.inputs.items():
            base = array.base
            if isinstance(base, np.ndarray) and base.dtype == array.dtype:
                request.inputs[name] = base.ravel()[: array.size].reshape(array.shape)
        return super().compute(request)


class WritesToInputs(SaneBackend):
    def compute(self, request: InferRequest) -> Outputs:
        outputs = copy.deepcopy(super().compute(request))
        for array in request.inputs.values():
            array[...] = array.dtype.type(0)
        return outputs


class WrongFromNineElements(SaneBackend):
    def finish(self, spec: TensorSpec, array: Array) -> Array:
        finished = super().finish(spec, array)
        if finished.size > 8 and finished.dtype != object and self.name.startswith("identity"):
            finished.flat[8:] = finished.flat[0]
        return finished


class OffByOne(SaneBackend):
    def compute(self, request: InferRequest) -> Outputs:
        return {name: array + 1 for name, array in super().compute(request).items()}


class InputsBackwards(SaneBackend):
    def declare(self) -> ModelMetadata:
        metadata = super().declare()
        return replace(metadata, inputs=metadata.inputs[::-1])


class AnyLength(SaneBackend):
    def declare(self) -> ModelMetadata:
        metadata = super().declare()
        inputs = [replace(spec, shape=(-1,) * len(spec.shape)) for spec in metadata.inputs]
        return replace(metadata, inputs=tuple(inputs))


class KeepsTheRequest(SaneBackend):
    def begin(self, request: InferRequest) -> None:
        super().begin(request)
        self.last = request


class HandsInputsThrough(SaneBackend):
    def finish(self, spec: TensorSpec, array: Array) -> Array:
        return array


class OneBuffer(SaneBackend):
    def __init__(self, name: str, url: ModelURL, options: OpenOptions) -> None:
        super().__init__(name, url, options)
        self.buffers: dict[Any, Array] = {}

    def finish(self, spec: TensorSpec, array: Array) -> Array:
        finished = super().finish(spec, array)
        buffer = self.buffers.setdefault((spec.name, finished.shape), finished)
        buffer[...] = finished
        return buffer


class OneForTwo(SaneBackend):
    def respond(self, request: InferRequest, outputs: Outputs) -> InferResponse:
        response = super().respond(request, outputs)
        if "again" in response.outputs and "scaled" in response.outputs:
            response.outputs["again"] = response.outputs["scaled"]
        return response


class ReadOnly(SaneBackend):
    def finish(self, spec: TensorSpec, array: Array) -> Array:
        finished = super().finish(spec, array)
        finished.flags.writeable = False
        return finished


class ColumnsFirst(SaneBackend):
    def finish(self, spec: TensorSpec, array: Array) -> Array:
        return np.array(super().finish(spec, array), order="F")


class Squeezes(SaneBackend):
    def finish(self, spec: TensorSpec, array: Array) -> Array:
        return np.squeeze(super().finish(spec, array))


class TextForBytes(SaneBackend):
    def finish(self, spec: TensorSpec, array: Array) -> Array:
        finished = super().finish(spec, array)
        if spec.dtype is DataType.BYTES:
            texts = [element.decode() for element in finished.ravel().tolist()]
            finished[...] = np.array(texts).reshape(finished.shape)
        return finished


class GivesAll(SaneBackend):
    def respond(self, request: InferRequest, outputs: Outputs) -> InferResponse:
        return super().respond(replace(request, outputs=None), outputs)


class Nobody(SaneBackend):
    def respond(self, request: InferRequest, outputs: Outputs) -> InferResponse:
        return replace(super().respond(request, outputs), backend_url="")


class WrongURL(Opener):
    def __call__(self, url: ModelURL, options: OpenOptions) -> Backend:
        try:
            return super().__call__(url, options)
        except LookupError as exc:
            raise InvalidURL(f"{url} names no model") from exc


class BlamesTheInput(SaneBackend):
    def failure(self, request: InferRequest, exc: Exception) -> InferError:
        return InvalidInput("the model failed")


class BlamesTheAnswer(SaneBackend):
    def failure(self, request: InferRequest, exc: Exception) -> InferError:
        return ProtocolError("the model failed")


class LetsThrough(SaneBackend):
    def infer(self, request: InferRequest) -> InferResponse:
        if self.name == "reshaped":
            return self.respond(request, self.compute(request))
        return super().infer(request)


class LosesTheCause(SaneBackend):
    def infer(self, request: InferRequest) -> InferResponse:
        try:
            return super().infer(request)
        except InferenceFailed as exc:
            raise InferenceFailed(str(exc)) from None


class TwoArguments(InferenceFailed):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")


class OwnErrors(SaneBackend):
    def failure(self, request: InferRequest, exc: Exception) -> InferError:
        return TwoArguments(7, "the model failed")


class ShowsInputs(SaneBackend):
    def failure(self, request: InferRequest, exc: Exception) -> InferError:
        return InferenceFailed(f"the model failed on {request.inputs}")


class LogsInputs(SaneBackend):
    def begin(self, request: InferRequest) -> None:
        super().begin(request)
        logging.getLogger("mutant").debug("called with %s", dict(request.inputs))


#: The rules, and the backends that break them; or what is declared of the sane one, and is not so.
MUTANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "metadata": ({"backend": OutputsBackwards},),
    "metadata-stays": ({"backend": MetadataAnew},),
    "names": ({"backend": NamesEscaped},),
    "declared": (
        {"unsupported": {"identity_fp32"}},
        {"unsupported": {"identity_fp64"}, "backend": NoDoubles},
        {"absent": {"deep"}, "opener": WrongURL},
    ),
    "readiness": ({"backend": NeverReady},),
    "description": ({"backend": DescribedOtherwise},),
    "datatypes": ({"backend": NoMinusZero},),
    "refused": ({"refused": {DataType.FP32: (math.nan,)}},),
    "empty": ({"backend": FlatWhereEmpty},),
    "ranks": ({"backend": NoScalars}, {"backend": Squeezes}),
    "memory": ({"backend": ReadsTheBase}, {"backend": WritesToInputs}),
    "random": ({"backend": WrongFromNineElements},),
    "answers": ({"backend": OffByOne},),
    "binding": ({"backend": InputsBackwards},),
    "wrong-inputs": ({"backend": AnyLength},),
    "inputs-untouched": ({"backend": KeepsTheRequest}, {"backend": WritesToInputs}),
    "outputs-own": ({"backend": HandsInputsThrough},),
    "outputs-fresh": ({"backend": OneBuffer},),
    "outputs-apart": ({"backend": OneForTwo},),
    "outputs-writable": ({"backend": ReadOnly},),
    "outputs-plain": ({"backend": ColumnsFirst},),
    "outputs-declared": ({"backend": Squeezes}, {"backend": TextForBytes}),
    "outputs-requested": ({"backend": GivesAll},),
    "who-answered": ({"backend": Nobody},),
    "not-found": ({"opener": WrongURL},),
    "model-failed": ({"backend": BlamesTheInput},),
    "errors-own": ({"backend": LetsThrough},),
    "errors-chained": ({"backend": LosesTheCause},),
    "errors-pickle": ({"backend": OwnErrors},),
    "errors-private": ({"backend": ShowsInputs}, {"backend": LogsInputs}),
    "loops-wrong-inputs": ({"backend": AnyLength},),
    "loops-opening": ({"opener": WrongURL},),
    "fallback-first": ({"backend": Nobody}, {"backend": OutputsBackwards}),
    "fallback-second": ({"backend": Nobody},),
    "failure-is-no-outage": ({"backend": BlamesTheAnswer},),
}
