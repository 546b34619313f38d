"""The names of classes, among what a model's author wrote down."""

from __future__ import annotations

import json

import pytest

from infer_backends import DataType, TensorSpec
from infer_backends.plugin import with_labels

SCORES = TensorSpec("scores", DataType.FP32, (-1, 2))
BOXES = TensorSpec("boxes", DataType.FP32, (-1, 4))
CAT_AND_DOG = ("cat", "dog")


def labels_of_one(**parameters: str) -> tuple[str, ...] | None:
    (spec,) = with_labels((SCORES,), {key.replace("__", "."): v for key, v in parameters.items()})
    return spec.labels


@pytest.mark.parametrize("key", ["labels", "labels__scores"])
def test_a_json_list_of_text_is_labels(key: str) -> None:
    assert labels_of_one(**{key: '["cat", "dog"]'}) == CAT_AND_DOG
    assert labels_of_one(**{key: json.dumps(["grüße", ""])}) == ("grüße", "")


def test_those_of_one_output_go_before_those_of_the_model() -> None:
    assert labels_of_one(labels='["a"]', labels__scores='["cat", "dog"]') == CAT_AND_DOG
    assert labels_of_one(labels='["cat", "dog"]', names="{0: 'a'}") == CAT_AND_DOG


@pytest.mark.parametrize(
    "names", ["{0: 'cat', 1: 'dog'}", "{1: 'dog', 0: 'cat'}", "['cat', 'dog']"]
)
def test_the_names_of_a_yolo_export_are_labels(names: str) -> None:
    assert labels_of_one(names=names) == CAT_AND_DOG


def test_each_of_several_outputs_has_labels_of_its_own() -> None:
    parameters = {"labels.boxes": '["x"]', "labels": '["y"]', "names": "{0: 'z'}"}
    scores, boxes = with_labels((SCORES, BOXES), parameters)
    assert (scores.labels, boxes.labels) == (None, ("x",))
    assert with_labels((SCORES, BOXES), {"labels.none": '["x"]'}) == (SCORES, BOXES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "cat, dog",
        '{"0": "cat"}',
        "[1, 2]",
        '["cat", null]',
        '"cat"',
        "[" * 100_000,
        '["cat"',
        '["' + "x" * 5_000_000 + '"]',
    ],
)
def test_what_is_no_list_of_text_is_ignored(text: str) -> None:
    assert labels_of_one(labels=text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{1: 'cat'}",
        "{0: 'cat', 2: 'dog'}",
        "{'0': 'cat'}",
        "{0: 1}",
        "{[]: 'cat'}",
        "__import__('os')",
        "{0: 'cat'",
        "'cat'",
        "-" * 100_000 + "1",
        "{0: '\x00'}",
        "{0: '" + "x" * 5_000_000 + "'}",
    ],
)
def test_names_that_are_malformed_are_ignored(text: str) -> None:
    assert labels_of_one(names=text) is None


def test_nothing_else_of_an_output_depends_on_them() -> None:
    outputs = (SCORES,)
    assert with_labels(outputs, {"author": "me"}) is outputs
    (spec,) = with_labels(outputs, {"labels": '["cat", "dog"]'})
    assert (spec.name, spec.dtype, spec.shape) == (SCORES.name, SCORES.dtype, SCORES.shape)
