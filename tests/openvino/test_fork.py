"""OpenVINO does not survive a fork: the child is told so at once, and hangs nowhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from infer_backends.testing import REFERENCE_MODELS
from tests.forked_child import CHILD

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

_PRELUDE = (
    CHILD
    + """
import threading, warnings
import numpy as np
import infer_backends as ib

warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads is what is tested
url = "openvino:" + sys.argv[1]
x, codes = np.ones((200, 3), np.float32), np.array([1, 2])

def same(model, timeout=None):
    result = model.infer({"image": x, "codes": codes}, timeout=timeout)
    np.testing.assert_array_equal(result["scaled"], x * 2)

def refused(work):
    try: work()
    except ib.UnsupportedOperation as error:
        assert "spawn" in str(error)
        return
    raise AssertionError("it was not refused")
"""
)


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + code, str(REFERENCE_MODELS["mixed"].onnx_file)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    return (done.stdout + done.stderr).strip()


def test_a_child_is_refused_calls_and_models_of_its_own_and_the_parent_works_on() -> None:
    code = """
model = ib.open_model(url)
same(model)
print(child(lambda: refused(lambda: same(model))), child(lambda: refused(lambda: same(model, 60))))
print(child(lambda: refused(lambda: ib.open_model(url))))
same(model)
same(model, 60)
"""
    assert run(code).split() == ["0", "0", "0"]


def test_a_child_that_leaves_the_usual_way_does_not_wait_for_the_parents_threads() -> None:
    code = """
model = ib.open_model(url)
same(model); same(model, 60)
print(child(lambda: None, sys.exit), child(model.close, sys.exit))
print(child(lambda: globals().pop("model"), sys.exit))
same(model)
"""
    assert run(code).split() == ["0", "0", "0"]


def test_a_fork_while_calls_are_in_flight_harms_neither_side() -> None:
    code = """
model = ib.open_model(url)
same(model, 60)  # imports what calls import: a module half imported stays so in a child
stop = threading.Event()
def keep_calling(timeout):
    while not stop.is_set():
        same(model, timeout)
threads = [threading.Thread(target=keep_calling, args=(t,)) for t in (None, 30, None)]
for thread in threads: thread.start()
print(*{child(lambda: refused(lambda: same(model)), sys.exit) for _ in range(6)})
stop.set()
for thread in threads: thread.join()
"""
    assert run(code) == "0"


def test_a_child_opens_models_where_the_parent_has_only_looked_at_them() -> None:
    code = """
from infer_backends.plugin import ModelURL, OpenOptions
from infer_backends_openvino import plugin
options = {option.name: option.default for option in plugin.infer_backends_options()}
plugin.infer_backends_metadata(ModelURL.parse(url), OpenOptions(options))
def work():
    with ib.open_model(url) as own:
        same(own); same(own, 30)
print(*{child(work, leave) for leave in (os._exit, sys.exit)})
"""
    assert run(code) == "0"
