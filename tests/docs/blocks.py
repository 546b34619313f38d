"""How the code blocks of a page are run: one after the other, in one namespace."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from sybil import Document, Example, Region, Sybil
from sybil.parsers.myst import CodeBlockParser

from infer_backends_triton import LocalTriton
from tests.docs.console import commands, matches

_SWITCH = re.compile(r"^<!-- (stop|start) the server -->$", re.MULTILINE)
_SAVED = re.compile(r"<!-- save as (\S+) -->\s*\Z")
_OWN_PORT = re.compile(r"(-port |127\.0\.0\.1:)(8000|8001)\b")
#: Seconds that a command of a console block may take.
_PATIENCE = 90


class Page:
    """One page of the documentation, with the server that its URLs mean."""

    def __init__(self, path: Path, server: LocalTriton) -> None:
        self._server = server
        self._own = dict(zip(("8000", "8001"), _free_ports(), strict=True))
        self._sybil = Sybil(
            parsers=[
                CodeBlockParser("python", evaluator=self._run_python),
                CodeBlockParser("console", evaluator=self._run_console),
                self._find_switches,
            ]
        )
        self._document = self._sybil.parse(path)

    def run(self, namespace: dict[str, object]) -> int:
        """Run all blocks; returns how many there were."""
        self._document.namespace.update(namespace)
        examples = list(self._document.examples())
        for example in examples:
            example.evaluate()
        return len(examples)

    def _with_ports(self, text: str) -> str:
        """The text, with the ports of the server that runs instead of the usual ones."""
        for usual, url in ((8000, self._server.http_url), (8001, self._server.grpc_url)):
            text = text.replace(f"localhost:{usual}", urlsplit(url).netloc)
        return text

    def _with_own_ports(self, text: str) -> str:
        """The text, with free ports instead of the usual ones, for a server that it starts."""
        return _OWN_PORT.sub(lambda found: found[1] + str(self._own[found[2]]), text)

    def _run_python(self, example: Example) -> None:
        saved = _SAVED.search(example.document.text[: example.region.start])
        if saved is not None:
            path = Path(saved.group(1))
            path.write_text(example.parsed)
            if path.name.startswith("test_"):
                # A block that comes later runs pytest on it.
                return
        # The lines above the block are kept as empty ones, so that a traceback names the line.
        source = "\n" * (example.line + example.parsed.line_offset) + self._with_ports(
            example.parsed
        )
        exec(compile(source, example.path, "exec"), example.namespace)  # noqa: S102 - our own pages

    def _run_console(self, example: Example) -> None:
        for command, expected in commands(example.parsed):
            where = f"{example.path}:{example.line}: $ {command}"
            lines = [self._with_own_ports(line) for line in expected]
            written = self._with_own_ports(self._with_ports(command))
            printed = _run_command(written, lines, where)
            _require(lines, printed, where)

    def _find_switches(self, document: Document) -> Iterable[Region]:
        for found in _SWITCH.finditer(document.text):
            yield Region(found.start(), found.end(), found.group(1), self._switch)

    def _switch(self, example: Example) -> None:
        {"stop": self._server.stop, "start": self._server.start}[example.parsed]()


def _free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as two:
        for found in (one, two):
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in (one, two)]


def _run_command(command: str, expected: list[str], where: str) -> str:
    """What a command prints. A line ``^C`` interrupts it once all lines before it are there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        env={**os.environ, "PATH": path, "COLUMNS": "120", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = ""
        if "^C" in expected:
            wanted = expected[: expected.index("^C")]
            while not matches(wanted, printed) and (line := process.stdout.readline()):
                printed += line
            process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 0, f"{where} ended with {process.returncode}"
    return printed + rest


def _require(expected: list[str], printed: str, where: str) -> None:
    lines = [line for line in expected if line != "^C"]
    assert matches(lines, printed), f"{where} printed\n{printed}"
