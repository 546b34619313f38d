"""Errors as the shell sees them: one line on standard error, and an exit code.

0: all went well. 1: what was asked for did not work out. 2: it was asked for wrongly, and another
command line would help. 130: Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from infer_backends._cli._console import note
from infer_backends._errors import InferError, InvalidInput, InvalidURL, UnknownScheme

FAILED, USAGE, INTERRUPTED = 1, 2, 130

#: What the system says of a file or a terminal that takes no more.
_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_ASKED_WRONGLY = (InvalidURL, UnknownScheme, InvalidInput)


class Failure(click.ClickException):
    """Something did not work out, and this line says what; exit code 1."""

    exit_code = FAILED


class Settings:
    """What options of every command say.

    Attributes:
        traceback: Whether an error shows where it came from.
    """

    def __init__(self) -> None:
        self.traceback = False


def _show_traceback(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Settings).traceback = True


traceback_option = click.option(
    "--traceback",
    is_flag=True,
    expose_value=False,
    callback=_show_traceback,
    help="Show where an error came from.",
)


class App(click.Group):
    """A group of commands whose errors are one line each."""

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit with its code."""
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        settings = Settings()
        try:
            code = super().main(args, prog_name, standalone_mode=False, obj=settings, **extra)
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - the edge of the program
            code = report(exc, settings)
        sys.exit(code if isinstance(code, int) else 0)


def report(error: BaseException, settings: Settings) -> int:
    """Say what went wrong, and return the exit code."""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return INTERRUPTED
    if isinstance(error, OSError) and error.errno in {errno.EPIPE, *_CANNOT_WRITE}:
        # Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            # Whoever read the output has gone.
            return FAILED
    line, *rest = describe(error).splitlines() or [""]
    if settings.traceback:
        traceback.print_exception(error)
    elif rest:
        line += " (the option --traceback shows the rest)"
    note(f"error: {line}")
    return exit_code(error)


def describe(error: BaseException) -> str:
    """The one line for an error."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
        return f"{error.format_message().rstrip('.')} (see {hint!r})"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, InferError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        return f"the output cannot be written: {os.strerror(error.errno)}"
    # The text of a stranger is not known to be free of secrets.
    return f"unexpected {type(error).__name__}, a bug; the option --traceback shows where"


def exit_code(error: BaseException) -> int:
    """The exit code for an error."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    return USAGE if isinstance(error, _ASKED_WRONGLY) else FAILED
