"""Triton Inference Server for ``infer_backends``: over HTTP, over gRPC, and on this machine.

The plugins are found by URL scheme. What is here besides, imported when it is first asked for:
:class:`LocalTriton` serves models on this machine, :class:`TritonRemoteModel` is the class that
this project grew out of.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infer_backends_triton._local import LocalTriton
    from infer_backends_triton._remote_model import TritonRemoteModel

__all__ = ["LocalTriton", "TritonRemoteModel"]

_MODULES = {"LocalTriton": "_local", "TritonRemoteModel": "_remote_model"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
