"""The option ``device``: what it may say, and the execution providers it stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from infer_backends.plugin import InvalidURL
from infer_backends_onnxruntime._cuda import CUDA, TENSORRT

CPU = "CPUExecutionProvider"
_DEVICE = re.compile(r"(auto|cpu|cuda|tensorrt)|(cuda|tensorrt):([0-9]{1,3})")


@dataclass(frozen=True, slots=True)
class Device:
    """What a model runs on.

    Attributes:
        kind: ``auto``, ``cpu``, ``cuda`` or ``tensorrt``.
        index: Which of several CUDA devices, counted from 0.
    """

    kind: str
    index: int = 0

    @property
    def provider(self) -> str:
        """The execution provider that has to take the model; CUDA is what ``auto`` tries."""
        return {"cpu": CPU, "tensorrt": TENSORRT}.get(self.kind, CUDA)

    @property
    def providers(self) -> list[str | tuple[str, dict[str, Any]]]:
        """What a session is asked for: each provider takes what those before it cannot run."""
        device = {"device_id": self.index}
        if self.kind == "cpu":
            return [CPU]
        if self.kind == "tensorrt":
            return [(TENSORRT, device), (CUDA, device), CPU]
        return [(CUDA, device), CPU]


def parse_device(text: str) -> Device:
    """The device that the option names.

    Raises:
        InvalidURL: It names none; the message lists what can be named.
    """
    found = _DEVICE.fullmatch(text)
    if found is None:
        raise InvalidURL(
            "the option 'device' has a wrong value: expected auto, cpu, cuda, cuda:N, tensorrt or "
            "tensorrt:N, with N the number of the CUDA device"
        )
    plain, numbered, index = found.groups()
    return Device(plain) if plain else Device(numbered, int(index))
