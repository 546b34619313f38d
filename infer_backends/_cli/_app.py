"""The commands, together."""

from __future__ import annotations

import click

from infer_backends._cli._check import check
from infer_backends._cli._console import log_as_notes
from infer_backends._cli._demo import demo
from infer_backends._cli._failures import App, traceback_option
from infer_backends._cli._inspect import inspect
from infer_backends._cli._map import map_
from infer_backends._cli._new_plugin import new_plugin
from infer_backends._cli._plugins import plugins
from infer_backends._cli._repository import load, models, unload
from infer_backends._cli._run import run
from infer_backends._cli._serve import serve
from infer_backends._cli._stats import stats
from infer_backends._version import __version__


@click.group(
    cls=App,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[
        check,
        demo,
        plugins,
        new_plugin,
        inspect,
        map_,
        run,
        serve,
        models,
        load,
        unload,
        stats,
    ],
)
@click.version_option(__version__, prog_name="infer-backends")
@traceback_option
@click.pass_context
def cli(ctx: click.Context) -> None:
    """One URL names a model, wherever it runs. This command opens it from a terminal.

    Exit codes: 0, all went well; 1, what was asked for did not work out; 2, it was asked for
    wrongly.
    """
    ctx.with_resource(log_as_notes())
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
