"""A backend beside others, and without its server: a part of the suite."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from infer_backends._errors import DeadlineExceeded, InferenceFailed, Unavailable
from infer_backends._model import Model
from infer_backends._open import open_model
from infer_backends._url import ModelURL
from infer_backends.testing._fake_model import FakeModel
from infer_backends.testing._reference import REFERENCE_MODELS
from infer_backends.testing._rules import keeps
from infer_backends.testing._subject import Outage, Subject, URLs
from infer_backends.testing._waist import PATIENCE

#: How long a call waits for a server that is away, in seconds.
_AWAY = 2.0


class MembersContract(Subject):
    """A backend as one of several members of a fallback; the other one is in memory."""

    @pytest.fixture
    def standby(self) -> Iterator[FakeModel]:
        """The same model in memory."""
        with FakeModel(
            "contract-standby", self.main.inputs, self.main.outputs, compute=self.main.compute
        ) as fake:
            yield fake

    @keeps("fallback-first")
    def test_before_another_member_it_answers(
        self, reference_url: URLs, standby: FakeModel
    ) -> None:
        url = reference_url(self.main.name)
        with open_model([url, standby.url]) as model:
            result = self.still_answers(model)
        assert result.backend_url == str(ModelURL.parse(url))
        assert result.attempts == ()
        assert standby.calls == []

    @keeps("fallback-second")
    def test_behind_a_member_that_is_down_it_answers(
        self, reference_url: URLs, standby: FakeModel
    ) -> None:
        url = reference_url(self.main.name)
        with open_model([standby.url, url], timeout=PATIENCE) as model:
            assert self.still_answers(model).backend_url == standby.url
            standby.down()
            result = self.still_answers(model)
            assert result.backend_url == str(ModelURL.parse(url))
            assert [attempt.url for attempt in result.attempts] == [standby.url]
        # And where the other one was down from the beginning.
        with open_model([standby.url, url], timeout=PATIENCE) as model:
            assert self.still_answers(model).backend_url == str(ModelURL.parse(url))

    @keeps("failure-is-no-outage")
    def test_a_failure_of_the_model_is_asked_of_nobody_else(self, reference_url: URLs) -> None:
        if not self.offers("reshaped"):
            return
        reference = REFERENCE_MODELS["reshaped"]
        with FakeModel(
            "contract-standby", reference.inputs, reference.outputs, compute=reference.compute
        ) as standby:
            with open_model([reference_url("reshaped"), standby.url]) as model:
                with pytest.raises(InferenceFailed):
                    model(np.zeros(5, np.float32))
            assert standby.calls == []

    @keeps("outage")
    def test_without_its_server_it_is_unavailable_and_comes_back(
        self, reference_url: URLs, outage: Outage | None
    ) -> None:
        if outage is None:
            return
        with open_model(reference_url(self.main.name)) as model:
            self.still_answers(model)
            with outage():
                for _ in range(3):
                    with pytest.raises((Unavailable, DeadlineExceeded)):
                        model.infer(self.inputs(), timeout=_AWAY)
            _until(lambda: self._answers(model), "it does not come back")

    @keeps("outage-covered")
    def test_no_call_is_lost_while_its_server_is_away(
        self, reference_url: URLs, outage: Outage | None, standby: FakeModel
    ) -> None:
        if outage is None:
            return
        url = reference_url(self.main.name)
        mine = str(ModelURL.parse(url))
        answered: list[str] = []
        over = threading.Event()

        def call(number: int, model: Model) -> None:
            while not over.is_set():
                answered.append(self.still_answers(model, number).backend_url)
                over.wait(0.01)

        with (
            open_model([url, standby.url], timeout=20, probe_period=0.2) as model,
            ThreadPoolExecutor(3) as pool,
        ):
            calls = [pool.submit(call, number, model) for number in range(3)]
            try:
                _until(lambda: mine in answered[-3:], "it does not answer", calls)
                with outage():
                    _until(lambda: standby.url in answered[-3:], "nobody stands in", calls)
                _until(lambda: mine in answered[-3:], "it does not come back", calls)
            finally:
                over.set()
            for done in calls:
                done.result()

    def _answers(self, model: Model) -> bool:
        try:
            self.still_answers(model)
        except (Unavailable, DeadlineExceeded):
            return False
        return True


def _until(condition: Callable[[], bool], otherwise: str, calls: Any = ()) -> None:
    """Wait for a condition; as long as the calls go on."""
    __tracebackhide__ = True
    end = time.monotonic() + PATIENCE
    while not condition():
        for call in calls:
            if call.done():
                call.result()
        assert time.monotonic() < end, otherwise
        time.sleep(0.02)
