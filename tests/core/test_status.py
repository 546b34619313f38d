"""The status of an open model is values, and a table to read."""

from __future__ import annotations

import pickle

from infer_backends._errors import Unavailable
from infer_backends._member_state import MemberState
from infer_backends._status import MemberStatus, ModelStatus


def member(url: str, **changes: object) -> MemberStatus:
    fields: dict[str, object] = {
        "url": url, "state": MemberState.READY, "since": 2.0, "calls": 7, "failures": 0,
        "in_flight": 1, "latency": 0.0042, "last_error": None, "probes": 0, "retry_in": None,
    }  # fmt: skip
    return MemberStatus(**{**fields, **changes})  # type: ignore[arg-type]  # fields by name


DOWN = member(
    "http://a:8000/m",
    state=MemberState.DOWN,
    since=12.34,
    failures=5,
    latency=None,
    last_error=Unavailable("connection\nrefused"),
    retry_in=0.8,
)


def test_the_table_has_a_line_for_every_member_and_the_counts() -> None:
    table = str(ModelStatus((DOWN, member("onnx:m.onnx")), fallbacks=3, retries=1))
    heading, first, second, counts = table.splitlines()
    assert heading.split()[:3] == ["member", "state", "for"]
    assert first.split() == [
        "http://a:8000/m", "down", "12.3", "s", "7", "5", "1", "-", "0.8", "s",
        "Unavailable:", "connection", "refused",
    ]  # fmt: skip
    assert second.split() == ["onnx:m.onnx", "ready", "2.0", "s", "7", "0", "1", "4.2", "ms", "-"]
    assert counts == "fallbacks: 3, retries: 1"
    assert heading.index("state") == first.index("down") == second.index("ready")


def test_replicas_stand_below_their_member_and_further_in() -> None:
    replicas = (member("http://a:8000/m"), member("http://b:8000/m"))
    lines = str(ModelStatus((member("http://a:8000/m", replicas=replicas),), 0, 0)).splitlines()
    assert [line[: line.index("http")] for line in lines[1:4]] == ["", "  ", "  "]


def test_a_long_error_does_not_make_the_table_wide() -> None:
    table = str(ModelStatus((member("http://a/m", last_error=Unavailable("x" * 5000)),), 0, 0))
    assert max(map(len, table.splitlines())) < 300


def test_an_error_does_not_break_the_table_nor_move_the_cursor() -> None:
    error = Unavailable("a\n\tb\x1b[31m\x9bc")
    table = str(ModelStatus((member("http://a/m", last_error=error),), 0, 0))
    assert "Unavailable: a b?[31m?c" in table


def test_a_status_can_be_sent_to_another_process() -> None:
    status = ModelStatus((DOWN,), 1, 2)
    again = pickle.loads(pickle.dumps(status))
    assert str(again) == str(status)
    assert again.members[0].state is MemberState.DOWN
