"""The directive ``options-table``: the options that a plugin declares, read from its code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from infer_backends._options import CORE_OPTIONS, Option, table
from infer_backends._registry import REGISTRY

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

_HEAD = ("option", "value", "default", "what it is")


class OptionsTable(SphinxDirective):
    """``{options-table} core``, or the name of a scheme."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [_table(table(_declared(self.arguments[0])))]


def _declared(scheme: str) -> tuple[Option, ...]:
    if scheme == "core":
        return CORE_OPTIONS
    return tuple(REGISTRY.find(scheme).options(scheme))


def _table(rows: list[tuple[str, str, str, str]]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (2, 2, 2, 5)), cols=4)
    group += nodes.thead("", _row(_HEAD, literal=0))
    group += nodes.tbody("", *(_row(row, literal=3) for row in rows))
    return nodes.table("", group)


def _row(cells: tuple[str, ...], *, literal: int) -> nodes.row:
    def entry(text: str, code: bool) -> nodes.entry:
        child = nodes.literal(text, text) if code and text else nodes.Text(text)
        return nodes.entry("", nodes.paragraph("", "", child))

    return nodes.row("", *(entry(text, i < literal) for i, text in enumerate(cells)))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_directive("options-table", OptionsTable)
    return {"version": "1", "parallel_read_safe": True}
