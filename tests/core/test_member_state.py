"""The states of a member are text, for logs, JSON and metrics."""

from __future__ import annotations

import json
import pickle

import pytest

from infer_backends._member_state import MemberState


def test_the_states_are_these() -> None:
    names = {"unopened", "ready", "suspect", "down", "recovering", "excluded"}
    assert {state.value for state in MemberState} == names
    assert all(state.name == state.value.upper() for state in MemberState)


@pytest.mark.parametrize("state", MemberState)
def test_a_state_reads_as_its_word_everywhere(state: MemberState) -> None:
    assert str(state) == f"{state}" == state.value
    assert json.loads(json.dumps({"state": state})) == {"state": state.value}
    assert state == state.value
    assert pickle.loads(pickle.dumps(state)) is state
