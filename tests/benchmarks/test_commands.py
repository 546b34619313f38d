"""What is said to a contender's process, and by it."""

from __future__ import annotations

import io

import numpy as np
import pytest

from tests.benchmarks.commands import Cell, Command, Measurement, Reply
from tests.benchmarks.crews import Crew, Outcome, Threads
from tests.benchmarks.models import Array, answer_of, array_of, digest
from tests.benchmarks.worker import serve

CELL = Cell("echo", 16, 4)


@pytest.mark.parametrize(
    "command", [Command("stop", CELL), Command("measure", CELL, warmup=4, calls=40)]
)
def test_a_command_comes_out_of_its_line_as_it_went_in(command: Command) -> None:
    assert Command.from_line(command.to_line()) == command


@pytest.mark.parametrize(
    "reply",
    [
        Reply(),
        Reply(error="a wrong answer\nof two lines"),
        Reply(digest="00ff", peaks=(1, 2), versions={"python": "3.12"}),
        Reply(measurement=Measurement((0.1, 0.2), 0.3, None)),
    ],
)
def test_a_reply_comes_out_of_its_one_line_as_it_went_in(reply: Reply) -> None:
    line = reply.to_line()
    assert line.count("\n") == 1
    assert Reply.from_line(line) == reply


def replies(crew: Crew, *commands: Command) -> list[Reply]:
    written = io.StringIO()
    serve(crew, io.StringIO("".join(command.to_line() for command in commands)), written)
    return [Reply.from_line(line) for line in written.getvalue().splitlines()]


def test_a_contender_measures_as_many_calls_as_it_is_told() -> None:
    opened = []

    def open_call(model: str) -> object:
        opened.append(model)
        return lambda array: array

    crew = Threads(open_call)  # type: ignore[arg-type]  # any callable serves here
    (reply,) = replies(crew, Command("measure", CELL, warmup=4, calls=40))
    assert reply.measurement is not None
    assert len(reply.measurement.latencies) == 40
    assert 0 < max(reply.measurement.latencies) <= reply.measurement.wall
    assert opened == ["echo"] * CELL.callers


def test_a_contender_tells_a_hash_of_its_answer() -> None:
    (reply,) = replies(Threads(lambda _: lambda array: array), Command("check", CELL))
    assert reply.digest == digest(answer_of("echo", array_of(16)))


def test_a_contender_that_answers_wrongly_has_no_figures() -> None:
    crew = Threads(lambda _: lambda array: array + 1)
    (reply,) = replies(crew, Command("measure", CELL, calls=4))
    assert reply.measurement is None
    assert "wrong answer" in reply.error


def test_a_contender_that_fails_says_why_and_goes_on_until_it_is_stopped() -> None:
    def fail(array: Array) -> Array:
        raise ConnectionError("the server is gone")

    command = Command("measure", CELL, calls=4)
    got = replies(Threads(lambda _: fail), command, command, Command("stop", CELL), command)
    assert [reply.error for reply in got] == ["ConnectionError: the server is gone"] * 2


def test_callers_do_not_wait_for_one_that_cannot_be_opened() -> None:
    def refuse(model: str) -> object:
        raise ValueError(model)

    crew = Threads(refuse)  # type: ignore[arg-type]  # it returns nothing
    (reply,) = replies(crew, Command("measure", CELL, calls=4))
    assert reply.error.startswith(("ValueError", "BrokenBarrierError"))


def test_the_memory_of_an_answer_is_found() -> None:
    class Copies:
        def run(self, cell: Cell, array: Array, calls: int) -> Outcome:
            copies = [array.copy() for _ in range(3)]
            return Outcome(Measurement((), 0.0, 0.0), (copies[0],))

    payload = 32_000_000
    command = Command("memory", Cell("echo", payload), warmup=1, calls=1)
    (reply,) = replies(Copies(), command)
    assert reply.peaks[0] == pytest.approx(3 * payload, rel=0.1)


def test_equal_hashes_mean_equal_dtype_shape_and_bits() -> None:
    array = np.array([0.0, 1.0], np.float32)
    others: list[Array] = [
        array.reshape(2, 1),
        array.astype(np.float64),
        array.view(np.int32),
        -array,
    ]
    assert digest(array) == digest(array.copy())
    assert digest(array) not in {digest(other) for other in others}
