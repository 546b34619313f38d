"""Has the C library keep the memory that large messages need, from one call to the next.

glibc gives a large block back to the system when it is freed, and the next call pays for every
page of it anew, which takes longer than all copying. It learns to keep blocks no larger than one
that it has seen freed, of at most 32 MiB, and twice as much free memory in all ("mallopt(3)",
``M_MMAP_THRESHOLD`` and ``M_TRIM_THRESHOLD``). Teaching it costs nothing: a block whose pages were
never touched.

A program that has set these thresholds itself, by mallopt or by the environment, has them kept. For
other C libraries this changes nothing.
"""

from __future__ import annotations

import numpy as np

# About so many blocks of the size of a message does a call hold at once, those of grpc included.
_COPIES = 4
# With room for what malloc adds to a block.
_LARGEST_BLOCK = 32 * 1024 * 1024 - 64 * 1024
#: Messages of no more bytes need not be expected: such blocks are kept anyway.
LEAST = 32 * 1024


class _Expected:
    """The largest message so far, in bytes."""

    size = LEAST


def expect(size: int) -> None:
    """Keep memory for messages of ``size`` bytes. Cheap to call again and again."""
    if size > _Expected.size:
        _Expected.size = size
        np.empty(min(_COPIES * size, _LARGEST_BLOCK), np.uint8)
