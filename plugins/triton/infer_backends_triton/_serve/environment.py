"""The Python environment that the server runs from: finding it, and saying what it lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer_backends.plugin import InvalidInput, MissingDependency, UnsupportedOperation

#: Names the environment when none is given.
VARIABLE = "INFER_BACKENDS_TRITON_ENVIRONMENT"
#: Where the programs lie that the environment's own Python runs. Nothing imports them; they need
#: nothing of this project, which need not be installed there.
PROGRAMS = Path(__file__).with_name("programs")

_SERVER = "nvidia-pytriton==0.7.*"
_ELSEWHERE = f"environment= (on the command line --environment) or {VARIABLE}"
#: Seconds; creating a session of a large model takes some.
_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a Python environment says of itself.

    Attributes:
        prefix: Its folder.
        python: Its interpreter.
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
    implementation: str
    version: tuple[int, int]
    glibc: tuple[int, int] | None
    packages: Mapping[str, str]
    pytriton: Path | None
    libpython: str | None

    @property
    def python_version(self) -> str:
        """The interpreter's version as text."""
        return f"{self.version[0]}.{self.version[1]}"

    def pip_install(self, *packages: str) -> str:
        """The line that installs ``packages`` here."""
        quoted = (f'"{name}"' if set(name) & set("<>=*") else name for name in packages)
        return f"{self.python} -m pip install {' '.join(quoted)}"


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python environment that a server can be started from.

    Attributes:
        facts: What it says of itself.
        server: The folder with Triton's programs.
        libraries: The folder with their libraries.
        stub: The Python backend's program for this interpreter.
        libpython: The interpreter's shared library: a path, or a name that the linker finds.
    """

    facts: Facts
    server: Path
    libraries: Path
    stub: Path
    libpython: Path

    def variables(self) -> dict[str, str]:
        """Our process environment, changed so that programs find this environment's Python."""
        variables = dict(os.environ)
        path = (str(self.facts.python.parent), variables.get("PATH", ""))
        variables["PATH"] = os.pathsep.join(filter(None, path))
        return variables

    def ask(self, program: str, *arguments: str) -> Any:
        """What one of the ``programs`` says when this environment's Python runs it."""
        return _ask(self.facts.python, program, *arguments)


def find_environment(path: str | os.PathLike[str] | None) -> Environment:
    """The environment at ``path``, or the default one, checked for all that a server needs.

    Args:
        path: A folder with ``bin/python``; None for what the variable
            ``INFER_BACKENDS_TRITON_ENVIRONMENT`` says or, without it, the current environment.

    Raises:
        InvalidInput: There is no Python environment at ``path``.
        UnsupportedOperation: Triton cannot run with its Python, NumPy or C library.
        MissingDependency: A package or library is not installed there.
    """
    if path is not None:
        return check_facts(_read_facts(Path(path), "environment="))
    named = os.environ.get(VARIABLE)
    return check_facts(_read_facts(Path(named or sys.prefix), VARIABLE if named else "sys.prefix"))


def check_system(system: str, machine: str) -> None:
    """Raise ``UnsupportedOperation`` unless Triton's programs are made for this system."""
    if system != "linux" or machine.lower() not in {"x86_64", "amd64"}:
        raise UnsupportedOperation(
            f"a local Triton runs on Linux on x86-64 only, and this is {system} on {machine}: "
            "run Triton on another machine, or open the model with onnx: instead"
        )


