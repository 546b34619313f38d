"""What all tests share: real servers, each started once, when the first test asks for it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from tests.servers import environment, repository

if TYPE_CHECKING:
    from infer_backends_triton._local import LocalTriton
    from tests.servers.mlserver import MLServer

Protocol = Literal["http", "grpc"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a shell's background job; what the tests start would inherit it, and be interrupted in
    # vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # As under nohup.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def triton_environment() -> Path:
    """The Python environment of the server, which is never the client's."""
    return environment.find_or_build()


@pytest.fixture(scope="session")
def triton_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model repository of ``tests.servers.repository``; not to be changed."""
    return repository.write_repository(tmp_path_factory.mktemp("triton") / "models")


@pytest.fixture(scope="session")
def triton(triton_environment: Path, triton_repository: Path) -> Iterator[LocalTriton]:
    """A running Triton with that repository; a test that stops it starts one of its own."""
    # Not every environment of the tests has this plugin.
    from infer_backends_triton._local import LocalTriton

    # The configurations are complete; completing them would start every model twice.
    arguments = ["--disable-auto-complete-config"]
    with LocalTriton(
        triton_repository,
        environment=triton_environment,
        arguments=arguments,
        startup_timeout=120,
    ) as server:
        yield server


@pytest.fixture(scope="session")
def mlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLServer]:
    """A running MLServer; a test that stops it starts one of its own."""
    from tests.servers.mlserver import mlserver_in

    found = environment.find_or_build("mlserver")
    with mlserver_in(found, tmp_path_factory.mktemp("mlserver")) as server:
        yield server


@pytest.fixture(scope="session")
def controlled_triton(
    triton_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LocalTriton, Path]]:
    """A running Triton that loads and unloads models when it is told to, and its repository.

    Tests may add models to the repository, and leave the others loaded.
    """
    from infer_backends_triton._local import LocalTriton

    models = repository.write_repository(
        tmp_path_factory.mktemp("controlled") / "models", only=["batching", "versions"]
    )
    with LocalTriton(
        models,
        environment=triton_environment,
        arguments=["--disable-auto-complete-config"],
        startup_timeout=120,
        model_control="explicit",
    ) as server:
        yield server, models


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Each of the two protocols in turn."""
    chosen: Protocol = request.param
    return chosen


@pytest.fixture(scope="session")
def triton_url(triton: LocalTriton) -> Callable[..., str]:
    """``triton_url(model, protocol)``: the URL of a model, over "http" or "grpc"."""

    def url(model: str, protocol: Protocol = "http") -> str:
        base = triton.http_url if protocol == "http" else triton.grpc_url
        return f"{base}/{model}"

    return url
