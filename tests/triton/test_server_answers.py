"""What servers say of themselves and their models, read."""

from __future__ import annotations

from typing import Any

import pytest

from infer_backends.plugin import (
    BatchStatistics,
    ModelState,
    ModelStatistics,
    ProtocolError,
    ServerMetadata,
    StatisticDuration,
)
from infer_backends_triton._server_answers import (
    read_server_metadata,
    read_states,
    read_statistics,
)


def test_a_server_need_say_nothing_but_its_name() -> None:
    assert read_server_metadata({"name": "x"}) == ServerMetadata("x")
    whole = {"name": "x", "version": "2", "extensions": ["a", 3, "b"]}
    assert read_server_metadata(whole) == ServerMetadata("x", "2", ("a", "b"))


def test_states_are_read_from_triton_and_from_mlserver() -> None:
    index = [
        {"name": "a"},
        {"name": "b", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "c", "state": "State.READY", "reason": None},
    ]
    assert read_states(index) == [
        ModelState("a"),
        ModelState("b", "1", "UNAVAILABLE", "unloaded"),
        ModelState("c", "", "READY"),
    ]


@pytest.mark.parametrize("count", [3, "3"])
def test_statistics_are_in_seconds_and_counts(count: Any) -> None:
    duration = {"count": count, "ns": 1_500_000_000}
    entry = {
        "name": "m",
        "version": "2",
        "last_inference": "1700000000500",
        "inference_count": count,
        "execution_count": 1,
        "inference_stats": {"success": duration, "queue": duration, "of the future": duration},
        "batch_stats": [
            {"batch_size": 8, "compute_infer": duration},
            {"batch_size": "1", "compute_infer": {}},
        ],
        "memory_usage": [],
    }
    took = StatisticDuration(3, 1.5)
    assert read_statistics({"model_stats": [entry]}) == [
        ModelStatistics(
            "m",
            "2",
            inferences=3,
            executions=1,
            last_inference=1700000000.5,
            success=took,
            queue=took,
            batches=(BatchStatistics(1), BatchStatistics(8, compute_infer=took)),
        )
    ]
    assert took.mean == 0.5


def test_what_an_old_server_does_not_say_is_zero() -> None:
    entries = [{"name": "m", "last_inference": 0}, {"name": "n", "inference_stats": None}]
    assert read_statistics({"model_stats": entries}) == [
        ModelStatistics("m"),
        ModelStatistics("n"),
    ]
    assert read_statistics({}) == []


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (read_server_metadata, []),
        (read_server_metadata, {"name": 3}),
        (read_server_metadata, {"name": "x", "extensions": "all"}),
        (read_states, [3]),
        (read_states, [{"version": "1"}]),
        (read_states, [{"name": "m", "state": 3}]),
        (read_statistics, []),
        (read_statistics, {"model_stats": {}}),
        (read_statistics, {"model_stats": [3]}),
        (read_statistics, {"model_stats": [{"inference_count": -1}]}),
        (read_statistics, {"model_stats": [{"inference_count": "many"}]}),
        (read_statistics, {"model_stats": [{"inference_count": 1 << 64}]}),
        (read_statistics, {"model_stats": [{"inference_count": True}]}),
        (read_statistics, {"model_stats": [{"inference_stats": 3}]}),
        (read_statistics, {"model_stats": [{"inference_stats": {"success": [1]}}]}),
        (read_statistics, {"model_stats": [{"batch_stats": [3]}]}),
    ],
)
def test_what_is_not_of_the_protocol_is_refused(read: Any, answer: Any) -> None:
    with pytest.raises(ProtocolError):
        read(answer)
