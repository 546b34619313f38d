"""Runs out of file descriptors; a process of its own for the tests.

``python -m tests.faults.starving URL LOCAL`` opens the model of URL and, loaded at once, that of
LOCAL. After each step it writes a line, and waits for one: with all well; without a descriptor to
be had; with all well again. Each line is what became of the calls of that step, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
from collections.abc import Sequence

import infer_backends as ib
from tests.faults.calls import Call, call
from tests.faults.servers import wait_until


def tell(calls: Sequence[Call], **more: object) -> None:
    facts = {
        "urls": [one.url for one in calls],
        "right": all(one.right for one in calls),
        "errors": [repr(one.error) for one in calls if one.error is not None],
        "attempts": [type(one.error).__name__ for call in calls for one in call.attempts],
    }
    sys.stdout.write(json.dumps(facts | more) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


def main(url: str, local: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    model = ib.open_model([url, local], probe_period=0.2, preload=True)
    tell([call(model)])
    # Those that are open stay so; all numbers below are in use.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    tell([call(model, timeout=2) for _ in range(30)])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: call(model).url == url)
    model.close()
    # What watched the local model's deadlines ends by itself.
    wait_until(lambda: threading.active_count() == 1)
    tell([])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
