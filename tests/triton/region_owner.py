"""A client of its own that tests may end in any way.

``python region_owner.py URL PREFIX WHAT`` sends large tensors to the model identity_1d by shared
memory, whose regions' names begin with PREFIX, prints the names, and does WHAT: ``exit`` without
closing the model, ``collect`` it and wait, or ``wait`` with it.
"""

from __future__ import annotations

import gc
import signal
import sys

import numpy as np

from infer_backends import open_model
from infer_backends_triton import _regions


def main(url: str, prefix: str, what: str) -> None:
    _regions.PREFIX = prefix
    model = open_model(f"{url}/identity_1d?shared_memory=system")
    x = np.ones(100_000, np.float32)
    assert model(x).tobytes() == x.tobytes()
    assert model(x).tobytes() == x.tobytes()
    names = sorted(path.name for path in _regions.FOLDER.glob(f"{prefix}*"))
    if what == "collect":
        del model
        gc.collect()
    sys.stdout.write(" ".join(names) + "\n")
    sys.stdout.flush()
    if what != "exit":
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
