"""A model repository for a real MLServer: a small model for what a client must get right.

================  ==============================================================================
model             what it does
================  ==============================================================================
identity_DTYPE    x [-1, -1] -> y, for every datatype but BF16: the reference models
mixed, odd_names, deep, reshaped, slow
                  the reference models of that name
scalar_fp32       the reference model ``scalar``
scalar            x FP64 [] -> y
roots             x FP32 [-1, -1] -> y = the square roots, through NumPy as most of its models
batching          x FP32 [-1, 3] -> y, rows INT64 [-1]: how many rows the batch had that it saw
constants         no inputs -> one output for each datatype that has typed contents
delayed           x FP32 [-1], seconds FP32 [1] -> y = x, after so many seconds
failing           kind BYTES [1]: "exception", "error", "missing"; anything else comes back as y
versions          x FP32 [-1] -> y = x times the version, 1 or 2
reordered         x FP32 [-1] -> a = x, b = 2 x; the answer has b, a, and c that nobody knows
loading           x FP32 [-1] -> y; it is never ready
undeclared        its settings declare neither inputs nor outputs
================  ==============================================================================
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from infer_backends.testing import REFERENCE_MODELS

#: What MLServer has, and what typed contents can carry.
DTYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
)  # fmt: skip
#: The outputs of the model ``constants``, by datatype: the extremes of each.
CONSTANTS: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 2**8 - 1],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-(2**7), 2**7 - 1],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP32": [-1.5, 2.0**127],
    "FP64": [-0.1, 1e308],
    "BYTES": ["", "naïve\0🦜"],
}

#: The model that is never ready.
LOADING = "loading"

_RUNTIMES = """\
import asyncio

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError, MLServerError
from mlserver.types import InferenceResponse, ResponseOutput


class Model(MLModel):
    async def predict(self, payload):
        given = {tensor.name: tensor for tensor in payload.inputs}
        outputs = await self.compute(given)
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[self.output(name, value) for name, value in outputs.items()],
        )

    def output(self, name, value):
        if isinstance(value, ResponseOutput):
            return value
        if hasattr(value, "dtype"):
            encoded = NumpyCodec.encode_output(name, value)
            encoded.shape = list(value.shape)
            return encoded
        # A tensor that came, passed on as it is.
        shape, datatype = list(value.shape), value.datatype
        return ResponseOutput(name=name, shape=shape, datatype=datatype, data=value.data)


class Identity(Model):
    async def compute(self, given):
        return {"y": given["x"]}


class Roots(Model):
    async def compute(self, given):
        x = NumpyCodec.decode_input(given["x"])
        with np.errstate(invalid="ignore"):
            return {"y": np.sqrt(x)}


class Mixed(Model):
    async def compute(self, given):
        image = NumpyCodec.decode_input(given["image"])
        codes = NumpyCodec.decode_input(given["codes"])
        return {"scaled": image * 2, "copied": codes, "again": image * 2}


class Crossed(Model):
    async def compute(self, given):
        return {"call:0": given["default_x:0"], "out-1": given["model/ids.1"]}


class Reshaped(Model):
    async def compute(self, given):
        return {"y": NumpyCodec.decode_input(given["x"]).reshape(2, 3)}


class Slow(Model):
    async def compute(self, given):
        rounds = int(NumpyCodec.decode_input(given["rounds"])[0])
        weights = np.full((128, 128), 1 / 128, np.float32)
        matrix = weights
        for _ in range(rounds):
            matrix = matrix @ weights
            # All models run in one event loop.
            await asyncio.sleep(0)
        return {"total": matrix.sum(axis=0)[:1]}


class Batching(Model):
    async def compute(self, given):
        x = NumpyCodec.decode_input(given["x"])
        return {"y": x, "rows": np.full(len(x), len(x), np.int64)}


class Constants(Model):
    async def compute(self, given):
        constants = self.settings.parameters.extra["constants"]
        outputs = {}
        for datatype, data in constants.items():
            if datatype == "BYTES":
                data = [text.encode() for text in data]
            name, shape = datatype.lower(), [len(data)]
            outputs[name] = ResponseOutput(name=name, shape=shape, datatype=datatype, data=data)
        return outputs


class Delayed(Model):
    async def compute(self, given):
        await asyncio.sleep(float(NumpyCodec.decode_input(given["seconds"])[0]))
        return {"y": given["x"]}


