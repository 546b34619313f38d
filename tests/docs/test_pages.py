"""Every code block of the documentation runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from infer_backends_triton import LocalTriton
from tests.docs.blocks import Page
from tests.docs.conftest import ROOT

PAGES = [
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts),
    ROOT / "README.md",
    *sorted(ROOT.glob("plugins/*/README.md")),
]
#: It needs an environment of its own: tests/packaging/test_plugin_tutorial.py follows it.
FOLLOWED = ROOT / "docs/plugin-tutorial.md"
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
run_here = pytest.mark.parametrize(
    "page", [p for p in PAGES if p != FOLLOWED], ids=lambda p: p.relative_to(ROOT).as_posix()
)


@run_here
def test_every_block_of_a_page_runs(
    page: Path, folder: Path, server: LocalTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    monkeypatch.setenv("MODEL_URL", f"{server.http_url}/digits")
    with np.load(folder / "digits.npz") as digits:
        given = {"images": digits["images"], "labels": digits["labels"]}
    ran = Page(page, server).run({"__name__": "__main__", **given})
    assert ran == len(
        re.findall(
            r"^```(?:python|console)$|^<!-- (?:stop|start) the", page.read_text(), re.MULTILINE
        )
    )


@every_page
def test_no_block_of_a_page_escapes_being_run(page: Path) -> None:
    languages = re.findall(r"^```(.+)$", page.read_text(), re.MULTILINE)
    # Texts are diagrams, URLs and installations; the tests cannot install from an index.
    assert {name for name in languages if name[0] != "{"} <= {
        "python",
        "console",
        "text",
        "toml",
        "sh",
    }
    assert languages.count("sh") == (2 if page == ROOT / "README.md" else 0)
