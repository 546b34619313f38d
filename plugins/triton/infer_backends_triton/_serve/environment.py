"""The Python environment that the server runs from: finding it, and saying what it lacks."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer_backends.plugin import InvalidInput, MissingDependency, UnsupportedOperation

#: Names the environment when none is given.
VARIABLE = "INFER_BACKENDS_TRITON_ENVIRONMENT"
#: Variables that would make another interpreter import our packages instead of its own.
_PYTHON_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")
_PROBE = Path(__file__).with_name("probe.py")
#: Seconds; creating a session of a large model takes some.
_SCRIPT_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Environment:
    """What there is to know of a Python environment before a server is started from it.

    Attributes:
        prefix: Its folder.
        python: Its interpreter.
        current: Whether it is the environment of this process.
        implementation: As ``sys.implementation.name`` has it.
        version: The interpreter's version, as in ``(3, 11)``.
        glibc: The version of the C library, or None when it is not glibc.
        packages: Installed versions of the distributions that matter, by name.
        pytriton: The folder of the package ``pytriton``, or None.
        libpython: The shared library of the interpreter: a path, a name that the linker finds,
            or None when there is none.
    """

    prefix: Path
    python: Path
    current: bool
    implementation: str
    version: tuple[int, int]
    glibc: tuple[int, int] | None
    packages: Mapping[str, str]
    pytriton: Path | None
    libpython: str | None

    @property
    def stub(self) -> Path:
        """The Python backend's program for this interpreter."""
        assert self.pytriton is not None
        version = f"{self.version[0]}.{self.version[1]}"
        folder = self.pytriton / "tritonserver" / "python_backend_stubs" / version
        return folder / "triton_python_backend_stub"

    def pip_install(self, *packages: str) -> str:
        """The line that installs ``packages`` here."""
        wanted = " ".join(
            f'"{package}"' if set(package) & set("<>=*") else package for package in packages
        )
        return f"{self.python} -m pip install {wanted}"

    def own_variables(self) -> dict[str, str]:
        """Our process environment, changed so that programs find this environment's Python."""
        variables = _without_ours(self.current)
        path = (str(self.python.parent), variables.get("PATH", ""))
        variables["PATH"] = os.pathsep.join(filter(None, path))
        return variables


def find_environment(path: str | os.PathLike[str] | None) -> Environment:
    """The environment at ``path``, or the default one, checked for all that a server needs.

    Args:
        path: A folder with ``bin/python``; None for what the variable
            ``INFER_BACKENDS_TRITON_ENVIRONMENT`` says or, without it, the current environment.

    Raises:
        InvalidInput: There is no Python environment at ``path``.
        UnsupportedOperation: Triton cannot run on this system, or with this Python or NumPy.
        MissingDependency: A package or library is not installed there.
    """
    check_system(sys.platform, platform.machine())
    source = "environment"
    if path is None and os.environ.get(VARIABLE):
        path, source = os.environ[VARIABLE], VARIABLE
    environment = _probe(Path(path).absolute() if path is not None else None, source)
    check_environment(environment)
    return environment


def check_system(system: str, machine: str) -> None:
    """Raise ``UnsupportedOperation`` unless Triton's programs are made for this system."""
    if system != "linux" or machine.lower() not in {"x86_64", "amd64"}:
        raise UnsupportedOperation(
            f"a local Triton runs on Linux on x86-64 only, and this is {system} on {machine}: "
            "run Triton on another machine, or open the model with onnx: instead"
        )


