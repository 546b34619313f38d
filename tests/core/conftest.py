"""Real installed metadata, in a temporary site directory."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.core.bulk import Mapped, by_tasks, by_threads


class Install(Protocol):
    """Installs a distribution of one module, named by an entry point for each of the names."""

    def __call__(
        self,
        name: str,
        entry_points: list[str],
        source: str,
        version: str = "1.0",
        *,
        group: str = "infer_backends",
    ) -> None: ...


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def install(site: Path) -> Install:
    def write(
        name: str,
        entry_points: list[str],
        source: str,
        version: str = "1.0",
        *,
        group: str = "infer_backends",
    ) -> None:
        module = name.replace("-", "_")
        (site / f"{module}.py").write_text(source)
        metadata = site / f"{module}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        lines = "".join(f"{entry_point} = {module}\n" for entry_point in entry_points)
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        importlib.invalidate_caches()

    return write


@pytest.fixture(params=[by_threads, by_tasks], ids=["threads", "tasks"])
def mapped(request: pytest.FixtureRequest) -> Mapped:
    """Each of the two ways in turn."""
    chosen: Mapped = request.param
    return chosen
