"""The reference models as ONNX files, and a real Triton that serves the same files."""

from __future__ import annotations

import ssl
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
from tests.servers.tls import tls_proxy

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
def one_by_one_triton(
    tmp_path_factory: pytest.TempPathFactory, triton_environment: Path
) -> Iterator[LocalTriton]:
    """A real Triton whose models take one row at a time, so that every batch is split."""
    with LocalTriton(
        repository.write_one_by_one(tmp_path_factory.mktemp("one-by-one") / "models"),
        environment=triton_environment,
        arguments=["--disable-auto-complete-config"],
        startup_timeout=300,
    ) as server:
        yield server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who vouches for the servers of these tests."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_option(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The option of a URL that has that authority trusted, as answers spell it."""
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    return f"ca={quote(str(ca), safe='')}"


@pytest.fixture(scope="session")
def reference_grpcs_url(
    reference_folder: Path,
    triton_environment: Path,
    tmp_path_factory: pytest.TempPathFactory,
    authority: trustme.CA,
    ca_option: str,
) -> Iterator[Callable[[str], str]]:
    """The URLs of the reference models on real Tritons that speak gRPC over TLS."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("127.0.0.1")
    cert, key = folder / "server.pem", folder / "server.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    files = {path.stem: path for path in reference_folder.glob("*.onnx") if "bf16" not in path.name}
    bf16 = repository.write_repository(folder / "models", only=["identity_bf16"])
    flags = ["--grpc-use-ssl=1", f"--grpc-server-cert={cert}", f"--grpc-server-key={key}"]
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
        yield lambda name: f"{other if name == 'identity_bf16' else base}/{name}?{ca_option}"


@pytest.fixture(scope="session")
def reference_https_url(
    reference_triton: LocalTriton, triton: LocalTriton, authority: trustme.CA, ca_option: str
) -> Iterator[Callable[[str], str]]:
    """The URLs of the reference models behind proxies that speak TLS: Triton's HTTP has none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with ExitStack() as proxies:
        base, other = (
            f"https://localhost:{proxies.enter_context(tls_proxy(server.ports.http, context))}"
            for server in (reference_triton, triton)
        )
        yield lambda name: f"{other if name == 'identity_bf16' else base}/{name}?{ca_option}"