def check_facts(facts: Facts) -> Environment:
    """The environment that ``facts`` describe, or the error that says what keeps it from serving.

    Raises:
        UnsupportedOperation: Its Python, C library or NumPy is not one that Triton runs with.
        MissingDependency: A package or library is not installed there.
    """
    _check_python(facts)
    server = facts.packages.get("nvidia-pytriton")
    if server is None or facts.pytriton is None:
        raise MissingDependency(
            f"a local Triton needs the package nvidia-pytriton, which {facts.prefix} does not "
            f"have; install it with: {facts.pip_install(_SERVER, 'numpy<2')}"
        )
    _check_numpy(facts)
    programs = facts.pytriton / "tritonserver"
    folder = programs / "python_backend_stubs" / facts.python_version
    stub = folder / "triton_python_backend_stub"
    if not stub.exists():
        raise UnsupportedOperation(
            f"nvidia-pytriton {server} in {facts.prefix} has no Python backend for Python "
            f"{facts.python_version}; install a version that has: {facts.pip_install(_SERVER)}"
        )
    if facts.libpython is None:
        name = f"libpython{facts.python_version}"
        raise MissingDependency(
            f"Triton's Python backend needs the shared library {name}.so.1.0, which {facts.python} "
            f"came without; install it (on Debian and Ubuntu: apt-get install {name})"
        )
    libraries = facts.pytriton.parent / "nvidia_pytriton.libs"
    return Environment(facts, programs, libraries, stub, Path(facts.libpython))


def _check_python(facts: Facts) -> None:
    if facts.implementation != "cpython" or not (3, 10) <= facts.version <= (3, 12):
        raise UnsupportedOperation(
            f"Triton's Python backend needs CPython 3.10 to 3.12, and {facts.python} is "
            f"{facts.implementation} {facts.python_version}: name an environment of another "
            f"Python with {_ELSEWHERE}"
        )
    if facts.glibc is None or facts.glibc < (2, 35):
        found = f"glibc {facts.glibc[0]}.{facts.glibc[1]}" if facts.glibc else "another C library"
        raise UnsupportedOperation(
            f"a local Triton needs glibc 2.35 or later, and this system has {found}: use a newer "
            "distribution (Debian 12, Ubuntu 22.04, ...)"
        )


def _check_numpy(facts: Facts) -> None:
    numpy = facts.packages.get("numpy")
    if numpy is None:
        raise MissingDependency(
            f"Triton's Python backend needs NumPy 1.x, and {facts.prefix} has none; install it "
            f"with: {facts.pip_install('numpy<2')}"
        )
    if int(numpy.partition(".")[0]) >= 2:
        raise UnsupportedOperation(
            f"Triton's Python backend returns empty tensors with NumPy 2, and {facts.prefix} has "
            f"NumPy {numpy}: {facts.pip_install('numpy<2')}, or name another environment with "
            f"{_ELSEWHERE}"
        )


def _read_facts(prefix: Path, source: str) -> Facts:
    """Ask the interpreter of ``prefix`` about its environment."""
    prefix = prefix.absolute()
    candidates = [prefix / "bin" / name for name in ("python3", "python")]
    python = next((path for path in candidates if path.is_file()), None)
    if python is None:
        raise InvalidInput(
            f"{source} names {str(prefix)!r}, which is no Python environment: expected a folder "
            "with bin/python, such as python -m venv makes"
        )
    answer = _ask(python, "probe.py")
    return Facts(
        prefix=prefix,
        python=python,
        implementation=answer["implementation"],
        version=(answer["version"][0], answer["version"][1]),
        glibc=(answer["glibc"][0], answer["glibc"][1]) if answer["glibc"] else None,
        packages=answer["packages"],
        pytriton=Path(answer["pytriton"]) if answer["pytriton"] else None,
        libpython=answer["libpython"],
    )


def _ask(python: Path, program: str, *arguments: str) -> Any:
    """What a program prints, as JSON.

    Python is isolated from the user's own packages and variables, as it is inside the server.

    Raises:
        UnsupportedOperation: It could not be run, failed, or printed something else.
    """
    try:
        done = subprocess.run(
            [str(python), "-I", str(PROGRAMS / program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=True,
        )
        return json.loads(done.stdout)
    except subprocess.CalledProcessError as exc:
        said = exc.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UnsupportedOperation(
            f"{python} could not run {program} (exit status {exc.returncode}): {said}"
        ) from exc
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        raise UnsupportedOperation(f"{python} could not run {program}: {exc}") from exc
