"""The picture: time and processor time of a call beside tritonclient's, for each protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.commands import Cell
from tests.benchmarks.contenders import BY_NAME, Contender
from tests.benchmarks.plan import PAYLOADS
from tests.benchmarks.statistic import Metric, ratio
from tests.benchmarks.targets import Results

_PANELS: tuple[tuple[str, Metric, str], ...] = (
    ("http", "wall", "HTTP: time of a call"),
    ("grpc", "wall", "gRPC: time of a call"),
    ("http", "cpu", "HTTP: processor time of the client"),
    ("grpc", "cpu", "gRPC: processor time of the client"),
)
_COLOURS = {
    "ours": "#1f4e79",
    "ours, inline": "#5b9bd5",
    "ours, awaited": "#2e75b6",
    "tritonclient": "#c55a11",
    "tritonclient aio": "#f4b183",
    "pytriton": "#7f7f7f",
    "perf_analyzer": "#000000",
    "limit": "#70ad47",
}


_TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Line:
    """One contender's line in a panel: its figures over tritonclient's, by payload in bytes."""

    contender: Contender
    ratios: Mapping[int, float]


def lines(results: Results, where: str, metric: Metric) -> list[Line]:
    """The lines of a panel: the model ``echo`` with one caller."""
    found = []
    for name, contender in BY_NAME.items():
        ratios = {}
        for payload in PAYLOADS:
            cell = Cell("echo", payload)
            ours, base = results.get((cell, name)), results.get((cell, f"tritonclient-{where}"))
            reached = ratio(ours, base, metric) if ours and base else None
            if reached is not None:
                ratios[payload] = reached.value
        if contender.where == where and ratios:
            found.append(Line(contender, ratios))
    return found


def draw(results: Results, path: Path) -> None:
    """Draw the picture, in the format that the path's suffix names."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The same results give the same file, with texts as texts.
    mpl.rcParams.update({"svg.hashsalt": "infer-backends", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(9, 7), layout="constrained")
    places = {payload: place for place, payload in enumerate(PAYLOADS)}
    for axes, (where, metric, title) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for line in lines(results, where, metric):
            label = "limit" if line.contender.limit else line.contender.label
            style = ":" if line.contender.limit else "-" if line.contender.ours else "--"
            points = [places[payload] for payload in line.ratios], list(line.ratios.values())
            axes.plot(*points, style, marker="o", ms=4, color=_COLOURS[label], label=label)
        axes.set(yscale="log", title=title, ylabel="tritonclient = 1; less is better")
        axes.set_xticks(list(places.values()), list(PAYLOADS.values()))
        axes.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axes.minorticks_off()
        axes.grid(color="#dddddd", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=6,
        frameon=False,
    )
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
