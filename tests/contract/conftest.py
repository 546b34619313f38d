"""The reference models as ONNX files, and a real Triton that serves the same files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import onnx
import pytest
import trustme
from onnx import TensorProto, helper

from infer_backends import DataType, TensorSpec
from infer_backends.testing import REFERENCE_MODELS, ReferenceModel
from infer_backends_triton._local import LocalTriton
from tests.servers import repository

ONNX_TYPES = {
    DataType.BOOL: TensorProto.BOOL,
    DataType.UINT8: TensorProto.UINT8,
    DataType.UINT16: TensorProto.UINT16,
    DataType.UINT32: TensorProto.UINT32,
    DataType.UINT64: TensorProto.UINT64,
    DataType.INT8: TensorProto.INT8,
    DataType.INT16: TensorProto.INT16,
    DataType.INT32: TensorProto.INT32,
    DataType.INT64: TensorProto.INT64,
    DataType.FP16: TensorProto.FLOAT16,
    DataType.FP32: TensorProto.FLOAT,
    DataType.FP64: TensorProto.DOUBLE,
    DataType.BF16: TensorProto.BFLOAT16,
    DataType.BYTES: TensorProto.STRING,
}
MIXED = [
    helper.make_node("Add", ["image", "image"], ["scaled"]),
    helper.make_node("Identity", ["codes"], ["copied"]),
    helper.make_node("Identity", ["scaled"], ["again"]),
]


def tensor(spec: TensorSpec) -> onnx.ValueInfoProto:
    dims = [None if size == -1 else size for size in spec.shape]
    return helper.make_tensor_value_info(spec.name, ONNX_TYPES[spec.dtype], dims)


def write(reference: ReferenceModel, folder: Path) -> None:
    nodes = MIXED if reference.name == "mixed" else [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(
        nodes, "reference", [*map(tensor, reference.inputs)], [*map(tensor, reference.outputs)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.save(model, folder / f"{reference.name}.onnx")


@pytest.fixture(scope="session")
def reference_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One ONNX file for each reference model."""
    folder = tmp_path_factory.mktemp("reference")
    for reference in REFERENCE_MODELS.values():
        write(reference, folder)
    return folder


@pytest.fixture(scope="session")
def reference_triton(reference_folder: Path, triton_environment: Path) -> Iterator[LocalTriton]:
    """A real Triton that serves the reference models which onnxruntime can run."""
    files = {path.stem: path for path in reference_folder.glob("*.onnx") if "bf16" not in path.name}
    with LocalTriton(files, environment=triton_environment, startup_timeout=300) as server:
        yield server


@pytest.fixture(scope="session")
def reference_url_over_tls(
    reference_folder: Path, triton_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """The URLs of the reference models on real Tritons that speak gRPC over TLS."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    ca, cert, key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
    authority.cert_pem.write_to_path(str(ca))
    cert.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    files = {path.stem: path for path in reference_folder.glob("*.onnx") if "bf16" not in path.name}
    bf16 = repository.write_repository(folder / "models", only=["identity_bf16"])
    flags = ["--grpc-use-ssl=1", f"--grpc-server-cert={cert}", f"--grpc-server-key={key}"]
    # As answers spell it, which say who gave them.
    quoted = quote(str(ca), safe="")
    with ExitStack() as servers:
        base, other = (
            servers.enter_context(
                LocalTriton(
                    models,
                    environment=triton_environment,
                    arguments=flags,
                    startup_timeout=300,
                )
            ).grpc_url.replace("grpc://", "grpcs://")
            for models in (files, bf16)
        )
        yield lambda name: f"{other if name == 'identity_bf16' else base}/{name}?ca={quoted}"
