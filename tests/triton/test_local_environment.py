"""What a Python environment lacks for a server is said, with the line that helps."""

from __future__ import annotations

import platform
import re
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from infer_backends.plugin import InferError, InvalidInput, MissingDependency, UnsupportedOperation
from infer_backends_triton._local import LocalTriton
from infer_backends_triton._serve.environment import (
    VARIABLE,
    Facts,
    check_facts,
    check_system,
    find_environment,
)
from infer_backends_triton._serve.wrapper import read_signatures


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """An environment that has all that a server needs."""
    pytriton = tmp_path / "site-packages" / "pytriton"
    stubs = pytriton / "tritonserver" / "python_backend_stubs" / "3.11"
    stubs.mkdir(parents=True)
    (stubs / "triton_python_backend_stub").touch()
    return Facts(
        prefix=Path("/env"),
        python=Path("/env/bin/python3"),
        implementation="cpython",
        version=(3, 11),
        glibc=(2, 36),
        packages={"nvidia-pytriton": "0.7.0", "numpy": "1.26.4"},
        pytriton=pytriton,
        libpython="/opt/lib/libpython3.11.so.1.0",
    )


def test_a_complete_environment_names_the_programs_and_libraries(facts: Facts) -> None:
    environment = check_facts(facts)
    assert facts.pytriton is not None
    assert environment.server == facts.pytriton / "tritonserver"
    assert environment.libraries == facts.pytriton.parent / "nvidia_pytriton.libs"
    assert environment.stub.is_file()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"packages": {"numpy": "1.26.4"}, "pytriton": None},
            MissingDependency,
            'install it with: /env/bin/python3 -m pip install "nvidia-pytriton==0.7.*" "numpy<2"',
        ),
        (
            {"packages": {"nvidia-pytriton": "0.7.0"}},
            MissingDependency,
            'has none; install it with: /env/bin/python3 -m pip install "numpy<2"',
        ),
        (
            {"packages": {"nvidia-pytriton": "0.7.0", "numpy": "2.3.1"}},
            UnsupportedOperation,
            '/env has NumPy 2.3.1: /env/bin/python3 -m pip install "numpy<2", or name another'
            " environment with environment= (on the command line --environment) or INFER_BACKENDS_",
        ),
        ({"version": (3, 13)}, UnsupportedOperation, "/env/bin/python3 is cpython 3.13"),
        ({"version": (3, 9)}, UnsupportedOperation, "CPython 3.10 to 3.12"),
        ({"implementation": "pypy"}, UnsupportedOperation, "is pypy 3.11"),
        ({"glibc": (2, 31)}, UnsupportedOperation, "2.35 or later, and this system has glibc 2.31"),
        ({"glibc": None}, UnsupportedOperation, "another C library"),
        ({"libpython": None}, MissingDependency, "apt-get install libpython3.11"),
        ({"version": (3, 12)}, UnsupportedOperation, "has no Python backend for Python 3.12"),
    ],
)
def test_what_is_missing_is_an_error_that_says_what_to_do(
    facts: Facts, changes: dict[str, object], error: type[InferError], message: str
) -> None:
    with pytest.raises(error) as caught:
        check_facts(replace(facts, **changes))  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_onnx_files_need_onnxruntime_in_the_environment(facts: Facts) -> None:
    with pytest.raises(MissingDependency, match="python3 -m pip install onnxruntime$"):
        read_signatures([Path("/m.onnx")], check_facts(facts))


@pytest.mark.parametrize(
    ("system", "machine"), [("darwin", "x86_64"), ("win32", "AMD64"), ("linux", "aarch64")]
)
def test_other_systems_are_refused(system: str, machine: str) -> None:
    with pytest.raises(UnsupportedOperation, match=f"this is {system} on {machine}"):
        check_system(system, machine)


def test_a_local_triton_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").touch()
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(UnsupportedOperation, match="Linux on x86-64 only"):
        LocalTriton(tmp_path / "m.onnx")


def test_packages_are_found_by_their_metadata_without_an_import(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "env" / "lib" / version / "site-packages"
    for name, number in (("nvidia_pytriton", "0.7.0"), ("numpy", "2.1.0")):
        folder = site / f"{name}-{number}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}")
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("raise SystemExit('imported')")
    (site / "pytriton" / "tritonserver").mkdir(parents=True)
    expected = "has NumPy 2.1.0" if sys.version_info < (3, 13) else "CPython 3.10 to 3.12"
    with pytest.raises(UnsupportedOperation, match=expected):
        find_environment(tmp_path / "env")


def test_a_folder_that_is_no_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match=r"environment= names .*no Python environment"):
        find_environment(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(InvalidInput, match=f"{VARIABLE} names .*no Python environment"):
        find_environment(None)


def test_the_variable_names_the_environment_when_none_is_given(
    triton_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(triton_environment))
    environment = find_environment(None)
    assert environment.facts.prefix == triton_environment
    assert environment.variables()["PATH"].startswith(f"{triton_environment}/bin:")


def test_without_a_name_the_current_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "m.onnx").touch()
    # The client side of the tests has no server, and NumPy 2 or a Python that is too new.
    with pytest.raises((MissingDependency, UnsupportedOperation), match=re.escape(sys.prefix)):
        LocalTriton(tmp_path / "m.onnx").start()


def test_variables_of_ours_do_not_reach_the_other_python(
    triton_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('ours was imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert find_environment(triton_environment).facts.packages["numpy"].startswith("1.")
