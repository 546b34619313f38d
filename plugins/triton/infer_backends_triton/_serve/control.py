"""The ``model_control`` argument of ``LocalTriton``: who says which models are loaded. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from infer_backends.plugin import InvalidInput

_MODES = ("none", "explicit", "poll")
_FLAG = "--model-control-mode"


def control_arguments(mode: str | None, others: Sequence[str]) -> tuple[str, ...]:
    """The arguments for tritonserver that a mode stands for.

    Args:
        mode: The mode; None for none of these arguments.
        others: The arguments that the caller gives.

    Raises:
        InvalidInput: There is no such mode, or ``others`` have one, too.
    """
    if mode is None:
        return ()
    if mode not in _MODES:
        raise InvalidInput(
            f"model_control= is {' or '.join(map(repr, _MODES))}, not {str(mode)[:40]!r}"
        )
    if any(argument.partition("=")[0] == _FLAG for argument in others):
        raise InvalidInput(f"{_FLAG} is given twice: leave it out of arguments=")
    # Left alone, a server of this mode begins without any model.
    load = ("--load-model=*",) if mode == "explicit" else ()
    return (f"{_FLAG}={mode}", *load)
