"""A model as the commands take it: its URL, and how it is opened."""

from __future__ import annotations

from pathlib import Path

import click

from infer_backends._model import Model
from infer_backends._open import open_model

url_argument = click.argument("url")
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="The total time for opening the model, and for a call of it; 60 by default.",
)


def open_from_terminal(url: str, timeout: float | None) -> Model:
    """Open the model of a ``URL`` argument: a URL, several in one argument, or a path."""
    # An argument that names a file is one path, whatever spaces are in it.
    path = Path(url)
    if url.lower().endswith(".onnx") and path.is_file():
        return open_model(path, timeout=timeout)
    return open_model(url, timeout=timeout)
