"""The README's commands, as far as they can be checked without running them."""

from __future__ import annotations

import os
import re

import pytest

from tests.packaging.conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_first_two_blocks_run_the_demo_and_the_tests() -> None:
    (first, demo), (second, tests) = BLOCKS[:2]
    assert (first, second) == ("sh", "sh")
    assert "infer-backends demo" in demo
    assert "tox" in tests


@pytest.mark.parametrize("block", [0, 1], ids=["demo", "tests"])
def test_a_command_is_one_line_with_an_environment_of_its_own(block: int) -> None:
    lines = BLOCKS[block][1].strip().splitlines()
    assert len(lines) == 1
    steps = lines[0].split(" && ")
    assert re.fullmatch(r"python3 -m venv \S+", steps[0])
    folder = steps[0].split()[-1]
    assert all(step.startswith(f"{folder}/bin/") for step in steps[1:])


def test_ci_runs_the_readmes_test_command() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert BLOCKS[1][1].strip() in script.read_text().splitlines()


def test_the_links_into_the_repository_lead_somewhere() -> None:
    targets = [t for t in re.findall(r"\]\(([^)#]+)", README) if "://" not in t]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
