"""The stream of calls as it is shown while it runs, and afterwards."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from infer_backends._cli._console import one_line, plain
from infer_backends._cli._demo._drawing import Palette
from infer_backends._cli._demo._outage import Log

_CALLS_PER_MARK = 20
_MARKS_PER_LINE = 70
_LONGEST_REASON = 160


def timeline(log: Log, remote: str, local: str, palette: Palette) -> Group:
    """Who answered, in marks of so many calls each, and what happened when."""
    kinds = {
        remote: (palette.server, "green", "Triton"),
        local: (palette.local, "yellow", "onnxruntime, here"),
    }
    legend = Text()
    for mark, style, label in kinds.values():
        legend.append(mark, style).append(f" {label}    ")
    legend.append(f"({_CALLS_PER_MARK} calls a mark)", "dim")
    return Group(_marks(log, kinds, palette), legend, Text(""), _events(log))


def _marks(log: Log, kinds: dict[str, tuple[str, str, str]], palette: Palette) -> Text:
    text = Text(no_wrap=True)
    for number, start in enumerate(range(0, len(log.urls), _CALLS_PER_MARK)):
        if number and number % _MARKS_PER_LINE == 0:
            text.append("\n")
        part = log.urls[start : start + _CALLS_PER_MARK]
        # A single call that failed is what there is to see, whatever the others did.
        url = "" if "" in part else max(set(part), key=part.count)
        mark, style, _ = kinds.get(url, (palette.lost, "bold red", ""))
        text.append(mark, style)
    return text


def _events(log: Log) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for event in sorted(log.events, key=lambda event: event.call):
        text = one_line(event.text)
        if len(text) > _LONGEST_REASON:
            text = f"{text[:_LONGEST_REASON]}..."
        table.add_row(plain(f"call {event.call:>5,}", "dim"), plain(text))
    return table
