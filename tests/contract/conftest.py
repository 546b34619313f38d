"""The reference models as ONNX files, and a real Triton that serves the same files."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from infer_backends.testing import REFERENCE_MODELS
from infer_backends_triton._local import LocalTriton
from tests.servers import repository
from tests.servers.tls import tls_proxy


def url_of(base: str, other: str) -> Callable[[str], str]:
    """BF16 is served by a Python model, since onnxruntime cannot."""
    return lambda name: f"{other}/reference_bf16" if name == "identity_bf16" else f"{base}/{name}"


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    """One ONNX file for each reference model; not to be written to."""
    return REFERENCE_MODELS["mixed"].onnx_file.parent


def served(folder: Path) -> dict[str, Path]:
    """The reference models that Triton serves as they are: it would make a scalar a [1]."""
    no_such = {"identity_bf16", "scalar"}
    return {path.stem: path for path in folder.glob("*.onnx") if path.stem not in no_such}


@pytest.fixture(scope="session")
def reference_triton(reference_folder: Path, triton_environment: Path) -> Iterator[LocalTriton]:
    """A real Triton that serves the reference models which onnxruntime can run."""
    with LocalTriton(
        served(reference_folder), environment=triton_environment, startup_timeout=300
    ) as server:
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
    files = served(reference_folder)
    bf16 = repository.write_repository(folder / "models", only=["reference_bf16"])
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
        yield lambda name: f"{url_of(base, other)(name)}?{ca_option}"


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
        yield lambda name: f"{url_of(base, other)(name)}?{ca_option}"
