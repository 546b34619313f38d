"""How much of its time an attempt may use, and how often a call is sent again."""

from __future__ import annotations

import pytest

from infer_backends._resilience._budget import RetryBudget, need, pause, reserve


@pytest.mark.parametrize(
    ("remaining", "members", "kept"),
    [
        (10.0, [], 0.0),
        (10.0, [None], 2.5),
        (0.8, [None], 0.25),
        (0.2, [None], 0.1),
        (10.0, [0.5], 0.5),
        (10.0, [0.001], 0.05),
        (10.0, [0.5, None], 3.0),
        (10.0, [9.0], 5.0),
        (16.0, [None, None, None], 8.0),
    ],
)
def test_the_reserve_is_what_those_need_that_come_next_and_half_at_most(
    remaining: float, members: list[float | None], kept: float
) -> None:
    known = sum(need(measured) for measured in members if measured is not None)
    assert reserve(remaining, known, members.count(None)) == pytest.approx(kept)


def test_ten_retries_are_saved_up_and_no_more() -> None:
    budget = RetryBudget()
    budget.calls = 10_000
    assert [budget.withdraw() for _ in range(12)] == [True] * 10 + [False] * 2
    assert budget.retries == 10


def test_then_there_is_one_for_five_calls() -> None:
    budget = RetryBudget()
    while budget.withdraw():
        pass
    granted = 0
    for _ in range(100):
        budget.calls += 1
        granted += budget.withdraw()
    assert granted in {19, 20}


def test_pauses_double_up_to_a_second_and_are_all_jitter() -> None:
    assert [pause(retry, 1.0) for retry in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert pause(3, 0.0) == 0.0
    assert pause(0, 0.5) == 0.025