class Failing(Model):
    async def compute(self, given):
        (kind,) = StringCodec.decode_input(given["kind"])
        if kind == "exception":
            raise ValueError("the model raised a plain exception")
        if kind == "error":
            raise InferenceError("the model raised an InferenceError")
        if kind == "missing":
            raise MLServerError("the model misses a part of itself", 500)
        return {"y": given["kind"]}


class Versions(Model):
    async def compute(self, given):
        return {"y": NumpyCodec.decode_input(given["x"]) * int(self.version)}


class Reordered(Model):
    async def compute(self, given):
        x = NumpyCodec.decode_input(given["x"])
        return {"b": x * 2, "a": x, "c": x}


class Loading(Identity):
    async def load(self):
        return False
"""

Tensors = Sequence[tuple[str, str, Sequence[int]]]


def write_models(
    folder: Path, http_port: int, grpc_port: int, only: Collection[str] = ()
) -> list[str]:
    """Write the server's settings, and the models, or only those named.

    Returns:
        The names of those that get ready.
    """
    settings = {
        "host": "127.0.0.1",
        "http_port": http_port,
        "grpc_port": grpc_port,
        # Without it there is no third port.
        "metrics_endpoint": None,
        # Models run in the server's own process.
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "runtimes.py").write_text(_RUNTIMES)
    vector, matrix = ("FP32", (-1,)), ("FP32", (-1, -1))
    for dtype in DTYPES:
        inputs, outputs = ([(name, dtype, (-1, -1))] for name in "xy")
        _write(folder, f"identity_{dtype.lower()}", inputs, outputs, "Identity")
    _write_references(folder)
    _write(folder, "scalar", [("x", "FP64", ())], [("y", "FP64", ())], "Identity")
    _write(folder, "roots", [("x", *matrix)], [("y", *matrix)], "Roots")
    _write(
        folder, "batching", [("x", "FP32", (-1, 3))],
        [("y", "FP32", (-1, 3)), ("rows", "INT64", (-1,))], "Batching",
        max_batch_size=4, max_batch_time=10.0,
    )  # fmt: skip
    _write(
        folder, "constants", [], [(dtype.lower(), dtype, (2,)) for dtype in CONSTANTS], "Constants",
        parameters={"extra": {"constants": CONSTANTS}},
    )  # fmt: skip
    delayed = [("x", *vector), ("seconds", "FP32", (1,))]
    _write(folder, "delayed", delayed, [("y", *vector)], "Delayed")
    _write(folder, "failing", [("kind", "BYTES", (1,))], [("y", "BYTES", (1,))], "Failing")
    for version in "12":
        _write(
            folder, "versions", [("x", *vector)], [("y", *vector)], "Versions",
            parameters={"version": version},
        )  # fmt: skip
    _write(folder, "reordered", [("x", *vector)], [("a", *vector), ("b", *vector)], "Reordered")
    _write(folder, LOADING, [("x", *vector)], [("y", *vector)], "Loading")
    _write(folder, "undeclared", [], [], "Identity")
    for path in folder.iterdir():
        if path.is_dir() and only and path.name not in only:
            shutil.rmtree(path)
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != LOADING)


def _write_references(folder: Path) -> None:
    runtimes = {
        "mixed": "Mixed",
        "odd_names": "Crossed",
        "deep": "Identity",
        "reshaped": "Reshaped",
        "slow": "Slow",
        "scalar": "Identity",
    }
    for name, runtime in runtimes.items():
        reference = REFERENCE_MODELS[name]
        given, made = (
            [(spec.name, spec.dtype.value, spec.shape) for spec in specs]
            for specs in (reference.inputs, reference.outputs)
        )
        _write(folder, "scalar_fp32" if name == "scalar" else name, given, made, runtime)


def _write(
    folder: Path, name: str, inputs: Tensors, outputs: Tensors, runtime: str, **settings: Any
) -> None:
    version = settings.get("parameters", {}).get("version", "1")
    path = folder / name / version
    path.mkdir(parents=True)
    described: dict[str, Any] = {"name": name, "implementation": f"runtimes.{runtime}"}
    for key, tensors in (("inputs", inputs), ("outputs", outputs)):
        described[key] = [
            {"name": tensor, "datatype": dtype, "shape": shape} for tensor, dtype, shape in tensors
        ]
    (path / "model-settings.json").write_text(json.dumps(described | settings))
