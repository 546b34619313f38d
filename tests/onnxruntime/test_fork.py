"""A model that was opened before a fork works in the child, and hangs nowhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.forked_child import CHILD
from tests.onnxruntime import models
from tests.onnxruntime.conftest import Save

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

_PRELUDE = (
    CHILD
    + """
import threading, warnings
import numpy as np
import infer_backends as ib

warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads is what is tested
path = sys.argv[1]
x = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
model = ib.open_model(path, threads=4)
expected = model(x)

def same(timeout=None):
    result = model.infer({"x": x}, timeout=timeout)["y"]
    np.testing.assert_allclose(result, expected, rtol=1e-5)

same(60)  # imports what calls import: a module half imported by another thread stays so in a child
"""
)


def run(save: Save, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + code, str(save(models.projection()))],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    return (done.stdout + done.stderr).strip()


def test_a_child_answers_as_its_parent_does_and_so_does_the_parent(save: Save) -> None:
    code = """
print(child(same), child(lambda: same(60)))
same(); same(60)
"""
    assert run(save, code) == "0 0"


def test_a_child_that_leaves_the_usual_way_does_not_wait_for_the_parents_threads(
    save: Save,
) -> None:
    code = """
print(child(same, sys.exit), child(lambda: None, sys.exit), child(model.close, sys.exit))
print(child(lambda: globals().pop("model"), sys.exit))
same()
"""
    # A child that exits runs nothing of what follows in the parent.
    assert run(save, code).splitlines() == ["0 0 0", "0"]


def test_a_fork_while_calls_are_in_flight_harms_neither_side(save: Save) -> None:
    code = """
stop = threading.Event()
def keep_calling():
    while not stop.is_set():
        same(30)
threads = [threading.Thread(target=keep_calling) for _ in range(3)]
for thread in threads: thread.start()
print(*{child(lambda: same(30)) for _ in range(5)})
stop.set()
for thread in threads: thread.join()
"""
    assert run(save, code) == "0"


def test_threads_of_a_child_share_its_new_session(save: Save) -> None:
    code = """
def work():
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: same(), range(20)))
    assert child(same) == 0
print(child(work))
"""
    assert run(save, code) == "0"


def test_a_closed_model_is_closed_in_the_child(save: Save) -> None:
    code = """
model.close()
def work():
    try: same()
    except ib.ModelClosed: return
    raise AssertionError
print(child(work))
"""
    assert run(save, code) == "0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("os.unlink(path)", "there is no model at"),
        ("open(path, 'ab').write(b'x')", "has changed since it was opened"),
    ],
    ids=["vanished", "changed"],
)
def test_a_file_that_is_another_one_by_then_is_not_taken(
    save: Save, change: str, message: str
) -> None:
    answer = run(save, f"{change}\nsame()\nprint(child(same))")
    assert answer.startswith("ModelNotFound")
    assert message in answer
    assert answer.endswith("\n1")


def test_a_session_on_a_cuda_device_is_refused_in_the_child(save: Save) -> None:
    code = """
from dataclasses import replace
from infer_backends_onnxruntime._backend import _LIVE
(backend,) = _LIVE
backend._metadata = replace(backend.metadata, platform="CUDAExecutionProvider")
print(child(same))
"""
    answer = run(save, code)
    assert answer.startswith("UnsupportedOperation a CUDA session does not survive a fork")
