"""What a run was taken on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures depend on.

    Attributes:
        date: The day of the run, as YYYY-MM-DD.
        cpu: The processor's model.
        cores: How many of its cores the run could use.
        memory: The machine's memory, in bytes.
        system: The system and its version.
        load: The load average over one minute before the first call, and after the last one.
        server: The server's name and version.
        versions: The packages of each contender, by its name.
    """

    date: str
    cpu: str
    cores: int
    memory: int
    system: str
    load: tuple[float, float]
    server: str
    versions: Mapping[str, Mapping[str, str]]


def parse_cpu(text: str) -> str:
    """The model in the text of ``/proc/cpuinfo``."""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def describe(
    date: str, load: tuple[float, float], server: str, versions: Mapping[str, Mapping[str, str]]
) -> Machine:
    """This machine, with what only the caller knows."""
    return Machine(
        date=date,
        cpu=parse_cpu(Path("/proc/cpuinfo").read_text()),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()}",
        load=load,
        server=server,
        versions=versions,
    )


def one_line(date: str) -> str:
    """This machine in one sentence, for figures that no peer stands beside."""
    cpu, cores = parse_cpu(Path("/proc/cpuinfo").read_text()), len(os.sched_getaffinity(0))
    return (
        f"Taken on {date}; {cpu}, {cores} cores, for server and client together; "
        f"{platform.system()} {platform.release()}; load average at the end: "
        f"{os.getloadavg()[0]:.2f}."
    )
