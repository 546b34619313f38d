"""How a backend fails, and what its errors say: a part of the suite."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from infer_backends._errors import (
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    InvalidURL,
    ModelClosed,
    ModelNotFound,
)
from infer_backends._open import open_model
from infer_backends.testing._rules import keeps
from infer_backends.testing._subject import NO_SUCH_MODEL, Subject, URLs
from infer_backends.testing._waist import opened, request_of

#: An element that is looked for in texts.
MARK = 31337
#: Too few for the model ``reshaped``, which takes six.
_FIVE = np.full(5, MARK, np.float32)


class ErrorContract(Subject):
    """Errors of each class that can be provoked."""

    @keeps("not-found")
    def test_a_model_that_is_not_there_is_not_found(self, reference_url: URLs) -> None:
        with pytest.raises(ModelNotFound):
            open_model(reference_url(NO_SUCH_MODEL)).close()

    @keeps("model-failed")
    def test_a_failure_of_the_model_is_an_error_of_its_own(self, reference_url: URLs) -> None:
        if not self.offers("reshaped"):
            return
        with open_model(reference_url("reshaped")) as model:
            for _ in range(3):
                with pytest.raises(InferenceFailed) as caught:
                    model(_FIVE)
                assert type(caught.value).__module__.startswith("infer_backends")
                six = np.arange(6, dtype=np.float32)
                np.testing.assert_array_equal(model(six), six.reshape(2, 3))

    @keeps("errors-own")
    def test_no_other_error_comes_out_of_infer(self, reference_url: URLs) -> None:
        if not self.offers("reshaped"):
            return
        with opened(reference_url("reshaped")) as backend, pytest.raises(InferError):
            backend.infer(request_of({"x": _FIVE}))

    @keeps("errors-chained")
    def test_the_exception_of_the_runtime_is_the_cause(self, reference_url: URLs) -> None:
        if not self.offers("reshaped"):
            return
        with opened(reference_url("reshaped")) as backend:
            with pytest.raises(InferError) as caught:
                backend.infer(request_of({"x": _FIVE}))
        # A server's account of a failure comes in an answer, and there is no exception then.
        foreign = caught.value.__context__
        assert foreign is None or caught.value.__cause__ is not None

    @keeps("errors-pickle")
    def test_errors_survive_pickling(self, reference_url: URLs) -> None:
        for error in self._errors(reference_url):
            for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
                assert type(again) is type(error)
                assert str(again) == str(error)
                assert len(again.attempts) == len(error.attempts)

    @keeps("errors-private")
    def test_no_text_shows_an_element(
        self, reference_url: URLs, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            texts = [f"{error} {error!r}" for error in self._errors(reference_url)]
        texts += [record.getMessage() for record in caplog.records]
        assert [text for text in texts if str(MARK) in text] == []

    def _errors(self, reference_url: URLs) -> Iterator[InferError]:
        """An error of each class that can be provoked."""
        url = reference_url(self.main.name)
        with open_model(url) as model:
            yield _error(InvalidInput, lambda: model(*[np.full((MARK % 7,) * 9, MARK)]))
            yield _error(DeadlineExceeded, lambda: model.infer(self.inputs(), timeout=1e-9))
        yield _error(ModelClosed, lambda: model.infer(self.inputs()))
        yield _error(InvalidURL, lambda: open_model(url, no_such_option=1))
        yield _error(ModelNotFound, lambda: open_model(reference_url(NO_SUCH_MODEL)))
        for refused in map(reference_url, self.unsupported):
            yield _error(InferError, partial(open_model, refused))
        if self.offers("reshaped"):
            with open_model(reference_url("reshaped")) as model:
                yield _error(InferError, lambda: model(_FIVE))


def _error(kind: type[InferError], call: Callable[[], Any]) -> InferError:
    with pytest.raises(kind) as caught:
        call()
    return caught.value
