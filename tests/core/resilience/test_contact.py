"""A URL is opened once, however many ask for it, and asked anew what its model is."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from infer_backends import (
    DeadlineExceeded,
    InferError,
    ModelClosed,
    ModelNotFound,
    PermissionDenied,
    PluginError,
    Unavailable,
)
from infer_backends.plugin import Deadline
from tests.core.fakes import FakeBackend, ManualClock, request
from tests.core.resilience.members import (
    BY_FAKE,
    FIXED,
    OTHER,
    Described,
    Switch,
    at_once,
    threads,
    until,
)


def soon() -> Deadline:
    return Deadline.after(10)


class Held:
    """Keeps an opening from going on until a test lets it."""

    def __init__(self, switch: Switch) -> None:
        self.inside, self.leave = threading.Event(), threading.Event()
        switch.before_open = self.hold

    def hold(self, deadline: Deadline) -> None:
        self.inside.set()
        assert self.leave.wait(10)


def test_many_threads_load_it_once() -> None:
    switch = Switch("fake://h/m", lazy=True)
    contact = switch.contact()
    found: list[object] = []
    at_once(12, lambda: found.append(contact.load(soon()).backend))
    assert found == [switch.backend] * 12
    assert switch.opened == 1


def test_a_deadline_holds_while_loading_goes_on_for_the_next_call() -> None:
    switch = Switch("fake://h/m", lazy=True)
    contact = switch.contact()
    held = Held(switch)
    with pytest.raises(DeadlineExceeded, match="being loaded, which goes on: open with preload"):
        contact.load(Deadline.after(0.01))
    assert contact.loading
    held.leave.set()
    assert contact.load(soon()).backend is switch.backend
    until(lambda: not contact.loading)
    assert switch.opened == 1


def test_each_who_waits_for_a_load_that_fails_is_told_by_an_error_of_his_own() -> None:
    switch = Switch("fake://h/m", lazy=True)
    contact = switch.contact()
    held = Held(switch)
    switch.down = Unavailable("no memory", unprocessed=True)
    errors: list[InferError] = []

    def load() -> None:
        try:
            contact.load(soon())
        except InferError as exc:
            errors.append(exc)

    release = threading.Timer(0.05, held.leave.set)
    release.start()
    at_once(6, load)
    release.join()
    assert len({id(error) for error in errors}) == 6
    assert {(type(error), str(error), error.unprocessed) for error in errors} == {
        (Unavailable, "no memory", True)
    }


def test_after_a_load_that_failed_the_next_call_loads_again() -> None:
    switch = Switch("fake://h/m", lazy=True)
    contact = switch.contact()
    switch.down = Unavailable("no memory")
    with pytest.raises(Unavailable):
        contact.load(soon())
    switch.down = None
    assert contact.load(soon()).backend is switch.backend


def test_a_plugin_that_raises_what_it_should_not_while_loading_is_named_without_its_text() -> None:
    switch = Switch("fake://h/m", lazy=True)
    switch.down = KeyError("secret")
    with pytest.raises(
        PluginError, match=f"fake://h/m{BY_FAKE} raised KeyError when it was loaded"
    ) as err:
        switch.contact().load(soon())
    assert "secret" not in str(err.value)


def test_where_no_thread_can_be_had_for_a_load_the_call_that_needs_it_loads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    switch = Switch("fake://h/m", lazy=True)
    contact = switch.contact()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        switch.down = Unavailable("no memory")
        with pytest.raises(Unavailable, match="no memory"):
            contact.load(soon())
        switch.down = None
        assert contact.load(soon()).backend is switch.backend
    assert not contact.loading


def test_closing_during_a_load_closes_what_is_loaded_after_all() -> None:
    switch = Switch("fake://h/m", lazy=True)
    contact = switch.contact()
    held = Held(switch)
    told: list[type[BaseException]] = []

    def load() -> None:
        try:
            contact.load(soon())
        except InferError as exc:
            told.append(type(exc))

    caller = threading.Thread(target=load)
    caller.start()
    assert held.inside.wait(10)
    release = threading.Timer(0.05, held.leave.set)
    release.start()
    contact.close()
    release.join()
    caller.join(10)
    assert switch.backend.closed
    assert told == [ModelClosed]
    until(lambda: not threads())


def test_what_is_closed_is_not_opened_any_more() -> None:
    switch = Switch("fake://h/m")
    contact = switch.contact()
    contact.close()
    contact.close()
    with pytest.raises(ModelClosed):
        contact.open(soon())
    assert switch.opened == 0


def test_who_waits_for_another_to_open_it_waits_until_his_own_deadline() -> None:
    switch = Switch("fake://h/m")
    contact = switch.contact()
    held = Held(switch)
    first = threading.Thread(target=contact.open, args=(soon(),))
    first.start()
    assert held.inside.wait(10)
    with pytest.raises(DeadlineExceeded, match="while fake://h/m was being opened"):
        contact.open(Deadline.after(0.01))
    held.leave.set()
    first.join(10)
    assert contact.open(soon()).backend is switch.backend
    contact.close()


def test_what_can_describe_itself_is_not_opened_for_that() -> None:
    switch = Switch("fake://h/m", lazy=True)
    contact = switch.contact()
    assert contact.first(soon(), needed=False) == (switch.backend.metadata, False)
    assert contact.lazy
    assert switch.opened == 0


class TestRenewing:
    """What a probe does."""

    def setup_method(self) -> None:
        self.backends = [Described(), Described()]
        self.switch = Switch("fake://h/m", self.backends[0])
        self.contact = self.switch.contact()
        self.contact.agreed = self.backends[0].metadata
        self.contact.open(soon())

    def test_one_that_says_the_same_stays_as_it_is(self) -> None:
        assert self.contact.renew(soon()) == []
        assert self.switch.opened == 1

    def test_one_that_is_not_ready_is_unavailable(self) -> None:
        self.backends[0].is_ready = False
        with pytest.raises(Unavailable, match="is not ready"):
            self.contact.renew(soon())

    @pytest.mark.parametrize(
        "reason", [Unavailable("connection refused"), ModelNotFound("no available versions")]
    )
    def test_one_that_is_not_ready_is_asked_why(self, reason: InferError) -> None:
        self.backends[0].is_ready = False
        self.backends[0].now = reason
        with pytest.raises(type(reason), match=str(reason)):
            self.contact.renew(soon())

    def test_one_that_says_nothing_in_time_is_not_asked_more(self) -> None:
        self.backends[0].is_ready = False
        with pytest.raises(Unavailable, match="did not say in time .* hang"):
            self.contact.renew(Deadline.after(-1))
        assert self.backends[0].described == 0

    def test_one_that_differs_is_not_opened_again(self) -> None:
        self.backends[0].now = OTHER
        assert self.contact.renew(soon()) != []
        assert self.switch.opened == 1

    def test_one_that_differs_is_opened_again_where_that_is_allowed(self) -> None:
        self.backends[0].now = OTHER
        self.contact.renew(soon(), strict=False)
        assert self.switch.opened == 2

    def test_one_that_changed_compatibly_is_opened_again_and_the_old_one_left_in_peace(
        self,
    ) -> None:
        token = object()
        inside = self.contact.openings.enter(token)
        assert inside is not None
        self.backends[0].now = FIXED
        self.switch.backend = self.backends[1]
        assert self.contact.renew(soon()) == []
        current = self.contact.openings.current
        assert current is not None
        assert current.backend is self.backends[1]
        assert self.contact.openings.sweep()
        assert self.backends[0].closed == 0
        inside.inside.discard(token)
        assert not self.contact.openings.sweep()
        assert self.backends[0].closed == 1

    def test_one_that_cannot_say_what_it_is_is_opened_again(self) -> None:
        switch = Switch("fake://h/m", FakeBackend())
        contact = switch.contact()
        contact.agreed = switch.backend.metadata
        contact.open(soon())
        assert contact.renew(soon()) == []
        assert switch.opened == 2


class TestDoubting:
    """Whether it is still the same model."""

    def setup_method(self) -> None:
        self.clock = ManualClock()
        self.backend = Described()
        self.contact = Switch("fake://h/m", self.backend).contact()
        self.contact.agreed = self.backend.metadata
        self.contact.open(soon())

    def changed(self) -> list[str]:
        return self.contact.changed(self.clock, soon())

    def test_it_is_asked_what_it_is_now(self) -> None:
        assert self.changed() == []
        self.clock.advance(1)
        self.backend.now = OTHER
        assert self.changed() == ["input 'x' is FP32[-1, 3] and INT32[-1, 3]"]

    def test_what_was_found_before_the_doubt_arose_does_not_count(self) -> None:
        for described in (1, 2, 3):
            self.changed()
            self.clock.advance(0.001)
            assert self.backend.described == described

    def test_all_who_doubt_at_the_same_moment_share_one_question(self) -> None:
        self.backend.now = OTHER
        found: list[list[str]] = []
        at_once(12, lambda: found.append(self.changed()))
        assert len(found) == 12
        assert all(found)
        assert self.backend.described == 1

    @pytest.mark.parametrize(
        ("raised", "told"),
        [
            (Unavailable("gone"), Unavailable),
            (PermissionDenied("no"), PermissionDenied),
            (KeyError("bug"), PluginError),
        ],
    )
    def test_all_who_doubt_share_an_error_too(
        self, raised: BaseException, told: type[InferError]
    ) -> None:
        self.backend.now = raised
        errors: list[BaseException] = []

        def doubt() -> None:
            try:
                self.changed()
            except InferError as exc:
                errors.append(exc)

        at_once(6, doubt)
        assert [type(error) for error in errors] == [told] * 6
        assert len({id(error) for error in errors}) == 6
        assert self.backend.described == 1

    def test_who_had_too_little_time_does_not_answer_for_others(self) -> None:
        self.backend.now = DeadlineExceeded("too short")
        with pytest.raises(DeadlineExceeded):
            self.changed()
        self.backend.now = OTHER
        assert self.changed() != []

    def test_one_that_cannot_say_is_not_doubted(self) -> None:
        contact = Switch("fake://h/m").contact()
        contact.open(soon())
        assert contact.changed(self.clock, soon()) == []


def test_a_call_that_enters_while_the_backend_is_replaced_is_in_one_that_stays_open() -> None:
    switch = Switch("fake://h/m")
    contact = switch.contact()
    backends: list[FakeBackend] = []

    def install() -> None:
        backends.append(FakeBackend())
        contact.openings.install(backends[-1])

    install()
    stop = threading.Event()
    wrong: list[str] = []

    def calls() -> None:
        while not stop.is_set():
            token = object()
            opened = contact.openings.enter(token)
            assert opened is not None
            opened.backend.infer(request())
            if isinstance(opened.backend, FakeBackend) and opened.backend.closed:
                wrong.append("a backend was closed with a call inside")
            opened.inside.discard(token)

    callers = [threading.Thread(target=calls) for _ in range(4)]
    for caller in callers:
        caller.start()
    for _ in range(200):
        install()
    stop.set()
    for caller in callers:
        caller.join(10)
    contact.openings.sweep()
    assert wrong == []
    assert [backend.closed for backend in backends] == [1] * 200 + [0]


def test_a_backend_that_cannot_be_closed_keeps_nobody_from_the_next_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = FakeBackend()

    def close() -> None:
        raise KeyError("secret")

    close_: Callable[[], None] = close
    backend.close = close_  # type: ignore[method-assign]  # what no plugin should do
    contact = Switch("fake://h/m").contact()
    contact.openings.install(backend)
    contact.openings.install(FakeBackend())
    assert not contact.openings.sweep()
    assert "closing a backend that was replaced raised KeyError" in caplog.text
    assert "secret" not in caplog.text
