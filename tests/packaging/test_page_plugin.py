"""The plugin of the documentation, as a reader makes it: from the blocks of its page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.packaging.conftest import ROOT, Built, Environment

PAGE = (ROOT / "docs/how-to/write-a-plugin.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_plugin_of_the_page_builds_installs_and_runs(
    tmp_path: Path,
    built: Mapping[str, Built],
    new_environment: Callable[[str], Environment],
) -> None:
    source = tmp_path / "infer-backends-linear"
    source.mkdir()
    (source / "infer_backends_linear.py").write_text("\n\n".join(blocks("python")[:2]))
    (source / "pyproject.toml").write_text(blocks("toml")[0])
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, source],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    environment = new_environment("page-plugin")
    environment.install(f"{built['infer_backends'].wheel}[cli]", str(wheel))
    rows = json.loads(environment.run("infer-backends", "plugins", "--json").stdout)
    assert {row["scheme"]: row["state"] for row in rows} == {"fake": "ready", "linear": "ready"}
    weights = tmp_path / "w.npz"
    said = environment.python(
        "import infer_backends as ib, numpy as np\n"
        f"np.savez({str(weights)!r}, weights=np.eye(2))\n"
        f"with ib.open_model({f'linear:{weights}?bias=1'!r}) as model:\n"
        "    print(model([[1, 2]]).tolist())"
    )
    assert said == "[[2.0, 3.0]]"
