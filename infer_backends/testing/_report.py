"""What pytest shows of a broken rule: the rule and the advice first, then a short report."""

from __future__ import annotations

import sysconfig
import textwrap
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infer_backends.testing._rules import Rule, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = "infer_backends.testing: rules"
_SUITE = Path(__file__).parent
_WIDTH = 96
#: Frames that say nothing to the author of a plugin: the core's, and the standard library's.
_HIDDEN = {_SUITE.parent, Path(sysconfig.get_path("stdlib"))}


def show_rules(config: pytest.Config) -> None:
    """Have the reports of this run show the rules that were broken."""
    if not config.pluginmanager.has_plugin(_NAME):
        config.pluginmanager.register(_Reports(), _NAME)


def heading(rule: Rule) -> str:
    """The rule and its advice, above the report of a test."""
    return "\n".join(
        (
            f"The rule {rule.name!r} is broken:",
            *textwrap.wrap(rule.sentence, _WIDTH, initial_indent="    ", subsequent_indent="    "),
            "What to do:",
            *textwrap.wrap(rule.advice, _WIDTH, initial_indent="    ", subsequent_indent="    "),
        )
    )


class _Reports:
    """A plugin of pytest, for as long as a run lasts."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        rule = rule_of(getattr(item, "function", None))
        if report.failed and rule is not None and call.excinfo is not None:
            shown: Any = report.longrepr
            if item.config.getoption("tbstyle") == "auto" and _can_be_shortened(call.excinfo.value):
                shown = call.excinfo.getrepr(style="short", tbfilter=_shortened)
            report.longrepr = _BrokenRule(heading(rule), shown)  # type: ignore[assignment]
        return report


class _BrokenRule:
    """What is shown instead of the usual report, for terminals and for files."""

    def __init__(self, heading: str, account: Any) -> None:
        self._heading = heading
        self._account = account
        # The line of the summary is made from it.
        self.reprcrash = getattr(account, "reprcrash", None)

    def toterminal(self, writer: Any) -> None:
        for line in self._heading.splitlines():
            writer.line(line, yellow=True)
        writer.line("")
        show: Callable[[Any], None] | None = getattr(self._account, "toterminal", None)
        if show is not None:
            show(writer)
        else:
            writer.line(str(self._account))

    def __str__(self) -> str:
        return f"{self._heading}\n\n{self._account}"


def _can_be_shortened(error: BaseException) -> bool:
    # Some know themselves how they are shown.
    return getattr(error, "pytrace", True) and not hasattr(error, "formatrepr")


def _shortened(excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    """The frames of the test, and of the plugin."""
    shown = excinfo.traceback.filter(excinfo)
    of_interest = shown.filter(lambda entry: not _is_hidden(Path(entry.path)))
    return of_interest or shown[-1:] or excinfo.traceback


def _is_hidden(path: Path) -> bool:
    if _SUITE in path.parents:
        return False
    if "site-packages" in path.parts:
        return not {"_pytest", "pluggy"}.isdisjoint(path.parts)
    return not _HIDDEN.isdisjoint(path.parents)
