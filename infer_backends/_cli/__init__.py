"""The ``infer-backends`` command. Its packages, click and rich, come with the extra ``cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say what it needs."""
    try:
        import click  # noqa: F401 - only whether it is there
        import rich  # noqa: F401
    except ImportError as exc:
        sys.stderr.write(
            f"error: the infer-backends command needs the package {exc.name or 'click'}: "
            "pip install 'infer-backends[cli]'\n"
        )
        raise SystemExit(1) from None
    from infer_backends._cli._app import cli

    # A name that the terminal's encoding lacks is shown escaped; it must not end the command.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    cli.main(prog_name="infer-backends")
