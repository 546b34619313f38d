"""What programs that fork, in the tests of runtimes, have in common."""

#: The source of ``child``: forks, has the child do some work, and says how it ended, or "hung".
CHILD = """
import os, sys, time

def child(work, leave=os._exit):
    sys.stdout.flush()  # or the child prints it again when it leaves
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as exc:
            print(type(exc).__name__, exc, flush=True)
            os._exit(1)
        leave(0)
    end = time.monotonic() + 40
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hung"
"""
