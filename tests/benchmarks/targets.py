"""The ratios that this library is held to, and whether a run reached them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.benchmarks.commands import Cell
from tests.benchmarks.plan import BATCH, IMAGE, TASKS
from tests.benchmarks.statistic import Figures, Metric, Ratio, ratio

#: The figures of a run: by cell and the contender's name.
Results = Mapping[tuple[Cell, str], Figures]

_ALLOWANCE = 4_000_000  # bytes that one call may need beside its output


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table: what is compared, and the bound for each payload.

    Attributes:
        title: What the row says.
        ours: The name of our contender.
        theirs: The name of the other one; empty where the bound is absolute.
        metric: What is compared.
        bounds: The ratio to reach, by payload. Of ``rate`` it is the least, of others the most.
            Without another contender: the most itself.
        model: Which model is called.
        callers: By how many at once.
        limit: The contender that is this row's limit; empty if there is none.
    """

    title: str
    ours: str
    theirs: str
    metric: Metric
    bounds: Mapping[int, float]
    model: str = "echo"
    callers: int = 1
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run stands to one bound.

    Attributes:
        target: The row.
        payload: The column, in bytes.
        bound: What was to be reached.
        reached: What was, with its range over the rounds.
        met: Whether that is enough.
        of_limit: Ours over the limit of the row; None if that is not known.
    """

    target: Target
    payload: int
    bound: float
    reached: Ratio
    met: bool
    of_limit: Ratio | None = None


def _inline(protocol: str, wall: Mapping[int, float], cpu: Mapping[int, float]) -> list[Target]:
    label = {"http": "HTTP", "grpc": "gRPC"}[protocol]
    pair = f"ours-{protocol}-inline", f"tritonclient-{protocol}"
    limit = f"limit-{protocol}"
    return [
        Target(f"{label} inline / tritonclient, wall", *pair, "wall", wall, limit=limit),
        Target(f"{label} inline / tritonclient, client CPU", *pair, "cpu", cpu, limit=limit),
    ]


def _default(protocol: str, wall: float, cpu: float) -> list[Target]:
    label = {"http": "HTTP", "grpc": "gRPC"}[protocol]
    pair = f"ours-{protocol}", f"tritonclient-{protocol}"
    title, large = f"{label} by default / tritonclient", {IMAGE: 0.15, BATCH: 0.10}
    limit = f"limit-{protocol}"
    return [
        Target(f"{title}, wall", *pair, "wall", {16: wall}, limit=limit),
        # What is large goes through shared memory, which the limits do not.
        Target(f"{title}, wall", *pair, "wall", large),
        Target(f"{title}, client CPU", *pair, "cpu", {16: cpu}, limit=limit),
    ]


def _shared(protocol: str) -> Target:
    label = {"http": "HTTP", "grpc": "gRPC"}[protocol]
    title = f"{label}, 8 threads with one Model / 8 tritonclients, calls/s"
    pair = f"ours-{protocol}", f"tritonclient-{protocol}"
    return Target(title, *pair, "rate", {16: 1.2, IMAGE: 2.0}, callers=8)


def _awaited(protocol: str) -> list[Target]:
    label = {"http": "HTTP", "grpc": "gRPC"}[protocol]
    pair = f"ours-{protocol}-aio", f"tritonclient-{protocol}-aio"
    return [
        Target(
            f"{label}, {callers} {'tasks' if callers > 1 else 'task'} / tritonclient aio, {what}",
            *pair,
            metric,
            {16: 1.0, IMAGE: 1.0},
            callers=callers,
        )
        for callers in TASKS
        for metric, what in _OF_TASKS
    ]


_OF_TASKS: tuple[tuple[Metric, str], ...] = (("rate", "calls/s"), ("cpu", "client CPU"))

TARGETS = (
    *_inline("http", {16: 0.75, IMAGE: 0.40, BATCH: 0.53}, {16: 0.40, IMAGE: 0.16, BATCH: 0.22}),
    *_inline("grpc", {16: 0.95, IMAGE: 0.36, BATCH: 0.63}, {16: 0.90, IMAGE: 0.25, BATCH: 0.57}),
    *_default("http", 0.75, 0.40),
    *_default("grpc", 0.95, 0.90),
    Target(
        "HTTP inline, extra memory of one call, MB",
        "ours-http-inline",
        "",
        "peak",
        {IMAGE: IMAGE + _ALLOWANCE, BATCH: BATCH + _ALLOWANCE},
    ),
    _shared("http"),
    _shared("grpc"),
    *_awaited("http"),
    *_awaited("grpc"),
    Target(
        "onnxruntime / session.run, wall", "ours-onnx", "onnxruntime", "wall", {16: 1.5}, "tiny"
    ),
    Target(
        "HTTP inline / perf_analyzer, wall",
        "ours-http-inline",
        "perf-analyzer-http",
        "wall",
        {16: 1.0, 65536: 1.0, IMAGE: 1.0, BATCH: 1.0},
        limit="limit-http",
    ),
    Target(
        "gRPC inline / perf_analyzer, wall",
        "ours-grpc-inline",
        "perf-analyzer-grpc",
        "wall",
        {IMAGE: 1.25, BATCH: 1.25},
        limit="limit-grpc",
    ),
)


def judge(target: Target, payload: int, results: Results) -> Verdict | None:
    """How ``results`` stand to one bound; None if they do not hold what it takes."""
    cell = Cell(target.model, payload, target.callers)
    ours = results.get((cell, target.ours))
    if ours is None:
        return None
    if target.theirs:
        theirs = results.get((cell, target.theirs))
        reached = None if theirs is None else ratio(ours, theirs, target.metric)
    else:
        reached = _itself(ours, target.metric)
    if reached is None:
        return None
    bound = target.bounds[payload]
    met = reached.value >= bound if target.metric == "rate" else reached.value <= bound
    limit = results.get((cell, target.limit))
    of_limit = None if limit is None else ratio(ours, limit, target.metric)
    return Verdict(target, payload, bound, reached, met, of_limit)


def _itself(ours: Figures, metric: Metric) -> Ratio | None:
    value, rounds = ours.value(metric), ours.rounds(metric)
    return None if value is None else Ratio(value, min(rounds), max(rounds))


def judge_all(results: Results) -> list[Verdict]:
    """Every bound that ``results`` say something about."""
    verdicts = (judge(target, payload, results) for target in TARGETS for payload in target.bounds)
    return [verdict for verdict in verdicts if verdict is not None]
