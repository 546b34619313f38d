"""``python -m tests.benchmarks``: run the benchmark, and write its table and its picture."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import findings, picture, report, resilience
from tests.benchmarks.driver import run
from tests.benchmarks.machine import one_line
from tests.benchmarks.perf_analyzer import VARIABLE
from tests.benchmarks.plan import FULL, QUICK
from tests.servers import environment

_CAPTION = "Time and processor time of a call, over those of tritonclient"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="see that it runs; no figures to keep")
    parser.add_argument("--table", type=Path, help="the Markdown file to write (standard output)")
    parser.add_argument(
        "--resilience", type=Path, help="the page on failover to write (none is taken)"
    )
    parser.add_argument("--picture", type=Path, help="the .svg or .png to draw (none)")
    parser.add_argument(
        "--date",
        type=dt.date.fromisoformat,
        default=dt.datetime.now(dt.timezone.utc).date(),
        help="the day of the run, YYYY-MM-DD (today)",
    )
    parser.add_argument(
        "--perf-analyzer",
        type=Path,
        default=os.environ.get(VARIABLE),
        help=f"NVIDIA's perf_analyzer (the variable {VARIABLE}; goes without)",
    )
    return parser.parse_args(arguments)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark as the arguments say."""
    chosen = parse(arguments)
    result = run(
        QUICK if chosen.quick else FULL,
        environment.find_or_build(),
        chosen.date.isoformat(),
        perf_analyzer=chosen.perf_analyzer,
        tell=_tell,
    )
    text = report.render(result.plan, result.figures, result.machine)
    if chosen.picture is not None:
        picture.draw(result.figures, chosen.picture)
        text = f"![{_CAPTION}]({chosen.picture.name})\n\n{text}"
    if chosen.resilience is not None:
        found = resilience.run(quick=chosen.quick, tell=_tell)
        page = findings.render(found, one_line(chosen.date.isoformat()))
        chosen.resilience.write_text(page, encoding="utf-8")
    if chosen.table is None:
        sys.stdout.write(text)
    else:
        chosen.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
