"""What an endpoint takes to answer, as calls have shown."""

from __future__ import annotations

import pytest

from infer_backends._resilience._latency import Latency


def test_it_is_not_known_before_the_first_answer() -> None:
    latency = Latency()
    assert (latency.typical, latency.ample) == (None, None)


def test_the_first_answer_is_typical_and_three_times_that_is_ample() -> None:
    latency = Latency()
    latency.observe(0.1)
    assert latency.typical == 0.1
    assert latency.ample == pytest.approx(0.3)


def test_what_is_always_the_same_is_ample() -> None:
    latency = Latency()
    for _ in range(100):
        latency.observe(0.1)
    assert latency.ample == pytest.approx(0.1, rel=0.01)


def test_one_that_became_slower_is_known_to_be_after_a_while() -> None:
    latency = Latency()
    for duration in [0.1] * 50 + [0.5] * 50:
        latency.observe(duration)
    assert latency.typical == pytest.approx(0.5, rel=0.01)


def test_one_slow_answer_changes_little_of_what_is_typical_and_more_of_what_is_ample() -> None:
    latency = Latency()
    for duration in [0.1] * 100 + [0.9]:
        latency.observe(duration)
    assert latency.typical == pytest.approx(0.2, rel=0.01)
    assert latency.ample is not None
    assert latency.ample > 0.9
