"""The shared libraries that a Linux library names as needed (``DT_NEEDED``).

Asking the provider's own file is what keeps pace with CUDA and TensorRT: each onnxruntime wants
its own major versions. Loading it to find out is no way: it may only be loaded by onnxruntime.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_ENTRY = struct.Struct("<qQ")
_SECTION_DYNAMIC = 6
_NEEDED = 1
_SANE = 1 << 20  # bytes; the tables read here take a few kilobytes


def needed_libraries(library: Path) -> tuple[str, ...]:
    """The names in ``library``'s list, in its order; none if it is not a 64-bit ELF file."""
    try:
        with library.open("rb") as file:
            return tuple(_needed(file))
    except (OSError, struct.error, ValueError, IndexError):
        return ()


def _needed(file: BinaryIO) -> list[str]:
    header = _HEADER.unpack(file.read(_HEADER.size))
    if header[0][:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    offset, size, count = header[6], header[11], header[12]
    file.seek(offset)
    table = file.read(min(size * count, _SANE))
    sections = [_SECTION.unpack_from(table, start) for start in range(0, len(table), size)]
    names = []
    for section in sections:
        if section[1] == _SECTION_DYNAMIC:
            strings = _content(file, sections[section[6]])
            for tag, value in _ENTRY.iter_unpack(_content(file, section)):
                if tag == _NEEDED:
                    names.append(strings[value : strings.index(b"\0", value)].decode())
    return names


def _content(file: BinaryIO, section: tuple[int, ...]) -> bytes:
    offset, size = section[4], section[5]
    if size > _SANE:
        raise ValueError("a table of an impossible size")
    file.seek(offset)
    return file.read(size)
