"""The picture: time and processor time of a call by payload, for each protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.commands import Cell
from tests.benchmarks.contenders import BY_NAME, Contender
from tests.benchmarks.plan import PAYLOADS
from tests.benchmarks.statistic import Metric
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
    "tritonclient": "#c55a11",
    "tritonclient aio": "#f4b183",
    "pytriton": "#7f7f7f",
    "perf_analyzer": "#000000",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One contender's line in a panel: milliseconds by payload in bytes."""

    contender: Contender
    payloads: tuple[int, ...]
    milliseconds: tuple[float, ...]


def lines(results: Results, where: str, metric: Metric) -> list[Line]:
    """The lines of a panel: the model ``echo`` with one caller."""
    found = []
    for name, contender in BY_NAME.items():
        figures = {size: results.get((Cell("echo", size), name)) for size in PAYLOADS}
        points = {
            size: value * 1e3
            for size, figure in figures.items()
            if figure is not None and (value := figure.value(metric)) is not None
        }
        if contender.where == where and points:
            found.append(Line(contender, tuple(points), tuple(points.values())))
    return found


def draw(results: Results, path: Path) -> None:
    """Draw the picture, in the format that the path's suffix names."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The same results give the same file, with texts as texts.
    mpl.rcParams.update({"svg.hashsalt": "infer-backends", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(9, 7), layout="constrained")
    for axes, (where, metric, title) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for line in lines(results, where, metric):
            label = line.contender.label
            style = "-" if line.contender.ours else "--"
            axes.plot(
                line.payloads, line.milliseconds, style, marker="o", markersize=3,
                color=_COLOURS[label], label=label,
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", title=title, ylabel="milliseconds")
        axes.set_xticks(list(PAYLOADS), list(PAYLOADS.values()))
        axes.minorticks_off()
        axes.grid(color="#dddddd", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
