"""The Python environment of the tests' Triton: NumPy 1.x, whatever the client side has.

``python tests/servers/environment.py [PATH]`` builds it, if it is not there yet. Safe to run
several times at once: one builds, the others wait for it. Without PATH it is the folder that the
variable ``INFER_BACKENDS_TRITON_ENVIRONMENT`` names, or ``.tox/server``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

VARIABLE = "INFER_BACKENDS_TRITON_ENVIRONMENT"
REQUIREMENTS = ("nvidia-pytriton==0.7.*", "numpy<2", "onnxruntime")

#: The Pythons that this server runs on, when ours is none of them.
_PYTHON = ">=3.10,<3.13"


def find_or_build() -> Path:
    """The environment that the variable names, or one of our own in the folder of tox.

    It is built if it is not there; one that somebody else made is taken as it is.
    """
    named = os.environ.get(VARIABLE)
    root = Path(__file__).resolve().parents[2]
    path = Path(named) if named else root / ".tox" / "server"
    if path.exists() and not _lock(path).exists():
        return path
    return build(path)


def build(path: Path) -> Path:
    """Make the environment at ``path``, unless it is there with these requirements."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(_lock(path), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Written last: a build that was interrupted is started again.
        stamp = path / "requirements.txt"
        wanted = "\n".join(REQUIREMENTS)
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(path, ignore_errors=True)
            _install(path)
            stamp.write_text(wanted, encoding="utf-8")
    return path


def _lock(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _install(path: Path) -> None:
    uv = _find_uv()
    _run(uv, "venv", "--quiet", "--python", _python(), str(path))
    # Every model is a Python process that imports NumPy: compiled once, here.
    install = ("pip", "install", "--quiet", "--compile-bytecode", "--python", str(path))
    _run(uv, *install, *REQUIREMENTS)


def _python() -> str:
    """The interpreter that runs us, if the server can run on it."""
    return sys.executable if sys.version_info < (3, 13) else _PYTHON


def _find_uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise RuntimeError(
            f"the tests' Triton needs uv to be built: {sys.executable} -m pip install uv"
        )
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")


if __name__ == "__main__":
    chosen = build(Path(sys.argv[1])) if len(sys.argv) > 1 else find_or_build()
    sys.stdout.write(f"{chosen}\n")
