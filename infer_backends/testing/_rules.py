"""The rules of the contract, as values: each with its sentence, its advice, and its tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from infer_backends.testing import _rules_of_calls, _rules_of_life

_Test = TypeVar("_Test", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that a backend keeps.

    Attributes:
        name: What it is called, as in a report.
        group: What it is about, as a heading.
        sentence: What holds for a backend that keeps it.
        advice: What to look at, and to change, when it is broken.
    """

    name: str
    group: str
    sentence: str
    advice: str


#: Every rule by its name, in the order of a documentation.
RULES: Mapping[str, Rule] = {
    name: Rule(name, group, sentence, advice)
    for rules in (_rules_of_calls.RULES, _rules_of_life.RULES)
    for group, members in rules.items()
    for name, (sentence, advice) in members.items()
}

_BOUND: dict[Callable[..., Any], Rule] = {}


def keeps(name: str) -> Callable[[_Test], _Test]:
    """Bind a test to the rule that it is about."""
    rule = RULES[name]

    def bind(test: _Test) -> _Test:
        _BOUND[test] = rule
        return test

    return bind


def rule_of(test: object) -> Rule | None:
    """The rule that a test is about; None for a test of somebody else."""
    return _BOUND.get(test) if callable(test) else None


def names_of_tests(rule: Rule) -> list[str]:
    """The names of the tests of a rule, among the modules of tests that were imported."""
    return [test.__name__ for test, bound in _BOUND.items() if bound is rule]
