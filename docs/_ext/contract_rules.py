"""The directive ``contract-rules``: the rules of the contract, read from the code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from infer_backends.testing import BackendContract
from infer_backends.testing._further import SequenceContract, StreamingContract
from infer_backends.testing._rules import RULES, Rule, names_of_tests

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

#: Importing them has bound their tests to the rules.
SUITES = (BackendContract, StreamingContract, SequenceContract)


class ContractRules(SphinxDirective):
    """``{contract-rules} GROUP``: the rules of one group, each with its advice and its tests."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        rules = [rule for rule in RULES.values() if rule.group == self.arguments[0]]
        if not rules:
            raise self.error(f"there is no group of rules {self.arguments[0]!r}")
        return [nodes.definition_list("", *map(_item, rules))]


def _item(rule: Rule) -> nodes.definition_list_item:
    tests = names_of_tests(rule)
    return nodes.definition_list_item(
        "",
        nodes.term("", "", nodes.literal("", rule.name), ids=[f"rule-{rule.name}"]),
        nodes.definition(
            "",
            nodes.paragraph("", "", *_inline(rule.sentence)),
            nodes.paragraph("", "", nodes.emphasis("", "What to do: "), *_inline(rule.advice)),
            nodes.paragraph("", "", nodes.emphasis("", "Tests: "), *_listed(tests)),
        ),
    )


def _inline(text: str) -> list[nodes.Node]:
    """Text in which what stands between backticks is code."""
    parts = re.split(r"`([^`]*)`", text)
    return [nodes.literal("", part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts)]


def _listed(names: list[str]) -> list[nodes.Node]:
    listed: list[nodes.Node] = []
    for name in names:
        listed += [nodes.literal("", name), nodes.Text(", ")]
    return listed[:-1]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_directive("contract-rules", ContractRules)
    return {"version": "1", "parallel_read_safe": True}
