"""Opening, options, secrets and silence: a part of the suite."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from infer_backends._chosen import choose
from infer_backends._errors import InferError, InvalidURL
from infer_backends._open import open_model
from infer_backends._options import Option
from infer_backends._url import ModelURL
from infer_backends.testing._of_errors import MARK
from infer_backends.testing._rules import keeps
from infer_backends.testing._subject import Subject, URLs
from infer_backends.testing._waist import opened, request_of

_SECRET = f"secret-{MARK}"


class OpeningContract(Subject):
    """How a model is opened."""

    @keeps("options-declared")
    def test_what_is_no_option_is_refused(self, reference_url: URLs) -> None:
        url = reference_url(self.main.name)
        with pytest.raises(InvalidURL, match="the options known here are .*timeout"):
            open_model(url, no_such_option=1).close()
        for option in self._options(url):
            if option.type is not str or option.choices is not None:
                with pytest.raises(InvalidURL):
                    open_model(_with(url, option.name, "no such value")).close()

    @keeps("options-same")
    def test_options_mean_the_same_in_the_url_and_in_the_call(self, reference_url: URLs) -> None:
        url = reference_url(self.main.name)
        given = set(dict(ModelURL.parse(url).options))
        defaults = {option.name: option.default for option in self._options(url)}
        chosen = {name: value for name, value in defaults.items() if value is not None}
        for name, value in {**chosen, **self.option_values}.items():
            if name in given or isinstance(value, tuple):
                continue
            text = str(value).lower() if isinstance(value, bool) else str(value)
            with (
                open_model(_with(url, name, text)) as one,
                open_model(url, **{name: value}) as other,
            ):
                inputs = self.inputs(1)
                in_url, in_call = one.infer(inputs), other.infer(inputs)
            for output in self.main.outputs:
                np.testing.assert_array_equal(in_url[output.name], in_call[output.name])

    @keeps("secrets")
    def test_no_text_shows_a_secret(
        self, reference_url: URLs, caplog: pytest.LogCaptureFixture
    ) -> None:
        texts: list[str] = []
        with caplog.at_level(logging.DEBUG):
            for url in self._with_secrets(reference_url(self.main.name)):
                texts += self._told_of(url)
        texts += [record.getMessage() for record in caplog.records]
        assert [text.replace(_SECRET, "SECRET") for text in texts if _SECRET in text] == []

    @keeps("quiet")
    def test_nothing_is_printed_logged_or_warned_of(
        self,
        reference_url: URLs,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
            warnings.simplefilter("always")
            with open_model(reference_url(self.main.name)) as model:
                self.still_answers(model)
            for name in filter(self.offers, ("identity_fp32", "identity_int64")):
                with open_model(reference_url(name)) as model:
                    model(np.full((1, 1), MARK, model.metadata.inputs[0].dtype.numpy_dtype))
        printed = capfd.readouterr()
        assert printed.out == ""
        assert printed.err == ""
        assert [str(warning.message) for warning in warned] == []
        told = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [record.getMessage() for record in told] == []
        assert [r.name for r in caplog.records if str(MARK) in r.getMessage()] == []

    def _told_of(self, url: ModelURL) -> list[str]:
        """All that is said of a model, whether it opens or not."""
        texts: list[str] = []
        try:
            with opened(url) as backend:
                texts += [repr(backend), str(backend), repr(backend.metadata)]
                texts.append(repr(backend.infer(request_of(self.inputs()))))
                texts.append(repr(backend.infer(request_of(self.inputs(), timeout=-1))))
        except Exception as exc:  # noqa: BLE001 - whatever it is, it may show the secret
            texts += _texts(exc)
        return texts

    def _options(self, url: str) -> tuple[Option, ...]:
        parsed = ModelURL.parse(url)
        plugin, _, _ = choose(parsed, {}, None)
        return plugin.options(parsed.scheme)

    def _with_secrets(self, url: str) -> Iterator[ModelURL]:
        """The URL with each kind of secret that it may hold."""
        parsed = ModelURL.parse(url)
        if parsed.host is not None:
            yield replace(parsed, username=f"user-{_SECRET}", password=_SECRET)
        for option in self._options(url):
            if option.secret and option.type is str and option.name not in dict(parsed.options):
                yield replace(parsed, options=(*parsed.options, (option.name, _SECRET)))


def _with(url: str, name: str, value: str) -> ModelURL:
    parsed = ModelURL.parse(url)
    kept = [(other, text) for other, text in parsed.options if other != name]
    return replace(parsed, options=(*kept, (name, value)))


def _texts(error: BaseException | None) -> Iterator[str]:
    """What a traceback would show of an error, and of all that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield f"{error} {error!r}"
        attempts: Any = error.attempts if isinstance(error, InferError) else ()
        for attempt in attempts:
            yield f"{attempt.url} {attempt.error!r}"
        error = error.__cause__ or error.__context__
