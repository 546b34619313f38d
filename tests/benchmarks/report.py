"""The results of a run as Markdown. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.benchmarks.commands import Cell
from tests.benchmarks.contenders import BY_NAME, Contender, Where
from tests.benchmarks.machine import Machine
from tests.benchmarks.plan import PAYLOADS, Plan
from tests.benchmarks.statistic import Figures, Metric, ratio
from tests.benchmarks.targets import Results, Verdict, judge_all

_TITLES: Mapping[Metric, str] = {
    "wall": "Median time of a call",
    "p99": "99th percentile of the time of a call",
    "rate": "Calls in a second",
    "cpu": "Processor time of the client for one call",
    "peak": "Extra memory of one call at its peak, in MB",
}
_PROTOCOLS: Mapping[Where, str] = {"http": "HTTP", "grpc": "gRPC", "local": "In this process"}

Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_value(metric: Metric, value: float) -> str:
    """A figure for people, with three digits that count."""
    if metric == "peak":
        return f"{value / 1e6:.1f}"
    if metric == "rate":
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    scaled, unit = (value * 1e6, "µs") if value < 1e-3 else (value * 1e3, "ms")
    return f"{scaled:.0f} {unit}" if scaled >= 100 else f"{scaled:.3g} {unit}"


def best(values: Mapping[Contender, float], metric: Metric) -> Contender:
    """Whose figure is the best one."""
    choose = max if metric == "rate" else min
    return choose(values, key=lambda contender: values[contender])


def mark(values: Mapping[Contender, float], metric: Metric) -> str:
    """Whether ours, with default settings, is the best; if not, who is, and by how much."""
    ours = next((contender for contender in values if contender.ours), None)
    rivals = {contender: value for contender, value in values.items() if not contender.ours}
    if ours is None or not rivals:
        return ""
    rival = best(rivals, metric)
    quotient = values[ours] / rivals[rival]
    beaten = quotient < 1 if metric == "rate" else quotient > 1
    return f"**no**: {quotient:.2f} of {rival.label}" if beaten else f"yes, {quotient:.2f}"


def _comparison(where: Where, metric: Metric, plan: Plan, results: Results) -> str:
    present = [
        contender
        for name, contender in BY_NAME.items()
        if contender.where == where
        and not contender.limit
        and any(key[1] == name for key in results)
    ]
    rows = []
    for cell in plan.cells:
        values = _values(cell, metric, present, results)
        if values:
            rows.append([*_cell(cell), *_texts(values, metric, present), mark(values, metric)])
    if not rows:
        return ""
    labels = [contender.label for contender in present]
    return table(["model", "payload", "callers", *labels, "ours is the best"], rows)


def _values(
    cell: Cell, metric: Metric, present: Sequence[Contender], results: Results
) -> dict[Contender, float]:
    found = {contender: results.get((cell, contender.name)) for contender in present}
    values = {who: figures.value(metric) for who, figures in found.items() if figures is not None}
    return {who: value for who, value in values.items() if value is not None}


def _cell(cell: Cell) -> Row:
    return cell.model, PAYLOADS[cell.payload], str(cell.callers)


def _texts(values: Mapping[Contender, float], metric: Metric, present: Sequence[Contender]) -> Row:
    first = best(values, metric)
    texts = {who: format_value(metric, value) for who, value in values.items()}
    texts[first] = f"**{texts[first]}**"
    return [texts.get(contender, "") for contender in present]


def _targets(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        absolute = verdict.target.metric == "peak"
        scale, form = (1e-6, ".1f") if absolute else (1.0, ".2f")
        figures = verdict.reached
        low, high = (format(limit * scale, form) for limit in (figures.lowest, figures.highest))
        rows.append(
            [
                verdict.target.title,
                PAYLOADS[verdict.payload],
                format(verdict.bound * scale, form),
                format(figures.value * scale, form),
                f"{low} to {high}",
                "yes" if verdict.met else "**no**",
                "" if verdict.met else _of_limit(verdict),
            ]
        )
    head = ["what", "payload", "target", "reached", "over the rounds", "met", "over the limit"]
    return table(head, rows)


def _of_limit(verdict: Verdict) -> str:
    """How near ours is to the limit of its row."""
    if verdict.of_limit is None:
        return ""
    return f"{verdict.of_limit.value:.2f} of a {BY_NAME[verdict.target.limit].label}"


def _limits(plan: Plan, results: Results) -> str:
    """What is sent inline, beside what carries the same bytes and does nothing else."""
    rows = []
    for limit in (contender for contender in BY_NAME.values() if contender.limit):
        for cell in plan.cells:
            ours = results.get((cell, f"ours-{limit.where}-inline"))
            least = results.get((cell, limit.name))
            if ours is not None and least is not None:
                rows.append(_limit_row(limit, cell, ours, least))
    heads = [
        f"{part}{metric}"
        for metric in ("time", "CPU")
        for part in ("limit, ", "ours, ", "ratio, ", "over the rounds, ")
    ]
    return table(["limit", "model", "payload", *heads], rows) if rows else ""


def _limit_row(limit: Contender, cell: Cell, ours: Figures, least: Figures) -> Row:
    row = [limit.label, cell.model, PAYLOADS[cell.payload]]
    metrics: tuple[Metric, ...] = ("wall", "cpu")
    for metric in metrics:
        mine, theirs, over = ours.value(metric), least.value(metric), ratio(ours, least, metric)
        if mine is None or theirs is None or over is None:
            row += [""] * 4
        else:
            texts = format_value(metric, theirs), format_value(metric, mine)
            row += [*texts, f"{over.value:.2f}", f"{over.lowest:.2f} to {over.highest:.2f}"]
    return row


def describe_machine(machine: Machine) -> str:
    """What the figures were taken on, as a list."""
    ours, theirs = machine.versions["ours-http"], machine.versions["pytriton-http"]
    load = " and ".join(f"{value:.2f}" for value in machine.load)
    return "\n".join(
        f"- {line}"
        for line in (
            f"{machine.date}; {machine.cpu}, {machine.cores} cores, for the server and all "
            f"clients together; {machine.memory / 1e9:.0f} GB of memory; {machine.system}",
            f"server: {machine.server}, on 127.0.0.1",
            f"clients: {_versions(ours)}",
            f"pytriton's client: {_versions(theirs)}",
            f"load average before and after: {load}",
        )
    )


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def _sizes(plan: Plan, results: Results) -> str:
    counts = {cell: figures.calls for (cell, name), figures in results.items() if "ours" in name}
    texts = [
        f"{counts[cell]} ({cell.model}, {PAYLOADS[cell.payload]})"
        for cell in plan.cells
        if cell.callers == 1 and cell in counts
    ]
    return f"{plan.rounds} rounds; calls of each client with one caller: {', '.join(texts)}."


def render(plan: Plan, results: Mapping[tuple[Cell, str], Figures], machine: Machine) -> str:
    """The whole text, below the title of its page."""
    parts = [
        "## Taken on",
        describe_machine(machine),
        _sizes(plan, results),
        "## Ratios and targets",
        _targets(judge_all(results)),
    ]
    if text := _limits(plan, results):
        parts += ["## Beside the limits", text]
    for metric, title in _TITLES.items():
        parts.append(f"## {title}")
        for where, label in _PROTOCOLS.items():
            if text := _comparison(where, metric, plan, results):
                parts += [f"{label}:", text]
    return "\n\n".join(parts) + "\n"
