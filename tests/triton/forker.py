"""Forks, again and again, while gRPC calls are in flight; a process of its own for the tests.

``python forker.py URL SECONDS FORKS THREADS`` calls the model ``slow``, which takes SECONDS, from
so many threads, and meanwhile forks FORKS times. Each child makes a call with the model that it
inherited, opens one of its own, and closes both. Prints, as JSON, how many children ended how
(``works``, ``refused``: UnsupportedOperation, ``hangs``, or something else), and the errors of the
parent's calls.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter

import numpy as np

from infer_backends.plugin import InferError, UnsupportedOperation
from infer_backends_triton._grpc_backend import GrpcBackend
from tests.triton.grpc_fakes import a_request, opened

#: How long a child may take, in seconds, before it counts as hanging.
BOUND = 30.0
OUTCOMES = {0: "works", 10: "refused", 11: "error", 12: "wrong answer", -signal.SIGKILL: "hangs"}


def call(backend: GrpcBackend, seconds: float) -> float:
    inputs = {"SECONDS": np.array([seconds], np.float32)}
    return float(backend.infer(a_request(inputs=inputs)).outputs["OUTPUT"][0])


def child(backend: GrpcBackend, url: str) -> int:
    try:
        answer = call(backend, 0)
        with opened(url) as own:
            answer += call(own, 0)
        backend.close()
    except UnsupportedOperation:
        return 10
    except InferError as exc:
        sys.stderr.write(f"{exc!r}\n")
        return 11
    return 12 if answer else 0


def wait_for(pid: int) -> str:
    end = time.monotonic() + BOUND
    done, status = os.waitpid(pid, os.WNOHANG)
    while not done:
        time.sleep(0.005)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        done, status = os.waitpid(pid, os.WNOHANG)
    code = os.waitstatus_to_exitcode(status)
    return OUTCOMES.get(code, str(code))


def main(url: str, seconds: float, forks: int, threads: int) -> None:
    outcomes: Counter[str] = Counter()
    errors: list[str] = []
    over = threading.Event()
    begun = threading.Barrier(threads + 1)

    def keep_calling(backend: GrpcBackend) -> None:
        begun.wait()
        while not over.is_set():
            try:
                call(backend, seconds)
            except InferError as exc:  # noqa: PERF203 - each call may fail
                errors.append(repr(exc))

    with opened(url) as backend:
        call(backend, 0)
        callers = [threading.Thread(target=keep_calling, args=(backend,)) for _ in range(threads)]
        for caller in callers:
            caller.start()
        begun.wait()
        while threads and not backend._connection._gate._in_flight:
            time.sleep(0.001)
        for _ in range(forks):
            pid = os.fork()
            if pid == 0:
                os._exit(child(backend, url))
            outcomes[wait_for(pid)] += 1
        over.set()
        for caller in callers:
            caller.join()
        call(backend, 0)
    sys.stdout.write(json.dumps({"children": outcomes, "errors": errors}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
