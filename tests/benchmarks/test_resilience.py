"""What is told of failover: texts from made-up figures, and each figure once on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.findings import Belongings, Found, added, left, render
from tests.benchmarks.resilience import Stage, apart, attempt, run


class _Nobody:
    """A server that has nothing to be made right again."""

    def resume(self) -> None: ...

    def start(self) -> None: ...


def test_a_figure_at_its_target_is_met_and_one_above_is_not() -> None:
    assert added("a call", 5e-6, 5e-6).met
    assert not added("a call", 5.1e-6, 5e-6).met
    assert added("a call", -1e-6, 5e-6).measured == "-1.0 µs"


def test_anything_left_is_named() -> None:
    found = left(Belongings(1, 10, 0, 1), Belongings(1, 11, 0, 1))
    assert found.met is False
    assert "+1 descriptors" in found.measured
    assert left(Belongings(1, 10, 0, 1), Belongings(1, 9, 0, 1)).met


def test_both_of_two_calls_are_made_as_often_and_in_both_orders() -> None:
    made: list[str] = []
    apart(lambda: made.append("base"), lambda: made.append("other"), 2)
    assert sorted(made[:2]) == sorted(made[2:]) == ["base", "other"]
    assert made[:2] != made[2:]


def test_a_figure_that_cannot_be_taken_says_why() -> None:
    def figure(stage: Stage) -> Found:
        """Ask for the moon."""
        raise LookupError("no moon")

    stage = Stage(_Nobody(), "onnx:m.onnx", quick=True)  # type: ignore[arg-type]  # a stand-in
    assert attempt(figure, stage) == Found("Ask for the moon.", "", "LookupError: no moon", None)


def test_the_table_marks_what_is_not_met() -> None:
    text = render([Found("a", "1 s", "2 s", met=False), Found("b", "", "why", None)], "Taken now.")
    assert "\nTaken now.\n" in text
    assert "| a | 1 s | 2 s | **no** |" in text
    assert "| b |  | why | not measured |" in text


@pytest.mark.timeout(300)
def test_every_figure_can_be_taken(triton_environment: Path) -> None:
    assert triton_environment.exists()
    assert [one for one in run(quick=True) if one.met is None] == []
