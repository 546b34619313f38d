"""From measurements to figures."""

from __future__ import annotations

import pytest

from tests.benchmarks.commands import Cell, Measurement
from tests.benchmarks.machine import parse_cpu
from tests.benchmarks.memory import parse_status
from tests.benchmarks.plan import FULL, PAYLOADS, QUICK, Plan, shuffled
from tests.benchmarks.statistic import Figures, percentile, ratio

ROUNDS = [
    Measurement((0.010, 0.011, 0.090), 0.2, 0.06),
    Measurement((0.020, 0.021, 0.022), 0.1, 0.03),
    Measurement((0.012, 0.013, 0.014), 0.1, 0.03),
]


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 0.99, 1), (100, 0.99, 99), (101, 0.99, 100), (200, 0.5, 100), (3, 1.0, 3), (3, 0.0, 1)],
)
def test_a_percentile_is_the_least_that_so_many_do_not_exceed(
    count: int, share: float, expected: int
) -> None:
    assert percentile(range(count, 0, -1), share) == expected


def test_figures_are_medians_over_the_rounds_of_what_each_round_had() -> None:
    figures = Figures.of(ROUNDS, peaks=[3, 1, 2])
    assert figures.calls == 9
    assert figures.value("wall") == 0.013
    assert figures.value("p99") == 0.090
    assert figures.value("rate") == pytest.approx(30)
    assert figures.value("cpu") == pytest.approx(0.01)
    assert figures.value("peak") == 2


def test_what_was_not_measured_has_no_figure() -> None:
    figures = Figures.of([Measurement((0.1,), 0.1, None)])
    assert figures.value("cpu") is None
    assert figures.value("peak") is None
    assert ratio(figures, Figures.of(ROUNDS), "cpu") is None


def test_a_ratio_is_of_medians_and_its_range_of_single_rounds() -> None:
    theirs = Figures.of([Measurement((0.1,), 1, 1), Measurement((0.2,), 1, 1)])
    ours = Figures.of([Measurement((0.05,), 1, 1), Measurement((0.04,), 1, 1)])
    found = ratio(ours, theirs, "wall")
    assert found is not None
    assert found.value == pytest.approx(0.3)
    assert (found.lowest, found.highest) == pytest.approx((0.2, 0.5))


def test_a_ratio_is_over_the_rounds_that_both_were_measured_in() -> None:
    theirs = Figures.of([Measurement((0.1,), 1, 1)])
    ours = Figures.of([Measurement((0.05,), 1, 1), Measurement((9.0,), 1, 1)])
    found = ratio(ours, theirs, "wall")
    assert found is not None
    assert (found.value, found.lowest, found.highest) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize("plan", [FULL, QUICK], ids=["full", "quick"])
def test_callers_share_the_calls_of_every_cell_equally(plan: Plan) -> None:
    for cell in plan.cells:
        assert plan.calls(cell) >= cell.callers
        assert plan.calls(cell) % cell.callers == 0
        assert plan.warmup(cell) == 1 or plan.warmup(cell) % cell.callers == 0


def test_the_full_plan_has_every_payload_with_1_4_and_16_callers() -> None:
    wanted = {Cell("echo", payload, callers) for payload in PAYLOADS for callers in (1, 4, 16)}
    assert wanted <= set(FULL.cells)


@pytest.mark.parametrize("plan", [FULL, QUICK], ids=["full", "quick"])
def test_memory_is_taken_only_of_what_is_measured(plan: Plan) -> None:
    assert set(plan.memory) <= set(plan.cells)


def test_the_order_changes_with_the_round_and_is_the_same_in_every_run() -> None:
    items = list("abcdefgh")
    orders = [shuffled(items, str(number)) for number in range(5)]
    assert orders == [shuffled(items, str(number)) for number in range(5)]
    assert all(sorted(order) == items for order in orders)
    assert len({tuple(order) for order in orders}) == 5


def test_sizes_of_the_kernel_are_read_in_bytes() -> None:
    text = "Name:\tpython\nVmHWM:\t   1024 kB\nVmRSS:\t     512 kB\n"
    assert parse_status(text, "VmHWM") == 1024 * 1024
    with pytest.raises(ValueError, match="no VmPeak"):
        parse_status(text, "VmPeak")


def test_the_processor_is_named_by_its_model() -> None:
    assert (
        parse_cpu("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nflags\t: fpu\n") == "A CPU @ 2 GHz"
    )
    assert parse_cpu("") != ""
