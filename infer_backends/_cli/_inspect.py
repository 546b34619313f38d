"""``infer-backends inspect``: what a model says of itself."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.table import Table

from infer_backends._cli._console import console, plain, table
from infer_backends._cli._failures import traceback_option
from infer_backends._cli._json import metadata_to_json
from infer_backends._cli._models import open_from_terminal, timeout_option, url_argument
from infer_backends._cli._strangers import strangers_aside
from infer_backends._tensors import ModelMetadata, TensorSpec


@click.command()
@url_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@timeout_option
@traceback_option
def inspect(url: str, as_json: bool, timeout: float | None) -> None:
    """Show the inputs and outputs of the model at URL."""
    with strangers_aside(), open_from_terminal(url, timeout) as model:
        metadata = model.metadata
    if as_json:
        click.echo(metadata_to_json(metadata), nl=False)
        return
    out = console()
    out.print(_summary(metadata))
    out.print()
    out.print(_tensors("input", metadata.inputs))
    out.print()
    out.print(_tensors("output", metadata.outputs))


def _summary(metadata: ModelMetadata) -> Table:
    limit = metadata.max_batch_size
    rows = [
        ("model", metadata.name),
        ("versions", ", ".join(metadata.versions) or "-"),
        ("platform", metadata.platform or "-"),
        ("batching", f"up to {limit} rows a request" if limit else "none of its own"),
    ]
    if metadata.decoupled:
        rows.append(("responses", "none or many for one request (decoupled)"))
    grid = Table.grid(padding=(0, 3, 0, 0))
    for name, value in (*rows, *metadata.parameters.items()):
        grid.add_row(plain(name, "dim"), plain(value))
    return grid


def _tensors(kind: str, specs: Sequence[TensorSpec]) -> Table:
    listing = table(kind, "datatype", "shape", "")
    for spec in specs:
        remark = "optional" if spec.optional else ""
        if spec.labels is not None:
            remark = f"{len(spec.labels)} labels"
        shape = ", ".join(map(str, spec.shape))
        listing.add_row(plain(spec.name, "bold"), plain(spec.dtype), plain(f"[{shape}]"), remark)
    return listing
