"""How the time of a call is shared out, from made-up figures."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from tests.benchmarks.models import Array
from tests.benchmarks.profile import Share, middle, rows, served, take


def statistics(count: int, nanoseconds: int) -> str:
    success = {"count": count, "ns": nanoseconds}
    return json.dumps({"model_stats": [{"inference_stats": {"success": success}}]})


def test_the_rest_is_what_nobody_accounts_for() -> None:
    assert Share(1.0, 0.25, 0.25, 0.125).rest == 0.375


def test_the_middle_is_the_median_of_each_part() -> None:
    shares = [Share(1, 6, 7, 3), Share(2, 5, 8, 2), Share(3, 4, 9, 1)]
    assert middle(shares) == Share(2, 5, 8, 2)


def test_statistics_of_triton_are_in_nanoseconds() -> None:
    assert served(statistics(3, 1_500_000_000)) == (3, 1.5)


def test_the_server_has_the_time_of_the_requests_that_were_measured() -> None:
    told = iter([statistics(5, 9_000_000_000), statistics(7, 10_000_000_000)])
    called = itertools.count()

    def call(array: Array) -> Array:
        next(called)
        return array

    share = take(call, np.zeros(1), 2, lambda: next(told))
    assert share.server == pytest.approx(0.5)
    assert next(called) == 3  # one to warm up


def test_a_row_names_who_called_and_what_each_part_took() -> None:
    (row,) = rows("http", 16, [("limit-http", Share(4e-6, 1e-6, 1e-6, 3e-6))])
    assert row == ["HTTP", "16 B", "bare socket", "4 µs", "1 µs", "1 µs", "3 µs", "-1 µs"]
