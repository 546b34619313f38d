"""A reader who follows a page: writes its files, makes its changes, and types its commands."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tests.docs.console import commands, matches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

#: A fence, its language, the name of a file in its caption, and what stands in it.
_BLOCK = re.compile(
    r"^(?P<fence>`{3,})(?P<language>\{[\w-]+\} \S+|\w+)\n(?::caption: (?P<file>\S+)\n\n)?"
    r"(?P<text>.*?)^(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)
_END = "-- that was all, with the exit code"


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
        language: What it is written in.
        file: The file that it is, or is to be in; empty for commands.
        text: What stands in it.
    """

    language: str
    file: str
    text: str


def blocks(page: str) -> list[Block]:
    """All blocks of a page, in order, without the files that it includes as they are."""
    found = list(_BLOCK.finditer(page))
    assert len(found) * 2 == len(re.findall(r"^```", page, re.MULTILINE)), "a block is not read"
    return [
        Block(part["language"].rpartition(" ")[2], part["file"] or "", part["text"])
        for part in found
        if not part["language"].startswith("{literalinclude}")
    ]


def changed(text: str, diff: str) -> str:
    """The text of a file after the lines of a diff that begin with ``-`` gave way to the others."""
    before = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] != "+")
    after = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] != "-")
    assert text.count(before) == 1, f"this stands there {text.count(before)} times:\n{before}"
    return text.replace(before, after)


class Reader:
    """A reader in a shell, from the first command to the last.

    Args:
        folder: Where the shell begins.
        environ: Its environment.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shell.communicate()

    @property
    def folder(self) -> Path:
        """Where the reader is now."""
        return Path(self.run("pwd")[0].strip())

    def run(self, command: str) -> tuple[str, int]:
        """What a command prints, and its exit code."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command} </dev/null\necho '{_END}' $?\n")
        self._shell.stdin.flush()
        printed = ""
        for line in self._shell.stdout:
            text, end, code = line.partition(_END)
            printed += text
            if end:
                return printed, int(code)
        raise AssertionError(f"the shell ended in {command!r}:\n{printed}")

    def follow(self, block: Block) -> None:
        """Do what a block says, and see what it shows."""
        if block.language == "console":
            for command, expected in commands(block.text):
                self._see(command, expected)
        elif block.language == "diff":
            path = self.folder / block.file
            path.write_text(changed(path.read_text(), block.text))
        else:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)

    def _see(self, command: str, expected: list[str]) -> None:
        printed, code = self.run(command)
        # A command that is to fail shows it.
        fails = any(line.startswith("error: ") or " failed" in line for line in expected)
        assert (code != 0) == fails, f"$ {command}\nended with {code}:\n{printed}"
        assert matches(expected, printed), f"$ {command}\nprinted:\n{printed}"
