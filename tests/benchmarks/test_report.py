"""Verdicts, tables and lines of the picture, from made-up figures."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.benchmarks.commands import Cell, Measurement
from tests.benchmarks.contenders import BY_NAME
from tests.benchmarks.machine import Machine
from tests.benchmarks.picture import lines
from tests.benchmarks.plan import BATCH, IMAGE, PAYLOADS, Plan
from tests.benchmarks.report import format_value, mark, render, table
from tests.benchmarks.statistic import Figures, Metric
from tests.benchmarks.targets import TARGETS, judge, judge_all

VERSIONS = {"python": "3.12.0", "numpy": "2.0.0"}
MACHINE = Machine(
    date="2026-01-02",
    cpu="A CPU",
    cores=2,
    memory=8_000_000_000,
    system="Linux 6",
    load=(0.1, 1.2),
    server="triton 2.51.0",
    versions={"ours-http": VERSIONS, "pytriton-http": {**VERSIONS, "numpy": "1.26.4"}},
)


def figures(seconds: float, peaks: tuple[int, ...] = ()) -> Figures:
    return Figures.of([Measurement((seconds,), seconds, seconds / 2)] * 3, peaks)


def verdicts(seconds: Mapping[str, float], cell: Cell) -> dict[str, bool]:
    results = {(cell, name): figures(value) for name, value in seconds.items()}
    return {verdict.target.title: verdict.met for verdict in judge_all(results)}


def test_a_ratio_at_its_bound_is_met_and_one_above_is_not() -> None:
    cell = Cell("echo", IMAGE)
    title = "HTTP inline / tritonclient, wall"
    theirs = {"tritonclient-http": 1.0}
    assert verdicts({"ours-http-inline": 0.40, **theirs}, cell)[title]
    assert not verdicts({"ours-http-inline": 0.41, **theirs}, cell)[title]


def test_of_calls_in_a_second_more_is_better() -> None:
    cell = Cell("echo", 16, 8)
    title = "HTTP, 8 threads with one Model / 8 tritonclients, calls/s"
    assert verdicts({"ours-http": 0.5, "tritonclient-http": 1.0}, cell)[title]
    assert not verdicts({"ours-http": 1.0, "tritonclient-http": 1.0}, cell)[title]


@pytest.mark.parametrize(("extra", "met"), [(4_000_000, True), (4_000_001, False)])
def test_memory_is_held_against_the_output_and_4_mb(extra: int, met: bool) -> None:
    target = next(target for target in TARGETS if target.metric == "peak")
    results = {(Cell("echo", BATCH), target.ours): figures(1.0, peaks=(BATCH + extra,))}
    verdict = judge(target, BATCH, results)
    assert verdict is not None
    assert verdict.met is met


def test_what_was_not_measured_has_no_verdict() -> None:
    assert judge_all({}) == []
    assert verdicts({"ours-http-inline": 1.0}, Cell("echo", IMAGE)) == {}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.title)
def test_every_target_names_contenders_and_payloads_that_exist(target: object) -> None:
    found = next(one for one in TARGETS if one is target)
    assert {found.ours, found.theirs, found.limit} - {""} <= BY_NAME.keys()
    assert set(found.bounds) <= PAYLOADS.keys()


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("wall", 4.2e-6, "4.2 µs"),
        ("wall", 412.4e-6, "412 µs"),
        ("cpu", 9.034e-3, "9.03 ms"),
        ("p99", 1.5, "1500 ms"),
        ("rate", 1234.5, "1234"),
        ("rate", 3.456, "3.46"),
        ("peak", 4_915_200, "4.9"),
    ],
)
def test_figures_have_three_digits_and_a_unit(metric: Metric, value: float, expected: str) -> None:
    assert format_value(metric, value) == expected


def test_a_row_where_ours_is_not_the_best_names_who_is() -> None:
    ours, inline, theirs, other = (
        BY_NAME[name]
        for name in ("ours-http", "ours-http-inline", "tritonclient-http", "pytriton-http")
    )
    assert mark({ours: 1.0, theirs: 2.0}, "wall") == "yes, 0.50"
    assert mark({ours: 2.0, inline: 0.5, theirs: 1.6, other: 3.0}, "wall") == (
        "**no**: 1.25 of tritonclient"
    )
    assert mark({ours: 2.0, theirs: 1.0}, "rate") == "yes, 2.00"
    assert mark({ours: 2.0}, "wall") == ""


def test_a_table_has_a_line_for_its_head_and_for_each_row() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_report_has_what_was_measured_and_nothing_else() -> None:
    cell = Cell("echo", IMAGE)
    results = {
        (cell, "ours-http"): figures(0.010, peaks=(5_000_000,)),
        (cell, "ours-http-inline"): figures(0.020),
        (cell, "tritonclient-http"): figures(0.040),
    }
    text = render(Plan((cell,), (cell,), rounds=3), results, MACHINE)
    assert "2026-01-02; A CPU, 2 cores" in text
    assert "numpy 1.26.4" in text
    assert (
        "| HTTP inline / tritonclient, wall | 4.9 MB | 0.40 | 0.50 | 0.50 to 0.50 | **no** |  |"
        in text
    )
    assert "| echo | 4.9 MB | 1 | **10 ms** | 20 ms | 40 ms | yes, 0.25 |" in text
    assert "| echo | 4.9 MB | 1 | **5.0** |  |  |  |" in text
    assert "gRPC:" not in text


def test_a_limit_is_no_rival_and_stands_beside_a_target_that_is_missed() -> None:
    cell = Cell("echo", IMAGE)
    results = {
        (cell, "ours-http-inline"): figures(0.020),
        (cell, "tritonclient-http"): figures(0.040),
        (cell, "limit-http"): figures(0.016),
    }
    text = render(Plan((cell,), (), rounds=3), results, MACHINE)
    assert "0.50 to 0.50 | **no** | 1.25 of a bare socket |" in text
    assert "| bare socket | echo | 4.9 MB | 16 ms | 20 ms | 1.25 | 1.25 to 1.25 | 8 ms |" in text
    assert "| echo | 4.9 MB | 1 | **20 ms** | 40 ms | yes, 0.50 |" in text


def test_a_target_that_is_met_needs_no_limit() -> None:
    cell = Cell("echo", 16)
    results = {
        (cell, "ours-http-inline"): figures(0.010),
        (cell, "tritonclient-http"): figures(0.040),
        (cell, "limit-http"): figures(0.008),
    }
    text = render(Plan((cell,), (), rounds=3), results, MACHINE)
    assert (
        "| HTTP inline / tritonclient, wall | 16 B | 0.75 | 0.25 | 0.25 to 0.25 | yes |  |" in text
    )


def test_a_line_of_the_picture_has_the_figures_over_those_of_tritonclient() -> None:
    results = {
        (Cell("echo", 16), "ours-http"): figures(0.001),
        (Cell("echo", IMAGE), "ours-http"): figures(0.010),
        (Cell("echo", IMAGE), "tritonclient-http"): figures(0.040),
        (Cell("echo", IMAGE, 4), "ours-http"): figures(9.0),
        (Cell("echo", IMAGE), "ours-grpc"): figures(9.0),
    }
    ours, theirs = lines(results, "http", "wall")
    assert ours.contender.name == "ours-http"
    assert ours.ratios == {IMAGE: pytest.approx(0.25)}
    assert theirs.ratios == {IMAGE: 1.0}
