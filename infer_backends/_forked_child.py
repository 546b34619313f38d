"""What a forked child has to do for a runtime in C++ whose threads it did not inherit.

For plugins that run models in this process: call these from a function that is registered by
``os.register_at_fork(after_in_child=...)``.
"""

from __future__ import annotations

import ctypes
from typing import Any


def never_destroy(thing: Any) -> None:
    """Keep an object's destructor from ever running in this process.

    The destructor of a session waits for its threads, and in a forked child they do not exist.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def skip_exit_handlers_of_c() -> None:
    """Let this process, a forked child, end as ``os._exit`` does once Python itself has finished.

    Once imported, a runtime has threads, and an exit handler in C++ that waits for them: in a
    child that leaves by ``sys.exit`` it would wait forever, or crash. Handlers run in reverse
    order, so those registered here are the first to run; the second leaves. Python's own
    finalization (``atexit``, flushing) has run by then, and C's buffers are flushed here.
    """
    libc = ctypes.CDLL(None)
    try:
        libc.on_exit(libc._exit, None)  # noqa: SLF001  # the C function of that name
        libc["__cxa_atexit"](libc.fflush, None, None)
    except AttributeError:
        return  # Not glibc; then nor are there wheels of runtimes with those threads.
