"""Pure: digits as they look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.style import Style
from rich.text import Text

_SIDE, _INK = 8, 16
# The first and the last column of nearly every image are blank.
_COLUMNS = slice(1, 7)
_GAP = 1


@dataclass(frozen=True, slots=True)
class Palette:
    """What a terminal can show.

    Attributes:
        shades: Characters from paper to ink, for images; empty where colours draw them.
        server: Stands for calls that the server answered.
        local: Stands for calls that the local model answered.
        lost: Stands for calls that nobody answered, or wrongly.
    """

    shades: str
    server: str
    local: str
    lost: str


def palette(console: Console) -> Palette:
    """The best that ``console`` can show."""
    if not console.encoding.lower().startswith("utf"):
        return Palette(" .:*#", "#", "-", "X")
    shades = " ░▒▓█"
    if console.color_system in {"256", "truecolor"} and not console.no_color:
        shades = ""
    return Palette(shades, "█", "░", "X")


def draw_digits(images: Sequence[NDArray[np.uint8]], shades: str) -> Text:
    """Images side by side, each 12 columns wide and 8 lines high; two columns are one pixel."""
    text = Text(no_wrap=True)
    for row in range(_SIDE):
        for number, image in enumerate(images):
            text.append(" " * _GAP if number else "")
            for pixel in image.reshape(_SIDE, _SIDE)[row, _COLUMNS]:
                _append_pixel(text, int(pixel) / _INK, shades)
        text.append("\n")
    return text


def _append_pixel(text: Text, ink: float, shades: str) -> None:
    if shades:
        text.append(shades[round(ink * (len(shades) - 1))] * 2)
        return
    level = round(22 + ink * 222)
    text.append("  ", Style(bgcolor=f"rgb({level},{level},{level})"))


def captions(words: Sequence[str]) -> str:
    """One word under each of the images of ``draw_digits``."""
    width = 2 * (_COLUMNS.stop - _COLUMNS.start)
    return (" " * _GAP).join(word.center(width) for word in words).rstrip()
