"""The plugin of the scheme ``onnx``: the hooks, and nothing that imports onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

from infer_backends.plugin import (
    Backend,
    ModelMetadata,
    ModelURL,
    OpenOptions,
    Option,
    hookimpl,
)

INFER_BACKENDS_API = 1

_OPTIONS = (
    Option(
        "device",
        str,
        "auto",
        "auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N; auto is CUDA where it works, else cpu",
    ),
    Option(
        "threads",
        int,
        0,
        "threads that one operator may use; 0 is the runtime's choice",
        minimum=0,
    ),
    Option(
        "optimization",
        str,
        "all",
        "how far the runtime rewrites the graph",
        ("none", "basic", "extended", "all"),
    ),
)


@hookimpl
def infer_backends_open(url: ModelURL, options: OpenOptions) -> Backend:
    """Open a local ``.onnx`` file."""
    from infer_backends_onnxruntime._backend import open_backend

    return open_backend(url, options)


@hookimpl
def infer_backends_metadata(url: ModelURL, options: OpenOptions) -> ModelMetadata | None:
    """What a local ``.onnx`` file says of its model, without loading it."""
    from infer_backends_onnxruntime._metadata import tell_metadata

    return tell_metadata(url, options)


@hookimpl
def infer_backends_options() -> Sequence[Option]:
    """The options of ``onnx:`` URLs."""
    return _OPTIONS


@hookimpl
def infer_backends_check() -> None:
    """Raise ``MissingDependency`` unless exactly one onnxruntime is installed."""
    from infer_backends_onnxruntime._install import require_installed

    require_installed()
