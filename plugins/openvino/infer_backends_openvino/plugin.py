"""The plugin of the scheme ``openvino``: the hooks, and nothing that imports OpenVINO."""

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
        "CPU",
        "CPU, GPU, GPU.1, NPU, AUTO or the like, or several as in AUTO:GPU,CPU",
    ),
    Option(
        "precision",
        str,
        "exact",
        "what it computes in: exact is FP32 on every device, and refuses FP64; fp32 takes FP64 as "
        "FP32; device is the device's choice, often the fastest",
        ("exact", "fp32", "fp16", "bf16", "device"),
    ),
    Option(
        "hint",
        str,
        "latency",
        "what the device is set up for: one call soon, or many calls at the same time",
        ("latency", "throughput"),
    ),
    Option(
        "threads",
        int,
        0,
        "threads that the CPU may use; 0 is the runtime's choice",
        minimum=0,
    ),
    Option(
        "cache",
        str,
        "",
        "a folder for compiled models, so that they open faster the next time; empty for none",
    ),
)


@hookimpl
def infer_backends_open(url: ModelURL, options: OpenOptions) -> Backend:
    """Open a local model file."""
    from infer_backends_openvino._backend import open_backend

    return open_backend(url, options)


@hookimpl
def infer_backends_metadata(url: ModelURL, options: OpenOptions) -> ModelMetadata | None:
    """What a local model file says of its model, without compiling it."""
    from infer_backends_openvino._backend import tell_metadata

    return tell_metadata(url, options)


@hookimpl
def infer_backends_options() -> Sequence[Option]:
    """The options of ``openvino:`` URLs."""
    return _OPTIONS


@hookimpl
def infer_backends_check() -> None:
    """Raise ``MissingDependency`` unless OpenVINO is installed."""
    from infer_backends_openvino._install import require_installed

    require_installed()
