"""Says what a Python environment has, as JSON; imports none of it.

It runs on old Pythons and on other systems too, so that the error about those can be ours.
"""

import ctypes
import importlib.metadata
import json
import os
import sys
import sysconfig
from pathlib import Path

_DISTRIBUTIONS = ("nvidia-pytriton", "numpy", "onnxruntime", "onnxruntime-gpu")


def _glibc() -> object:
    """The version of glibc, or None when the C library is another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        return None
    return [int(part) for part in version.split(".")[:2]] if name == "glibc" else None


def _packages() -> object:
    """The installed versions of the distributions that matter."""
    return {
        name: distribution.version
        for name in _DISTRIBUTIONS
        for distribution in list(importlib.metadata.distributions(name=name))[:1]
    }


def _pytriton() -> object:
    """The folder of the package pytriton, which need not be importable."""
    for folder in sys.path:
        path = Path(folder, "pytriton")
        if (path / "tritonserver").is_dir():
            return str(path)
    return None


def _libpython() -> object:
    """The interpreter's shared library: a path, a name that the linker knows, or None."""
    name = "libpython{}.{}.so.1.0".format(*sys.version_info[:2])
    for folder in (sysconfig.get_config_var("LIBDIR"), str(Path(sys.base_prefix, "lib"))):
        if folder and Path(folder, name).exists():
            return str(Path(folder, name))
    try:
        ctypes.CDLL(name)
    except OSError:
        return None
    return name


def main() -> None:
    """Write the answer."""
    answer = {
        "implementation": sys.implementation.name,
        "version": sys.version_info[:2],
        "glibc": _glibc(),
        "packages": _packages(),
        "pytriton": _pytriton(),
        "libpython": _libpython(),
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
