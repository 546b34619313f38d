"""The option ``device``: what it may say, and whether such a device is there."""

from __future__ import annotations

import re
from typing import Any

from infer_backends.plugin import InvalidURL, UnsupportedOperation

_NAME = r"[A-Z][A-Z0-9_]*(?:\.[0-9]{1,3})?"
_PART = rf"-?{_NAME}(?:\([0-9]{{1,4}}\))?"
_DEVICE = re.compile(rf"{_NAME}(?::{_PART}(?:,{_PART})*)?")
#: What OpenVINO calls devices, and only passes work on to others.
_VIRTUAL = frozenset({"AUTO", "BATCH", "HETERO", "MULTI"})


def parse_device(text: str) -> str:
    """The device that the option names, as OpenVINO writes it.

    Raises:
        InvalidURL: It names none.
    """
    device = text.upper()
    if _DEVICE.fullmatch(device) is None:
        raise InvalidURL(
            "the option 'device' has a wrong value: expected CPU, GPU, GPU.1, NPU, AUTO or the "
            "like, or several as in AUTO:GPU,CPU"
        )
    return device


def require_devices(core: Any, device: str, location: str) -> None:
    """Refuse a device that is not there.

    Raises:
        UnsupportedOperation: A device that it names is not there; the message lists those that
            are.
    """
    if device == "CPU":
        return  # Asking for all devices loads the drivers of all.
    first, _, others = device.partition(":")
    named = [] if first in _VIRTUAL else [first]
    named += [part.partition("(")[0] for part in others.split(",") if part and part[0] != "-"]
    there = list(core.available_devices)
    for name in named:
        # One GPU is called GPU, and may be asked for as GPU.0; of two, GPU is the first.
        if not {name, f"{name}.0", name.removesuffix(".0")} & set(there):
            raise UnsupportedOperation(
                f"the device {name!r} for {location!r} is not there: OpenVINO finds "
                f"{', '.join(there) or 'none'}. A GPU or an NPU needs Intel's driver; AUTO takes "
                "the best that is there"
            )
