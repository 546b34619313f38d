"""The options of a model, as OpenVINO's properties."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer_backends.plugin import (
    InvalidURL,
    ModelFile,
    ModelURL,
    OpenOptions,
    PermissionDenied,
)
from infer_backends_openvino._devices import parse_device

_MOST_THREADS = 1024
_PRECISIONS = {"exact": "f32", "fp32": "f32", "fp16": "f16", "bf16": "bf16"}


@dataclass(frozen=True, slots=True)
class Settings:
    """All that it takes to compile a model.

    Attributes:
        file: The model's file.
        url: The model's URL, secrets masked.
        device: What to run on, as OpenVINO names it.
        precision: ``exact``, ``fp32``, ``fp16``, ``bf16`` or ``device``.
        hint: ``latency`` or ``throughput``.
        threads: Threads of the CPU; 0 is the runtime's choice.
        cache: The folder for compiled models; empty for none.
    """

    file: ModelFile
    url: str
    device: str
    precision: str
    hint: str
    threads: int
    cache: str

    @classmethod
    def from_options(cls, url: ModelURL, options: OpenOptions) -> Settings:
        """The settings of the model that ``url`` names.

        Raises:
            InvalidURL: The URL names no path, or an option has a wrong value.
            ModelNotFound: The path is relative, and the working directory is gone.
        """
        threads = options["threads"]
        if threads > _MOST_THREADS:
            raise InvalidURL(
                f"the option 'threads' has a wrong value: expected 0 to {_MOST_THREADS}"
            )
        return cls(
            ModelFile.of(url),
            str(url),
            parse_device(options["device"]),
            options["precision"],
            options["hint"],
            threads,
            options["cache"],
        )

    @property
    def exact(self) -> bool:
        """Whether what OpenVINO would compute in a narrower type than the model says is refused."""
        return self.precision == "exact"

    def properties(self) -> dict[str, Any]:
        """What the model is compiled with."""
        found: dict[str, Any] = {"PERFORMANCE_HINT": self.hint.upper()}
        if self.precision in _PRECISIONS:
            found["INFERENCE_PRECISION_HINT"] = _PRECISIONS[self.precision]
        if self.precision in {"exact", "fp32"}:
            # Or weights of 8 and 4 bits would have their other factors made narrower, too.
            found["EXECUTION_MODE_HINT"] = "ACCURACY"
        if self.threads:
            found["INFERENCE_NUM_THREADS"] = self.threads
        if self.cache:
            found["CACHE_DIR"] = self.cache
        return found

    def require_cache(self) -> None:
        """Make the folder for compiled models, if one is wanted.

        Raises:
            InvalidURL: It cannot be made.
            PermissionDenied: It may not be made.
        """
        if not self.cache:
            return
        try:
            Path(self.cache).mkdir(parents=True, exist_ok=True)
        except PermissionError as exc:
            raise PermissionDenied(
                "the folder of the option 'cache' may not be made: check the permissions of the "
                "one above it"
            ) from exc
        except (OSError, ValueError) as exc:
            raise InvalidURL(
                f"the folder of the option 'cache' cannot be made ({type(exc).__name__}): give "
                "another"
            ) from exc
