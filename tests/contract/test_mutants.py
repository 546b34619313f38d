"""The tests of the contract are tested: who breaks a rule fails the tests of that rule."""

from __future__ import annotations

import inspect
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infer_backends.testing._rules import RULES, names_of_tests, rule_of
from tests.contract.mutants import of_calls, of_life
from tests.contract.mutants.sane import SaneContract

MUTANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {**of_calls.MUTANTS, **of_life.MUTANTS}
CASES = [(rule, number) for rule, mutants in MUTANTS.items() for number in range(len(mutants))]
TESTS: dict[str, Callable[..., None]] = {
    name: test
    for name, test in inspect.getmembers(SaneContract, inspect.isfunction)
    if name.startswith("test_")
}
#: A module that has the classes of :func:`classes` for its own.
_MODULE = "from tests.contract.test_mutants import classes\n\nglobals().update(classes())\n"

Failures = Mapping[str, Mapping[str, str]]


def classes() -> dict[str, type]:
    """A class for each mutant, with the tests of its rule and no others."""
    made = {}
    for rule, number in CASES:
        name = class_of(rule, number)
        others = dict.fromkeys(set(TESTS) - set(names_of_tests(RULES[rule])))
        made[name] = type(name, (SaneContract,), {**others, **MUTANTS[rule][number]})
    return made


def class_of(rule: str, number: int) -> str:
    return f"Test_{rule.replace('-', '_')}_{number}"


class Recorder:
    """What failed in a run, and what was shown of it, by class and test."""

    def __init__(self) -> None:
        self.failures: defaultdict[str, dict[str, str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            _, kind, test = report.nodeid.split("::")
            self.failures[kind][test.partition("[")[0]] = str(report.longrepr)


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failures]:
    """What all the mutants failed, in one run of pytest within this one."""
    folder = tmp_path_factory.mktemp("mutants")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_all.py").write_text(_MODULE)
    recorder = Recorder()
    settings = ["-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "--tb=auto"]
    status = pytest.main(
        [*settings, f"--rootdir={folder}", f"-c{folder / 'pytest.ini'}", str(folder)],
        plugins=[recorder],
    )
    assert status is pytest.ExitCode.TESTS_FAILED
    yield recorder.failures
    # What the mutants left on purpose.
    of_life.OVER.set()
    while of_life.LEAKED:
        os.close(of_life.LEAKED.pop())


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("rule", "number"), CASES)
def test_a_mutant_fails_the_tests_of_its_rule(failures: Failures, rule: str, number: int) -> None:
    shown = failures[class_of(rule, number)]
    assert shown
    for text in shown.values():
        assert text.startswith(f"The rule {rule!r} is broken:\n")
        assert "".join(RULES[rule].sentence.split()) in "".join(text.split())
        assert "".join(RULES[rule].advice.split()) in "".join(text.split())


@pytest.mark.parametrize("rule", RULES)
def test_every_test_of_a_rule_is_failed_by_one_of_its_mutants(
    failures: Failures, rule: str
) -> None:
    failed = {
        test for number in range(len(MUTANTS[rule])) for test in failures[class_of(rule, number)]
    }
    assert failed == set(names_of_tests(RULES[rule]))


def test_the_report_of_a_broken_rule_is_short(failures: Failures) -> None:
    """The frames of the test and of the backend, and none of what is between them."""
    lines = failures[class_of("errors-private", 0)]["test_no_text_shows_an_element"].splitlines()
    assert len(lines) < 40
    assert not any("pluggy" in line or "_pytest" in line for line in lines)


def test_every_rule_has_a_mutant() -> None:
    assert set(MUTANTS) == set(RULES)


def test_every_rule_has_a_test_and_every_test_a_rule() -> None:
    assert [name for name, test in TESTS.items() if rule_of(test) is None] == []
    assert {rule.name for test in TESTS.values() if (rule := rule_of(test))} == set(RULES)


def test_the_documentation_has_every_group_of_rules() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/contract.md").read_text()
    shown = re.findall(r"^## (.+)\n(?:(?!^#).*\n)*?```\{contract-rules\} \1\n", page, re.MULTILINE)
    assert shown == list(dict.fromkeys(rule.group for rule in RULES.values()))
