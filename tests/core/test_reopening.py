"""A model that was pickled is opened again by who uses it first."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infer_backends
from infer_backends import Model, ModelClosed, Unavailable, UnsupportedOperation
from infer_backends._async_model import AsyncModel
from tests.core.fakes import FakeBackend

X = np.ones((2, 3), np.float32)


class Opener:
    """Opens fakes, and remembers them."""

    def __init__(self) -> None:
        self.opened: list[FakeBackend] = []
        self.error: Exception | None = None
        self.before: Callable[[], object] = lambda: None

    def __call__(self, url: Any, options: Any) -> FakeBackend:
        self.before()
        if self.error is not None:
            raise self.error
        self.opened.append(FakeBackend(url=str(url)))
        return self.opened[-1]


@pytest.fixture
def opener() -> Iterator[Opener]:
    opener = Opener()
    with infer_backends.register_backend("fake", opener):
        yield opener


@pytest.fixture
def pickled(opener: Opener) -> Model:
    """A model after pickling, not used yet; the opener has forgotten the first one."""
    with infer_backends.open_model("fake://h/m", coerce="never") as model:
        again: Model = pickle.loads(pickle.dumps(model))
    opener.opened.clear()
    return again


def test_it_is_opened_when_it_is_first_used(opener: Opener, pickled: Model) -> None:
    assert repr(pickled) == "<Model, not opened yet>"
    assert opener.opened == []
    np.testing.assert_array_equal(pickled(X), X * 2)
    pickled(X)
    assert len(opener.opened) == 1
    assert repr(pickled).startswith("<Model 'fake'")
    pickled.close()
    assert opener.opened[0].closed
    with pytest.raises(ModelClosed):
        pickled(X)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.metadata,
        lambda model: model.infer({"x": X}),
        lambda model: model.submit(X).result(30),
        lambda model: list(model.map([X[0]])),
        lambda model: model.status(),
        lambda model: model.verify(),
    ],
    ids=["metadata", "infer", "submit", "map", "status", "verify"],
)
def test_whatever_is_done_with_it_first_opens_it(
    opener: Opener, pickled: Model, use: Callable[[Model], object]
) -> None:
    use(pickled)
    assert len(opener.opened) == 1
    pickled.close()


def test_who_only_looks_at_it_does_not_open_it(opener: Opener, pickled: Model) -> None:
    for name in ("_hidden", "shape", "__array__", "__wrapped__", "remote"):
        assert not hasattr(pickled, name)
    with pytest.raises(AttributeError, match="'Model' object has no attribute 'shape'"):
        _ = pickled.shape  # type: ignore[attr-defined]
    with pickled:
        pass
    assert opener.opened == []


def test_threads_that_use_it_at_once_open_it_once(opener: Opener, pickled: Model) -> None:
    start = threading.Barrier(16)
    found: list[bool] = []

    def call() -> None:
        start.wait(30)
        found.append(bool((pickled(X) == X * 2).all()))

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [True] * 16
    assert len(opener.opened) == 1


def test_closed_before_it_was_used_it_is_never_opened(opener: Opener, pickled: Model) -> None:
    pickled.close()
    pickled.close()
    with pytest.raises(ModelClosed):
        pickled(X)
    with pytest.raises(ModelClosed):
        _ = pickled.metadata
    assert opener.opened == []


def test_closed_while_it_is_opened_it_leaves_nothing_open(opener: Opener, pickled: Model) -> None:
    opener.before = pickled.close
    with pytest.raises(ModelClosed):
        pickled(X)
    (backend,) = opener.opened
    assert backend.closed
    with pytest.raises(ModelClosed):
        pickled(X)


def test_what_could_not_be_opened_is_tried_again_by_the_next_use(
    opener: Opener, pickled: Model
) -> None:
    opener.error = Unavailable("the server is not there yet")
    for _ in range(2):
        with pytest.raises(Unavailable, match="not there yet"):
            pickled(X)
    opener.error = None
    np.testing.assert_array_equal(pickled(X), X * 2)


def test_copies_are_opened_for_themselves(opener: Opener, pickled: Model) -> None:
    for other in (copy.copy(pickled), copy.deepcopy(pickled), pickle.loads(pickle.dumps(pickled))):
        assert repr(other) == "<Model, not opened yet>"
        np.testing.assert_array_equal(other(X), X * 2)
    assert repr(pickled) == "<Model, not opened yet>"
    assert len(opener.opened) == 3
    pickled(X)
    again = copy.copy(pickled)
    pickled.close()
    again(X)
    assert len(opener.opened) == 5


def test_urls_and_options_go_along(opener: Opener) -> None:
    urls = ["fake://u:secret@a/m?timeout=7", "fake://b/m?timeout=7"]
    with infer_backends.open_model(urls, coerce="never", headers={"a": "b"}) as model:
        again = pickle.loads(pickle.dumps(model))
    opener.opened.clear()
    with again:
        assert len(again.status().members) == 2
        result = again.infer({"x": X})
        assert result.backend_url == "fake://***@a/m?timeout=7"
        (request,) = [request for backend in opener.opened for request in backend.requests]
        assert request.deadline.remaining() <= 7
        with pytest.raises(infer_backends.InvalidInput):
            again([[1, 2, 3]])


def test_an_async_model_says_what_to_pickle_instead() -> None:
    with pytest.raises(UnsupportedOperation, match="pickle a Model, or the URL"):
        pickle.dumps(AsyncModel(FakeBackend()))


def run_in_worker(model: Model, images: Any) -> Any:
    with model:
        return model(images).argmax(axis=1)


def test_a_spawned_process_opens_it_there() -> None:
    pytest.importorskip("infer_backends_onnxruntime", reason="needs a real plugin to import there")
    # Not by the command's own code: it needs what not every environment of the tests has.
    folder = Path(infer_backends.__file__).parent / "_cli" / "_demo_data"
    with np.load(folder / "digits.npz") as digits:
        images = digits["images"][:20]
    with infer_backends.open_model(folder / "digits.onnx") as model:
        expected = model(images).argmax(axis=1)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(run_in_worker, (model, images))
            pool.close()
            pool.join()
    np.testing.assert_array_equal(found, expected)
