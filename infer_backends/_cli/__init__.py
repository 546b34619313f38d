"""The ``infer-backends`` command. Its packages, click and rich, come with the extra ``cli``."""

from __future__ import annotations

import os
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

    # Python has None for a stream that the shell closed; what is written there goes nowhere.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for good
        # A name that the terminal's encoding lacks is shown escaped; it must not end the command.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    cli.main(prog_name="infer-backends")
