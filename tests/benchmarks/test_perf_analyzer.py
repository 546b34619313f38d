"""What NVIDIA's load tester is told, and what it tells."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.commands import Cell
from tests.benchmarks.perf_analyzer import command_of, parse_profile


def test_the_requests_are_read_from_the_file_of_timestamps() -> None:
    requests = [
        {"timestamp": 1_000_000_000, "response_timestamps": [1_002_000_000]},
        {"timestamp": 1_500_000_000, "response_timestamps": [1_400_000_000, 1_504_000_000]},
    ]
    taken = parse_profile(json.dumps({"experiments": [{"requests": requests}]}))
    assert taken.latencies == (0.002, 0.004)
    assert taken.wall == 0.504
    assert taken.cpu is None


def test_the_command_sends_the_elements_that_the_payload_has() -> None:
    command = command_of(Path("pa"), "grpc", "127.0.0.1:8001", Cell("echo", 16), 40)
    assert command[0] == "pa"
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--shape"] == "INPUT:4"
    assert options["-i"] == "grpc"
    assert options["--measurement-request-count"] == "40"
