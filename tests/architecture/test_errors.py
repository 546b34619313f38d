"""What all errors of the library have in common."""

from __future__ import annotations

import builtins
import pickle
import re

import pytest

import infer_backends
from infer_backends import _errors
from infer_backends.plugin import Attempt, InferError, Unavailable


def subclasses(cls: type[InferError]) -> list[type[InferError]]:
    found = [cls]
    for sub in cls.__subclasses__():
        found += [other for other in subclasses(sub) if other not in found]
    return found


ERRORS = [cls for cls in subclasses(InferError) if cls.__module__ == _errors.__name__]
every_error = pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)


def drawn_tree() -> dict[str, tuple[str, str | None]]:
    """Name -> (parent, builtin base), as drawn at the top of the module."""
    tree: dict[str, tuple[str, str | None]] = {}
    parent_of_depth = {0: "InferError"}
    for line in (_errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│ ]*)[├└]── (\w+)(?: \((\w+)\))?", line)
        if found:
            depth = len(found[1]) // 4 + 1
            tree[found[2]] = (parent_of_depth[depth - 1], found[3])
            parent_of_depth[depth] = found[2]
    return tree


def test_the_tree_at_the_top_of_the_module_is_the_tree() -> None:
    actual = {
        cls.__name__: (
            cls.__bases__[0].__name__,
            next((b.__name__ for b in cls.__bases__[1:] if hasattr(builtins, b.__name__)), None),
        )
        for cls in ERRORS
        if cls is not InferError
    }
    assert drawn_tree() == actual


@every_error
def test_an_error_survives_pickling_with_its_attempts(cls: type[InferError]) -> None:
    attempt = Attempt("http://host:8000/m", Unavailable("refused"), started=1.5, duration=0.25)
    copy = pickle.loads(pickle.dumps(cls("what happened", attempts=(attempt,))))
    assert type(copy) is cls
    assert copy.args == ("what happened",)
    ((url, error, started, duration),) = [
        (a.url, a.error, a.started, a.duration) for a in copy.attempts
    ]
    assert (url, str(error), started, duration) == ("http://host:8000/m", "refused", 1.5, 0.25)


@every_error
def test_an_error_prints_its_message_and_nothing_else(cls: type[InferError]) -> None:
    assert str(cls("the input 'x' is missing: pass it")) == "the input 'x' is missing: pass it"


@every_error
def test_an_error_without_attempts_has_none(cls: type[InferError]) -> None:
    assert cls("m").attempts == ()


@every_error
def test_an_error_says_of_a_request_that_no_work_was_done_only_if_told_so(
    cls: type[InferError],
) -> None:
    assert cls("m").unprocessed is False
    told = cls("m", unprocessed=True)
    assert pickle.loads(pickle.dumps(told)).unprocessed is True
    assert told.args == ("m",)


class OfAPlugin(Unavailable):
    """An error of somebody else's, which was never told of attempts, or of work done."""

    def __init__(self, host: str) -> None:
        Exception.__init__(self, host)


def test_an_error_that_was_never_told_leaves_open_whether_work_was_done() -> None:
    assert OfAPlugin("h").unprocessed is False
    assert pickle.loads(pickle.dumps(OfAPlugin("h"))).unprocessed is False


@every_error
def test_an_error_is_exported_by_the_doors(cls: type[InferError]) -> None:
    assert getattr(infer_backends, cls.__name__) is cls
    assert getattr(infer_backends.plugin, cls.__name__) is cls
