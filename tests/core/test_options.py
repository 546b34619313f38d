"""Options are declared, typed, and checked in one place."""

from __future__ import annotations

from typing import Any

import pytest

from infer_backends import InvalidURL, ModelURL
from infer_backends._options import CORE_OPTIONS, MODEL_OPTIONS, resolve, table
from infer_backends.plugin import OpenOptions, Option

DECLARED = (
    Option("count", int, 1, "how many", minimum=0),
    Option("scale", float, 1.0),
    Option("fast", bool, False),
    Option("mode", str, "a", choices=("a", "b")),
)


def resolved(query: str, **given: Any) -> dict[str, Any]:
    return resolve(ModelURL.parse(f"http://h/m{query}"), given, DECLARED)


def test_defaults_fill_what_is_not_given() -> None:
    assert resolved("") == {"count": 1, "scale": 1.0, "fast": False, "mode": "a"}


def test_values_come_from_the_url_and_from_the_call() -> None:
    values = resolved("?count=3&fast=TRUE", scale=2, mode="b")
    assert values == {"count": 3, "scale": 2.0, "fast": True, "mode": "b"}
    assert resolved("?fast=off")["fast"] is False
    assert resolved("?count=3", count=None)["count"] == 3


def test_the_same_value_twice_is_no_conflict() -> None:
    assert resolved("?scale=2", scale=2)["scale"] == 2.0
    with pytest.raises(InvalidURL, match="in the URL and in the call, with two values"):
        resolved("?scale=2", scale=3)


@pytest.mark.parametrize(
    ("query", "given", "message"),
    [
        (
            "?colour=red",
            {},
            "unknown option 'colour'; the options known here are count, fast, mode",
        ),
        ("", {"colour": "red"}, "unknown option 'colour'"),
        ("?count=1&count=1", {}, "stands twice"),
        ("?count=x", {}, "expected a whole number"),
        ("?count=1.5", {}, "expected a whole number"),
        ("?count=-1", {}, "expected 0 or more"),
        ("?scale=x", {}, "expected a number"),
        ("?scale=nan", {}, "expected a number"),
        ("?fast=maybe", {}, "expected true or false"),
        ("?mode=c", {}, "expected a or b"),
        ("", {"count": True}, "expected int"),
        ("", {"count": 1.0}, "expected int"),
        ("", {"count": "1"}, "expected int"),
        ("", {"scale": True}, "expected float"),
        ("", {"fast": 1}, "expected bool"),
        ("", {"mode": 3}, "expected str"),
        ("?scale=x1e9999", {}, "expected a number"),
        ("", {"scale": 10**400}, "expected a number"),
    ],
)
def test_wrong_options_say_what_is_expected(
    query: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidURL, match=message):
        resolved(query, **given)


def test_a_whole_number_may_be_larger_than_any_float() -> None:
    assert resolved(f"?count={10**400}")["count"] == 10**400


@pytest.mark.parametrize("query", ["?count=s3cret", "?scale=s3cret"])
def test_a_wrong_value_is_not_even_in_the_context_of_the_error(query: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        resolved(query)
    assert "s3cret" not in f"{caught.value!r} {caught.value.__context__!r}"


def test_what_a_plugin_gets_is_a_mapping_that_shows_no_values() -> None:
    options = OpenOptions({"device": "s3cret"}, headers={"authorization": "s3cret"})
    assert dict(options) == {"device": "s3cret"}
    assert options["device"] == "s3cret"
    assert len(options) == 1
    assert options.connect_timeout == 2.0
    assert options.deadline.remaining() > 0
    assert "s3cret" not in repr(options)


def test_the_table_has_a_row_for_each_option() -> None:
    rows = {name: row for name, *row in table((*CORE_OPTIONS, *DECLARED))}
    assert rows["count"] == ["int", "1", "how many"]
    assert rows["mode"][0] == "a|b"
    assert rows["auth"][1] == ""
    assert rows["host"][:2] == ["str", ""]


def test_a_repeatable_option_is_a_tuple_of_what_stands_in_the_url() -> None:
    declared = (Option("tag", int, (), repeatable=True),)
    assert resolve(ModelURL.parse("http://h/m"), {}, declared) == {"tag": ()}
    assert resolve(ModelURL.parse("http://h/m?tag=2&tag=1"), {}, declared) == {"tag": (2, 1)}
    with pytest.raises(InvalidURL, match="a whole number"):
        resolve(ModelURL.parse("http://h/m?tag=2&tag=x"), {}, declared)


@pytest.mark.parametrize("value", ["b", ["b"], ("b", "c")])
def test_more_replicas_are_no_keyword_of_the_call(value: object) -> None:
    with pytest.raises(InvalidURL, match="'host' is for the URL: write \\?host=... in it"):
        OpenOptions.read(ModelURL.parse("http://a/m"), (), {"host": value})


def test_the_options_of_failover_have_their_defaults() -> None:
    core = OpenOptions.read(ModelURL.parse("http://a/m"), ()).core
    assert core.items() >= {
        "host": (), "preload": False, "idempotent": False, "fallback_on_failure": False,
        "probe_period": 1.0,
    }.items()  # fmt: skip
    assert {"idempotent", "fallback_on_failure", "probe_period"} <= MODEL_OPTIONS
    assert {"host", "preload"}.isdisjoint(MODEL_OPTIONS)


def test_probes_are_not_sent_without_a_pause() -> None:
    with pytest.raises(InvalidURL, match="expected 0.05 or more"):
        OpenOptions.read(ModelURL.parse("http://a/m?probe_period=0.01"), ())
