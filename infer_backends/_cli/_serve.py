"""``infer-backends serve``: a real Triton on this machine, until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from infer_backends._cli._console import note
from infer_backends._cli._failures import Failure, traceback_option
from infer_backends._cli._signals import interruptible
from infer_backends._cli._triton import LocalServer, local_triton

#: Seconds between looks at whether the server still runs.
_WATCH = 0.5

_Command = TypeVar("_Command", bound=Callable[..., Any])

Sources = dict[str, str] | list[str] | str


def _port_option(protocol: str) -> Callable[[_Command], _Command]:
    label = "HTTP" if protocol == "http" else "gRPC"
    return click.option(
        f"--{protocol}-port",
        type=click.IntRange(1, 65535),
        metavar="PORT",
        help=f"The port of 127.0.0.1 for {label}; by default a free one.",
    )


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]FILE.onnx...|REPOSITORY")
@click.option(
    "--environment",
    type=click.Path(exists=True),
    metavar="PATH",
    help="The Python environment that the server runs from, with nvidia-pytriton, NumPy 1.x and "
    "onnxruntime. By default what INFER_BACKENDS_TRITON_ENVIRONMENT says, or this one.",
)
@_port_option("http")
@_port_option("grpc")
@click.option(
    "--model-control",
    type=click.Choice(["none", "explicit", "poll"]),
    help="Who says which models are loaded: nobody, so that all are (none); the commands load and "
    "unload, beginning with all of them (explicit); or what is in the repository, looked at again "
    "and again (poll).",
)
@traceback_option
def serve(
    models: tuple[str, ...],
    environment: str | None,
    http_port: int | None,
    grpc_port: int | None,
    model_control: str | None,
) -> None:
    """Serve ONNX files, or a Triton model repository, from a Triton on this machine.

    A file without a NAME is served under its own. The URLs of the models are printed on standard
    output, one a line. Listens on 127.0.0.1 only. Ctrl-C or SIGTERM ends it in order, which takes
    a few seconds.

    Example: infer-backends serve digits.onnx --http-port 8000 --grpc-port 8001
    """
    sources = parse_sources(models)
    try:
        with interruptible():
            server = local_triton(
                sources,
                environment=environment,
                http_port=http_port,
                grpc_port=grpc_port,
                model_control=model_control,
            )
            note("starting Triton ...")
            with server:
                _serve_until_interrupted(server, model_names(sources))
    except KeyboardInterrupt:
        note("Triton has stopped")


def _serve_until_interrupted(server: LocalServer, names: list[str]) -> None:
    try:
        for url in urls(server, names):
            click.echo(url)
        note("Triton is ready; Ctrl-C ends it")
        _watch(server)
    except KeyboardInterrupt:
        note(f"Stopping; open connections get up to {server.stop_timeout:g} seconds ...")
        raise


def parse_sources(arguments: tuple[str, ...]) -> Sources:
    """What to serve: one path, several, or a mapping from names to paths.

    Raises:
        click.UsageError: Some have a name and some have none, or a name stands twice.
    """
    named: dict[str, str] = {}
    paths: list[str] = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or Path(argument).exists():
            paths.append(argument)
        elif name in named:
            raise click.UsageError(f"the name {name!r} is given twice")
        else:
            named[name] = path
    if named and paths:
        raise click.UsageError(
            f"{paths[0]!r} has no name and others have one: write NAME=FILE for each of them"
        )
    return named or (paths[0] if len(paths) == 1 else paths)


def model_names(sources: Sources) -> list[str]:
    """The names under which the server has the models."""
    if isinstance(sources, dict):
        return list(sources)
    paths = [Path(path) for path in (sources if isinstance(sources, list) else [sources])]
    if len(paths) == 1 and paths[0].suffix != ".onnx":
        return sorted(folder.name for folder in paths[0].iterdir() if folder.is_dir())
    return [path.stem if path.suffix == ".onnx" else path.name for path in paths]


def urls(server: LocalServer, names: list[str]) -> list[str]:
    """The URLs of all models, over both protocols."""
    return [
        f"{base}/{quote(name, safe='')}"
        for name in names
        for base in (server.http_url, server.grpc_url)
    ]


def _watch(server: LocalServer) -> None:
    while server.pid is not None:
        time.sleep(_WATCH)
    raise Failure(f"Triton has ended by itself; its log ends: {server.log_tail(1)}")
