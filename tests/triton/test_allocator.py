"""The memory of large messages is kept from call to call."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from infer_backends_triton._allocator import expect

SIZE, COPIES, ROUNDS = 3_000_000, 4, 20
PAGES = SIZE * COPIES * ROUNDS // resource.getpagesize()

def faults():
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        messages = [b"x" * SIZE for _ in range(COPIES)]
        del messages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun

expect(SIZE)
faults()
expect(SIZE)
print(faults() / PAGES)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries decide in ways of their own"
)
def test_the_pages_of_large_messages_are_not_taken_anew_for_every_call() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.1
