"""The benchmark runs: every contender, on a real server, with right answers, however fast."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import report
from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.driver import Run, run, takes_part
from tests.benchmarks.plan import PAYLOADS, QUICK


@pytest.fixture(scope="module")
def quick(triton_environment: Path) -> Run:
    return run(QUICK, triton_environment, "2026-01-02")


def test_every_contender_has_figures_of_every_cell(quick: Run) -> None:
    for cell in QUICK.cells:
        for contender in CONTENDERS:
            if takes_part(contender, cell):
                figures = quick.figures[cell, contender.name]
                assert figures.calls == QUICK.calls(cell) * QUICK.rounds
                assert all(figures.value(metric) for metric in ("wall", "p99", "rate"))
                assert len(figures.cpu) == QUICK.rounds


def test_an_answer_takes_at_least_its_own_memory(quick: Run) -> None:
    for cell in QUICK.memory:
        served = [contender for contender in CONTENDERS if contender.where != "local"]
        for contender in served:
            value = quick.figures[cell, contender.name].value("peak")
            assert value is not None
            assert value > 0.9 * cell.payload


def test_the_report_says_what_it_was_taken_on_and_has_a_row_for_each_cell(quick: Run) -> None:
    text = report.render(quick.plan, quick.figures, quick.machine)
    assert "2026-01-02" in text
    assert "triton 2." in text
    assert "infer-backends" in text
    assert "nvidia-pytriton 0.7" in text
    for cell in QUICK.cells:
        assert f"| {cell.model} | {PAYLOADS[cell.payload]} | {cell.callers} |" in text
