"""A model, or a server, as the commands take it: its URL, and how it is opened."""

from __future__ import annotations

from pathlib import Path

import click

from infer_backends._cli._strangers import strangers_aside
from infer_backends._model import Model
from infer_backends._open import open_model, parse_urls
from infer_backends._open_server import open_server, split_model
from infer_backends._server import Server
from infer_backends._url import ModelURL

url_argument = click.argument("url")
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="The total time for opening the model, and for a call of it; 60 by default.",
)
server_timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="The total time of the command; 60 by default.",
)
input_option = click.option(
    "--input",
    "arguments",
    multiple=True,
    metavar="[NAME=]@FILE|[NAME=]VALUE",
    help="An input: from a .npy, .npz (FILE.npz:KEY for one array of it) or .json file, or as "
    "JSON. A model with one input needs no NAME; without it, a .npz file or a JSON object gives "
    "inputs by name. May be given several times.",
)


def urls_from_terminal(url: str) -> list[ModelURL]:
    """What a ``URL`` argument names: a URL, several in one argument, or a path."""
    # An argument that names a file is one path, whatever spaces are in it.
    path = Path(url)
    if url.lower().endswith(".onnx") and path.is_file():
        return parse_urls(path)
    return parse_urls(url)


def open_from_terminal(url: str, timeout: float | None) -> Model:
    """Open the model of a ``URL`` argument."""
    return open_model(urls_from_terminal(url), timeout=timeout)


def server_from_terminal(url: str, timeout: float | None) -> tuple[Server, str | None, str | None]:
    """Open the server of a ``URL`` argument.

    Returns:
        The server; the model, and its version, that the URL names besides; None for none.
    """
    urls = urls_from_terminal(url)
    if len(urls) > 1:
        raise click.UsageError("this is about one server: give the URL of one")
    server, model, version = split_model(urls[0])
    with strangers_aside():
        return open_server(server, timeout=timeout), model, version
