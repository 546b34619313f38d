"""Forks while calls run; a process of its own for the tests.

``python -m tests.faults.forking URL LOCAL PID`` calls the model of URL, and of LOCAL when that
fails, from some threads, and meanwhile forks. Each child calls the model that it inherited, waits
until URL answers it, and closes it. Where PID is not 0, that process is stopped by SIGSTOP before
the forks, and goes on after each child has had an answer without it. With ``long`` for PID, the
calls of the parent take longer than a fork waits for, and each child has to be answered by LOCAL.
Prints, as JSON, how many children ended how, and what happened to the calls of the parent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter

import infer_backends as ib
from tests.faults.calls import Load, call
from tests.faults.servers import states_of_threads, wait_until

CHILDREN = 4
#: How long a child may take, in seconds, before it counts as hanging.
BOUND = 30.0
OUTCOMES = {0: "right", 11: "error", 12: "wrong", 13: "never back", -signal.SIGKILL: "hangs"}


def child(model: ib.Model, url: str, answered: int) -> int:
    first = call(model, timeout=5)
    # The parent may have the server go on.
    os.write(answered, b"!")
    if first.error is not None:
        sys.stderr.write(f"{first.error!r}\n")
        return 11
    if not first.right:
        return 12
    try:
        wait_until(lambda: call(model).url == url, within=20)
    except AssertionError:
        sys.stderr.write(f"{model.status()}\n")
        return 13
    model.close()
    return 0


def child_on_its_own(model: ib.Model, local: str) -> int:
    calls = [call(model, timeout=5) for _ in range(10)]
    for one in calls:
        if one.error is not None:
            sys.stderr.write(f"{one.error!r}\n")
            return 11
        if not one.right or one.url != local:
            return 12
    sys.stderr.write(f"{model.status()}\n")
    down = model.status().members[0].state is ib.MemberState.DOWN
    model.close()
    return 0 if down else 13


def fork_beside_long_calls(url: str, local: str) -> None:
    with ib.open_model([url, local], probe_period=0.2) as model:
        call(model)
        with Load(model, 2, timeout=20, wait=3.0, pace=0.0) as load:
            wait_until(lambda: load.inside == 2)
            time.sleep(0.2)
            pid = os.fork()
            if pid == 0:
                os._exit(child_on_its_own(model, local))
            outcome = wait_for(pid)
    tell(Counter([outcome]), load)


def tell(outcomes: Counter[str], load: Load) -> None:
    errors = [repr(one.error) for one in load.calls if one.error is not None]
    wrong = sum(not one.right for one in load.calls)
    sys.stdout.write(json.dumps({"children": outcomes, "errors": errors, "wrong": wrong}))


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


def fork_once(model: ib.Model, url: str, server: int) -> str:
    """Fork one child, with the server stopped meanwhile if it is named; how the child ended."""
    if server:
        os.kill(server, signal.SIGSTOP)
        wait_until(lambda: states_of_threads(server) <= {"T"})
        # The first of these waits for the server, the others do not.
        for _ in range(2):
            call(model, timeout=1)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(child(model, url, writer))
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    if server:
        os.kill(server, signal.SIGCONT)
    outcome = wait_for(pid)
    # A server that fails again before it has recovered would be left alone for longer.
    wait_until(lambda: model.status().members[0].state is ib.MemberState.READY)
    return outcome


def main(url: str, local: str, server: int) -> None:
    outcomes: Counter[str] = Counter()
    with ib.open_model([url, local], probe_period=0.2) as model:
        call(model)
        with Load(model, 4, timeout=5) as load:
            load.wait_for(url)
            for _ in range(CHILDREN):
                outcomes[fork_once(model, url, server)] += 1
            load.wait_for(url)
    tell(outcomes, load)


if __name__ == "__main__":
    if sys.argv[3] == "long":
        fork_beside_long_calls(sys.argv[1], sys.argv[2])
    else:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