def check_environment(environment: Environment) -> None:
    """Raise what keeps a server from being started from ``environment``, if anything does."""
    python, version = environment.python, environment.version
    if environment.implementation != "cpython" or not (3, 10) <= version <= (3, 12):
        raise UnsupportedOperation(
            f"Triton's Python backend needs CPython 3.10 to 3.12, and {python} is "
            f"{environment.implementation} {version[0]}.{version[1]}: name an environment of "
            f"another Python with environment= or {VARIABLE}"
        )
    if environment.glibc is None or environment.glibc < (2, 35):
        found = "another C library"
        if environment.glibc is not None:
            found = f"glibc {environment.glibc[0]}.{environment.glibc[1]}"
        raise UnsupportedOperation(
            f"a local Triton needs glibc 2.35 or later, and this system has {found}: use a newer "
            "distribution (Debian 12, Ubuntu 22.04, ...)"
        )
    _check_packages(environment)
    if environment.libpython is None:
        name = f"libpython{version[0]}.{version[1]}"
        raise MissingDependency(
            f"Triton's Python backend needs the shared library {name}.so.1.0, which {python} came "
            f"without: install it (on Debian and Ubuntu: apt-get install {name})"
        )


def _check_packages(environment: Environment) -> None:
    server = environment.packages.get("nvidia-pytriton")
    if server is None or environment.pytriton is None:
        raise MissingDependency(
            "a local Triton needs the package nvidia-pytriton, which is not installed in "
            f"{environment.prefix}: {environment.pip_install('nvidia-pytriton==0.7.*', 'numpy<2')}"
        )
    if not environment.stub.exists():
        raise UnsupportedOperation(
            f"nvidia-pytriton {server} in {environment.prefix} has no Python backend for Python "
            f"{environment.version[0]}.{environment.version[1]}: "
            f"{environment.pip_install('nvidia-pytriton==0.7.*')}"
        )
    numpy = environment.packages.get("numpy")
    if numpy is None:
        raise MissingDependency(
            f"Triton's Python backend needs NumPy 1.x, and {environment.prefix} has none: "
            f"{environment.pip_install('numpy<2')}"
        )
    if int(numpy.partition(".")[0]) >= 2:
        raise UnsupportedOperation(
            f"Triton's Python backend returns empty tensors with NumPy 2, and {environment.prefix} "
            f"has NumPy {numpy}: {environment.pip_install('numpy<2')}, or name another environment "
            f"with environment= or {VARIABLE}"
        )


def _probe(prefix: Path | None, source: str) -> Environment:
    """Ask the interpreter of ``prefix`` (None: ours) about its environment; imports none of it."""
    ours = Path(sys.prefix)
    prefix = ours if prefix is None else prefix
    current = prefix.resolve() == ours.resolve()
    python = next(
        (p for p in (prefix / "bin" / "python3", prefix / "bin" / "python") if p.exists()), None
    )
    if python is None:
        raise InvalidInput(
            f"{source} names {str(prefix)!r}, which is no Python environment: expected a folder "
            "with bin/python, such as python -m venv makes"
        )
    answer = run_script(python, _PROBE, (), _without_ours(current))
    return Environment(
        prefix=prefix,
        python=python,
        current=current,
        implementation=answer["implementation"],
        version=(answer["version"][0], answer["version"][1]),
        glibc=(answer["glibc"][0], answer["glibc"][1]) if answer["glibc"] else None,
        packages=answer["packages"],
        pytriton=Path(answer["pytriton"]) if answer["pytriton"] else None,
        libpython=answer["libpython"],
    )


def _without_ours(current: bool) -> dict[str, str]:
    return {n: v for n, v in os.environ.items() if current or n not in _PYTHON_VARIABLES}


def run_script(
    python: Path, script: Path, arguments: tuple[str, ...], variables: Mapping[str, str]
) -> Any:
    """What ``script`` prints, as JSON, when ``python`` runs it.

    Raises:
        UnsupportedOperation: It could not be run, failed, or printed something else.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own script, the user's own interpreter
            [str(python), str(script), *arguments],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SCRIPT_TIMEOUT,
            check=True,
        )
        return json.loads(done.stdout)
    except subprocess.CalledProcessError as exc:
        said = exc.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UnsupportedOperation(
            f"{python} could not run {script.name} (exit status {exc.returncode}): {said}"
        ) from exc
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        raise UnsupportedOperation(f"{python} could not run {script.name}: {exc}") from exc
