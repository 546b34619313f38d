"""``infer-backends new-plugin``: a distribution to begin with, whose tests pass."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path

import click

from infer_backends._cli._console import one_line
from infer_backends._cli._failures import traceback_option
from infer_backends._cli._inputs import BadInput
from infer_backends._cli._json import document
from infer_backends._cli._new_plugin._names import (
    BadName,
    Names,
    make_names,
    parse_author,
    require_free,
    require_line,
)
from infer_backends._cli._new_plugin._template import KINDS, fill
from infer_backends._cli._new_plugin._writing import require_vacant, write_folder
from infer_backends._registry import REGISTRY, known_schemes


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default=KINDS[0],
    show_default=True,
    help="Where its models run: in the process that opens them, or on a server.",
)
@click.option("--scheme", help="The scheme of its URLs; by default NAME.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Where it is written: a folder that is new, or empty; by default infer-backends-NAME.",
)
@click.option("--author", metavar="TEXT", help="Who wrote it: NAME, or 'NAME <MAIL>'.")
@click.option("--description", help="One line of what it is.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@traceback_option
def new_plugin(
    name: str,
    kind: str,
    scheme: str | None,
    folder: Path | None,
    author: str | None,
    description: str | None,
    as_json: bool,
) -> None:
    """Write a plugin for a runtime: a distribution infer-backends-NAME, with tests that pass.

    A stand-in takes the place of the runtime, or of the server. What is to be replaced is marked
    YOURS.

    Example: infer-backends new-plugin my-runtime --scheme mine
    """
    try:
        names = make_names(name, scheme)
        require_free(names, _schemes(), _distributions(names))
        texts = fill(
            names,
            kind,
            description=require_line(
                "--description", description or f"{names.scheme}: models for infer-backends."
            ),
            author=None if author is None else parse_author(author),
        )
        target = folder or Path(names.distribution)
        # What stands in the way is said of the folder as it was named, and then it is made there.
        require_vacant(target)
    except (BadName, BadInput) as exc:
        raise click.UsageError(one_line(str(exc))) from exc
    write_folder(target.absolute(), texts)
    steps = next_steps(names, kind, target)
    if as_json:
        found = {
            "folder": str(target),
            "distribution": names.distribution,
            "package": names.package,
            "scheme": names.scheme,
            "files": list(texts),
            "next": steps,
        }
        click.echo(document(found), nl=False)
        return
    click.echo(f"{names.distribution} is in {one_line(str(target))}: install it, test it, try it\n")
    for step in steps:
        click.echo(f"  {one_line(step)}")
    click.echo("\nand put your runtime where it says so:\n")
    click.echo(f"  grep -rn YOURS: {one_line(shlex.quote(str(target)))}")


def next_steps(names: Names, kind: str, folder: Path) -> list[str]:
    """The commands that install a new plugin, test it, and try its URL."""
    example = f"{names.scheme}:{folder / 'examples' / 'double.py'}"
    serve = []
    if kind == "server":
        example = f"{names.scheme}://localhost:9000/double"
        serve = [f"python {shlex.quote(str(folder / 'examples' / 'server.py'))} &"]
    return [
        f"python -m pip install -e {shlex.quote(f'{folder}[testing]')}",
        f"python -m pytest {shlex.quote(str(folder))}",
        *serve,
        f"infer-backends run {shlex.quote(example)} --input 'x=[[1, 2, 3]]'",
    ]


def _schemes() -> dict[str, str]:
    """Who serves which scheme: the project's own plugins, and what is installed."""
    known = {
        scheme: requirement.partition("[")[0] for scheme, requirement in known_schemes().items()
    }
    installed = {row.scheme: row.distribution or "this program" for row in REGISTRY.plugins()}
    return {**known, **installed}


def _distributions(names: Names) -> dict[str, str]:
    """Why a distribution's name is taken, by name."""
    taken = {
        requirement.partition("[")[0]: "it comes with infer-backends"
        for requirement in known_schemes().values()
    }
    if names.distribution not in taken and find_spec(names.package) is not None:
        taken[names.distribution] = f"a package {names.package} is installed here"
    return taken
