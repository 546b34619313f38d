"""Who is asked for what, and what happens to a contender that fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import pytest

from tests.benchmarks.clients import Addresses
from tests.benchmarks.commands import Cell, Command, Measurement, Reply
from tests.benchmarks.contenders import BY_NAME, Contender
from tests.benchmarks.driver import Worker, measure_rounds, takes_part
from tests.benchmarks.plan import Plan

CELL = Cell("echo", 16)
PLAN = Plan((CELL, Cell("tiny", 16)), (), rounds=3)


class Asked:
    """A worker that answers at once, and keeps what it was asked."""

    def __init__(self, wall: float) -> None:
        self.wall = wall
        self.commands: list[Command] = []

    def ask(self, command: Command) -> Reply:
        self.commands.append(command)
        return Reply(measurement=Measurement((self.wall,), self.wall, 0.0))


def asked(seconds: dict[str, float]) -> dict[str, list[Command]]:
    workers = {BY_NAME[name]: Asked(wall) for name, wall in seconds.items()}
    measure_rounds(PLAN, cast("dict[Contender, Worker]", workers), {}, lambda _: None)
    return {contender.name: worker.commands for contender, worker in workers.items()}


def test_a_client_of_the_server_is_measured_in_every_round_of_its_cells() -> None:
    commands = asked({"ours-http": 0.1, "tritonclient-grpc": 0.1})
    expected = [Command("measure", CELL, PLAN.warmup(CELL), PLAN.calls(CELL))] * PLAN.rounds
    assert commands == {"ours-http": expected, "tritonclient-grpc": expected}


def test_who_runs_models_itself_is_asked_for_the_model_in_a_file_alone() -> None:
    commands = asked({"onnxruntime": 0.1})["onnxruntime"]
    assert [command.cell.model for command in commands] == ["tiny"] * PLAN.rounds


def test_a_limit_is_measured_with_one_caller_alone() -> None:
    limit = BY_NAME["limit-http"]
    assert takes_part(limit, Cell("echo", 16))
    assert not takes_part(limit, Cell("echo", 16, 8))
    assert not takes_part(limit, Cell("tiny", 16))


def test_what_takes_too_long_is_measured_once() -> None:
    commands = asked({"ours-http": 0.1, "tritonclient-http-aio": 60.0})
    assert len(commands["ours-http"]) == PLAN.rounds
    assert len(commands["tritonclient-http-aio"]) == 1


def test_a_contender_that_cannot_start_is_told_with_what_it_printed(tmp_path: Path) -> None:
    unknown = Contender("nobody-http", "nobody", "http")
    worker = Worker(unknown, Path(sys.executable), Addresses(1, 2, tmp_path))
    try:
        with pytest.raises(RuntimeError, match="(?s)nobody-http: it ended.*KeyError: 'nobody'"):
            worker.greet()
    finally:
        worker.close()
