"""ONNX files as models of Triton's Python backend: pure, but for the writing of files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer_backends.plugin import (
    DataType,
    InvalidInput,
    MissingDependency,
    TensorSpec,
    UnsupportedOperation,
    with_labels,
)
from infer_backends_triton._serve.environment import PROGRAMS, Environment

_LABEL_FILE = "labels_{}.txt"
_DATATYPES = {
    "tensor(bool)": DataType.BOOL,
    "tensor(uint8)": DataType.UINT8,
    "tensor(uint16)": DataType.UINT16,
    "tensor(uint32)": DataType.UINT32,
    "tensor(uint64)": DataType.UINT64,
    "tensor(int8)": DataType.INT8,
    "tensor(int16)": DataType.INT16,
    "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64,
    "tensor(float16)": DataType.FP16,
    "tensor(float)": DataType.FP32,
    "tensor(double)": DataType.FP64,
    "tensor(string)": DataType.BYTES,
}


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of an ONNX file, in its order, with its shapes and its labels."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def read_signatures(paths: Sequence[Path], environment: Environment) -> list[Signature]:
    """What onnxruntime, in the server's environment, says of each of the files at ``paths``.

    Raises:
        MissingDependency: onnxruntime is not installed there.
        InvalidInput: A file is no ONNX model that it can load.
        UnsupportedOperation: A tensor of a type that Triton's Python backend cannot pass on.
    """
    if not paths:
        return []
    facts = environment.facts
    if not {"onnxruntime", "onnxruntime-gpu"} & facts.packages.keys():
        raise MissingDependency(
            f"to serve {str(paths[0])!r}, onnxruntime has to be in {facts.prefix}; install it "
            f"with: {facts.pip_install('onnxruntime')}"
        )
    answers = environment.ask("describe_onnx.py", *map(str, paths))
    return [_signature(path, answer) for path, answer in zip(paths, answers, strict=True)]


def _signature(path: Path, answer: Mapping[str, Any]) -> Signature:
    if "error" in answer:
        raise InvalidInput(f"onnxruntime cannot load {str(path)!r}: {answer['error']}")
    return Signature(
        tuple(_spec(path, "input", tensor) for tensor in answer["inputs"]),
        with_labels(
            tuple(_spec(path, "output", tensor) for tensor in answer["outputs"]), answer["notes"]
        ),
    )


def _spec(path: Path, role: str, tensor: Mapping[str, Any]) -> TensorSpec:
    dtype = _DATATYPES.get(tensor["type"])
    if dtype is None:
        raise UnsupportedOperation(
            f"{str(path)!r} cannot be served by a local Triton: its {role} {tensor['name']!r} is a "
            f"{tensor['type']}; expected a tensor of {', '.join(map(str, _DATATYPES.values()))}: "
            f"{_remedy(tensor['type'])}"
        )
    shape = tuple(d if isinstance(d, int) and d > 0 else -1 for d in tensor["shape"])
    return TensorSpec(tensor["name"], dtype, shape)


def _remedy(onnx_type: str) -> str:
    if onnx_type.startswith("tensor("):
        return "convert it inside the graph, with a Cast node"
    return "export the model with plain tensors (from scikit-learn: zipmap=False)"


def write_model(folder: Path, name: str, path: Path, signature: Signature, threads: int) -> None:
    """Write, into ``folder``, a Triton model that runs the ONNX file at ``path``.

    The file is read where it lies, so that weights beside it are found.
    """
    version = folder / "1"
    version.mkdir(parents=True)
    shutil.copyfile(PROGRAMS / "onnx_model.py", version / "model.py")
    (version / "source.json").write_text(
        json.dumps({"path": str(path), "threads": threads}), encoding="utf-8"
    )
    (folder / "config.pbtxt").write_text(render_config(name, signature), encoding="utf-8")
    for number, labels in _label_files(signature).items():
        text = "".join(f"{label}\n" for label in labels)
        (folder / _LABEL_FILE.format(number)).write_text(text, encoding="utf-8")


def render_config(name: str, signature: Signature) -> str:
    """The model configuration, in protobuf's text form.

    Labels are there twice: in files, for the server's own classification, and as parameters, which
    clients can read.

    ``max_batch_size`` is 0: the shapes are the file's own. Triton has no tensors of rank 0 (it
    refuses a ``reshape`` to ``[]`` without batching), so those have the shape ``[1]``.
    """
    return "\n".join(
        (
            f"name: {_quote(name)}",
            'backend: "python"',
            "max_batch_size: 0",
            f"input {_render_tensors(signature.inputs)}",
            f"output {_render_tensors(signature.outputs, _label_files(signature))}",
            *_render_labels(signature),
            "instance_group [ { kind: KIND_CPU count: 1 } ]",
            "",
        )
    )


def _label_files(signature: Signature) -> dict[int, tuple[str, ...]]:
    """The labels of the outputs that have a file of them, which has a line for each."""
    return {
        number: spec.labels
        for number, spec in enumerate(signature.outputs)
        if spec.labels and not any("\n" in label or "\r" in label for label in spec.labels)
    }


def _render_labels(signature: Signature) -> Iterator[str]:
    for spec in signature.outputs:
        if spec.labels:
            key, text = f"labels.{spec.name}", json.dumps(spec.labels)
            yield f"parameters {{ key: {_quote(key)} value {{ string_value: {_quote(text)} }} }}"


def _render_tensors(specs: Sequence[TensorSpec], labelled: Container[int] = ()) -> str:
    lines = []
    for number, spec in enumerate(specs):
        dtype = "STRING" if spec.dtype is DataType.BYTES else spec.dtype.value
        dims = list(spec.shape) or [1]
        file = (
            f" label_filename: {_quote(_LABEL_FILE.format(number))}" if number in labelled else ""
        )
        lines.append(
            f"  {{ name: {_quote(spec.name)} data_type: TYPE_{dtype} dims: {dims}{file} }}"
        )
    return "[\n" + ",\n".join(lines) + "\n]"


def _quote(text: str) -> str:
    """``text`` as a string of protobuf's text form: other bytes than printable ASCII as octal."""
    plain = range(0x20, 0x7F)
    return (
        '"'
        + "".join(
            chr(byte) if byte in plain and byte not in b'"\\' else f"\\{byte:03o}"
            for byte in text.encode()
        )
        + '"'
    )
