"""Says what a Python environment has, as JSON; imports none of it.

Run as a script by the environment's own interpreter, so it imports the standard library only, and
runs on old Pythons too, so that the error about those is ours.
"""

import ctypes
import importlib.metadata
import json
import os
import sys
import sysconfig

_DISTRIBUTIONS = ("nvidia-pytriton", "numpy", "onnxruntime", "onnxruntime-gpu")


def main():  # type: ignore[no-untyped-def]
    """Print the answer."""
    print(
        json.dumps(
            {
                "implementation": sys.implementation.name,
                "version": sys.version_info[:2],
                "glibc": _glibc(),
                "packages": _packages(),
                "pytriton": _folder_of("pytriton"),
                "libpython": _libpython(),
            }
        )
    )


def _glibc():  # type: ignore[no-untyped-def]
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        return None
    return [int(part) for part in version.split(".")[:2]] if name == "glibc" else None


def _packages():  # type: ignore[no-untyped-def]
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _folder_of(package):  # type: ignore[no-untyped-def]
    for folder in sys.path[1:]:  # the first is where this script lies
        path = os.path.join(folder, package)
        if os.path.isdir(os.path.join(path, "tritonserver")):
            return path
    return None


def _libpython():  # type: ignore[no-untyped-def]
    name = "libpython{}.{}.so.1.0".format(*sys.version_info[:2])
    folders = [sysconfig.get_config_var("LIBDIR"), os.path.join(sys.base_prefix, "lib")]
    for folder in folders:
        if folder and os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    try:
        ctypes.CDLL(name)
    except OSError:
        return None
    return name


main()
