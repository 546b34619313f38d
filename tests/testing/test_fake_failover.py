"""What an application does to test its own fallback: without a server, and without waiting."""

from __future__ import annotations

import pytest

import infer_backends as ib
from infer_backends.testing import FakeModel, FakePair, Hang, ManualClock, probe_now
from tests.testing.conftest import ONES, X, Y


def who(model: ib.Model) -> str:
    return model.infer({"x": ONES}).backend_url


def states(model: ib.Model) -> list[str]:
    return [str(member.state) for member in model.status().members]


def test_the_second_answers_while_the_first_is_down_and_the_first_afterwards(
    pair: FakePair,
) -> None:
    assert pair.url == f"{pair.server.url} {pair.local.url}"
    with ib.open_model(pair.url) as model:
        assert who(model) == pair.server.url
        with pair.server.down():
            result = model.infer({"x": ONES})
            assert result.backend_url == pair.local.url
            assert isinstance(result.attempts[0].error, ib.Unavailable)
        assert who(model) == pair.server.url
    assert [call.answered for call in pair.server.calls] == [True, False, True]


def test_a_server_that_was_given_up_is_asked_again_once_a_probe_found_it_ready(
    pair: FakePair,
) -> None:
    with ib.open_model(pair.url) as model:
        pair.server.down()
        assert {who(model) for _ in range(6)} == {pair.local.url}
        assert states(model) == ["down", "ready"]
        # It is left alone: five failures were enough.
        assert len(pair.server.calls) == 5
        probe_now(model)
        assert states(model) == ["down", "ready"]
        pair.server.up()
        probe_now(model)
        assert states(model) == ["recovering", "ready"]
        assert {who(model) for _ in range(3)} == {pair.server.url}
        assert states(model) == ["ready", "ready"]


def test_a_server_that_hangs_costs_one_wait(pair: FakePair) -> None:
    with ib.open_model(pair.url, timeout=0.5) as model:
        with pair.server.hang():
            assert who(model) == pair.local.url
            assert states(model)[0] == "suspect"
            assert who(model) == pair.local.url
            assert len(pair.server.calls) == 1
        probe_now(model)
        assert who(model) == pair.server.url


def test_one_answer_that_hangs_is_taken_over(pair: FakePair) -> None:
    pair.server.script(Hang())
    with ib.open_model(pair.url, timeout=0.4) as model:
        assert who(model) == pair.local.url


def test_the_local_model_serves_where_the_server_is_down_at_the_start(pair: FakePair) -> None:
    with pair.server.down(), ib.open_model(pair.url) as model:
        assert who(model) == pair.local.url
        assert states(model) == ["down", "ready"]
        pair.server.up()
        probe_now(model)
        assert who(model) == pair.server.url


def test_both_down_is_one_error_that_shows_each_attempt(pair: FakePair) -> None:
    with ib.open_model(pair.url) as model, pair.server.down(), pair.local.down():
        with pytest.raises(ib.AllBackendsFailed) as found:
            model(ONES)
        assert [attempt.url for attempt in found.value.attempts] == [
            pair.server.url,
            pair.local.url,
        ]


def test_members_that_are_not_the_same_model_are_refused_at_open(fake: FakeModel) -> None:
    other = ib.TensorSpec("y", ib.DataType.FP32, (-1, 4))
    with FakeModel("other", [X], [other]) as wrong:
        with pytest.raises(ib.MetadataMismatch, match=r"FP32\[-1, 3\] and FP32\[-1, 4\]"):
            ib.open_model(f"{fake.url} {wrong.url}")


def test_a_server_that_comes_back_with_another_model_is_left_out(pair: FakePair) -> None:
    with ib.open_model(pair.url) as model:
        pair.server.down()
        for _ in range(5):
            who(model)
        pair.server.become(outputs=[ib.TensorSpec("z", ib.DataType.FP32, (-1, 3))])
        pair.server.up()
        probe_now(model)
        assert states(model)[0] == "excluded"
        assert isinstance(model.status().members[0].last_error, ib.MetadataMismatch)
        assert who(model) == pair.local.url


def test_a_model_that_changes_while_it_is_called_refuses_what_does_not_fit(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model:
        fake.become(inputs=[ib.TensorSpec("z", ib.DataType.FP32, (-1, 3))])
        with pytest.raises(ib.InvalidInput, match="has the input 'z' now, which the call lacks"):
            model(ONES)
        fake.become(inputs=[ib.TensorSpec("x", ib.DataType.FP32, (-1, 4))])
        with pytest.raises(ib.InvalidInput, match=r"got float32\[2, 3\]"):
            model(ONES)
        fake.become(inputs=[])
        with pytest.raises(ib.InvalidInput, match="no input 'x' any more"):
            model(ONES)
        fake.become(inputs=[X], outputs=[ib.TensorSpec("z", ib.DataType.FP32, (-1, 3))])
        with pytest.raises(ib.InvalidInput, match="has no output 'y'; it has z"):
            model.infer({"x": ONES}, outputs=["y"])
        fake.become(FakeModel("again", [X], [Y], max_batch_size=1))
        with pytest.raises(ib.InvalidInput, match="takes 1 rows; got 2"):
            model(ONES)


def test_a_server_whose_model_is_unloaded_is_an_outage(pair: FakePair) -> None:
    with ib.open_model(pair.url) as model:
        with pair.server.down(error=ib.ModelNotFound("no available versions")):
            assert who(model) == pair.local.url
        assert who(model) == pair.server.url


def test_the_clock_ends_an_outage(pair: FakePair, clock: ManualClock) -> None:
    with ib.open_model(pair.url) as model:
        pair.server.down(2.0)
        assert who(model) == pair.local.url
        clock.advance(2.0)
        assert who(model) == pair.server.url


def test_a_pair_is_like_a_model(fake: FakeModel) -> None:
    with FakePair.like(fake, "copy", seed=3) as copies, ib.open_model(copies.url) as model:
        assert copies.server.url == "fake:copy-server"
        assert copies.local.metadata.inputs == fake.metadata.inputs
        verified = model.verify()
    assert [member.error for member in verified.members] == [None, None]


def test_a_pair_of_which_one_cannot_start_has_started_none() -> None:
    with FakeModel("two-local", [X], [Y]):
        with pytest.raises(ib.PluginConflict):
            FakePair("two", [X], [Y]).start()
        with pytest.raises(ib.ModelNotFound):
            ib.open_model("fake:two-server")


def test_a_single_url_has_nothing_to_probe(fake: FakeModel) -> None:
    with ib.open_model(fake.url) as model:
        probe_now(model)
    with pytest.raises(ib.InvalidInput, match="got FakeModel"):
        probe_now(fake)  # type: ignore[arg-type]
