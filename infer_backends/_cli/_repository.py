"""``infer-backends models``, ``load`` and ``unload``: the models of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from infer_backends._cli._console import console, note, plain, table
from infer_backends._cli._failures import traceback_option
from infer_backends._cli._json import document
from infer_backends._cli._models import (
    server_from_terminal,
    server_timeout_option,
    url_argument,
)
from infer_backends._cli._strangers import strangers_aside
from infer_backends._errors import ModelNotFound
from infer_backends._server import Server
from infer_backends._server_answers import ModelState

_STYLES = {"READY": "green", "UNAVAILABLE": "red", "LOADING": "yellow", "UNLOADING": "yellow"}
_NOT_LOADED = "not loaded"
_LONGEST_REASON = 80


@click.command()
@url_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@server_timeout_option
@traceback_option
def models(url: str, as_json: bool, timeout: float | None) -> None:
    """List the models of the server at URL, and their states.

    If URL names a model, only that one.

    Example: infer-backends models http://localhost:8000
    """
    server, model, version = server_from_terminal(url, timeout)
    with strangers_aside(), server:
        states = _chosen(server.models(), model, version)
    if not states and model is not None:
        raise ModelNotFound(f"{server.url} has no model {model!r}{_of(version)}")
    if as_json:
        click.echo(document([asdict(state) for state in states]), nl=False)
    elif states:
        console().print(_table(states))
    else:
        click.echo(f"{server.url} has no models")


def _chosen(
    states: Sequence[ModelState], model: str | None, version: str | None
) -> list[ModelState]:
    return [
        state
        for state in states
        if model in {None, state.name} and version in {None, state.version}
    ]


def _of(version: str | None) -> str:
    return "" if version is None else f" of version {version!r}"


def _table(states: Sequence[ModelState]) -> Table:
    listing = table("model", "version", "state", "reason")
    for state in states:
        reason = " ".join(state.reason.split())
        if len(reason) > _LONGEST_REASON:
            reason = f"{reason[:_LONGEST_REASON]}..."
        listing.add_row(
            plain(state.name, "bold"),
            plain(state.version or "-"),
            plain(state.state or _NOT_LOADED, _STYLES.get(state.state, "dim")),
            plain(reason),
        )
    return listing


@click.command()
@url_argument
@click.option(
    "--config",
    metavar="@FILE|JSON",
    help="The model's configuration, in place of the server's: a JSON object, or a file of one.",
)
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="PATH=FILE",
    help="A file of the model, in place of the server's: PATH is its path in the model's folder, "
    "as 1/model.onnx. Needs --config. May be given several times.",
)
@server_timeout_option
@traceback_option
def load(url: str, config: str | None, files: tuple[str, ...], timeout: float | None) -> None:
    """Load the model at URL on its server, or load it again, and wait until it is ready.

    A Triton has to be started with --model-control-mode=explicit.

    Example: infer-backends load http://localhost:8000/digits
    """
    contents = dict(_read_file(argument) for argument in files)
    text = None if config is None else _read_config(config)
    server, model = _server_and_model(url, timeout)
    with strangers_aside(), server:
        server.load(model, config=text, files=contents)
    note(f"{server.url} has loaded {model!r}")


@click.command()
@url_argument
@click.option(
    "--dependents",
    is_flag=True,
    help="Also unload the models that were loaded for this one only, as those of an ensemble.",
)
@server_timeout_option
@traceback_option
def unload(url: str, dependents: bool, timeout: float | None) -> None:
    """Unload the model at URL from its server, and wait until that is done.

    Requests in flight end first. A Triton has to be started with --model-control-mode=explicit.

    Example: infer-backends unload http://localhost:8000/digits
    """
    server, model = _server_and_model(url, timeout)
    with strangers_aside(), server:
        server.unload(model, unload_dependents=dependents)
    note(f"{server.url} has unloaded {model!r}")


def _server_and_model(url: str, timeout: float | None) -> tuple[Server, str]:
    server, model, version = server_from_terminal(url, timeout)
    if model is None:
        raise click.UsageError(
            f"{server.url} names no model: write its name after the host, as {server.url}/digits"
        )
    if version is not None:
        raise click.UsageError(
            f"a server loads and unloads all versions of {model!r} that its configuration says: "
            "leave the version out"
        )
    return server, model


def _read_config(argument: str) -> str:
    if not argument.startswith("@"):
        return argument
    try:
        return _read(argument[1:]).decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"the file {argument[1:]!r} is no UTF-8 text") from None


def _read_file(argument: str) -> tuple[str, bytes]:
    path, equals, file = argument.partition("=")
    if not equals or not path or not file:
        raise click.UsageError(f"--file {argument!r}: expected PATH=FILE, as 1/model.onnx=m.onnx")
    return path, _read(file)


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as exc:
        raise click.UsageError(f"the file {file!r} cannot be read: {exc.strerror}") from exc
