"""The Python environments of the tests' servers, which are never the client's.

``python tests/servers/environment.py [NAME...]`` builds those that are named, or all: each once,
where its variable says, or in the folder of tox. Safe to run several times at once: one builds,
the others wait for it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

#: The Pythons that these servers run on, when ours is none of them.
_PYTHON = ">=3.10,<3.13"


@dataclass(frozen=True)
class Environment:
    """What one server runs in.

    Attributes:
        variable: The variable of the environment that says where it is.
        folder: Where it is otherwise, in the folder of tox.
        requirements: What is installed there.
    """

    variable: str
    folder: str
    requirements: tuple[str, ...]


ENVIRONMENTS = {
    # NumPy 1.x, whatever the client has: with NumPy 2 its models return empty tensors.
    "triton": Environment(
        "INFER_BACKENDS_TRITON_ENVIRONMENT",
        "server",
        ("nvidia-pytriton==0.7.*", "numpy<2", "onnxruntime"),
    ),
    "mlserver": Environment(
        "INFER_BACKENDS_MLSERVER_ENVIRONMENT", "mlserver", ("mlserver==1.7.*",)
    ),
}


def find_or_build(name: str = "triton") -> Path:
    """The environment that its variable names, or one of our own in the folder of tox.

    It is built if it is not there; one that somebody else made is taken as it is.
    """
    environment = ENVIRONMENTS[name]
    named = os.environ.get(environment.variable)
    root = Path(__file__).resolve().parents[2]
    path = Path(named) if named else root / ".tox" / environment.folder
    if path.exists() and not _lock(path).exists():
        return path
    return build(path, environment.requirements)


def build(path: Path, requirements: tuple[str, ...]) -> Path:
    """Make the environment at ``path``, unless it is there with these requirements."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(_lock(path), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Written last: a build that was interrupted is started again.
        stamp = path / "requirements.txt"
        wanted = "\n".join(requirements)
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(path, ignore_errors=True)
            _install(path, requirements)
            stamp.write_text(wanted, encoding="utf-8")
    return path


def _lock(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _install(path: Path, requirements: tuple[str, ...]) -> None:
    uv = _find_uv()
    _run(uv, "venv", "--quiet", "--python", _python(), str(path))
    # Every model of Triton is a process that imports NumPy: compiled once, here.
    install = ("pip", "install", "--quiet", "--compile-bytecode", "--python", str(path))
    _run(uv, *install, *requirements)


def _python() -> str:
    """The interpreter that runs us, if the servers can run on it."""
    return sys.executable if sys.version_info < (3, 13) else _PYTHON


def _find_uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise RuntimeError(
            f"the tests' servers need uv to be built: {sys.executable} -m pip install uv"
        )
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ENVIRONMENTS:
        sys.stdout.write(f"{find_or_build(chosen)}\n")
