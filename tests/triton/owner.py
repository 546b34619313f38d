"""Owns a LocalTriton, in a process of its own that tests may end in any way.

``python owner.py ENVIRONMENT REPOSITORY WHAT`` starts a server, prints its pid, its workspace and
its ports as JSON, and does WHAT: ``wait`` in the ``with`` block; ``raise`` in it; ``exit`` without
a ``with`` block; ``fork`` a child that ends as Python processes do, and then wait.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from infer_backends_triton._local import LocalTriton


def main(environment: str, repository: str, what: str) -> None:
    arguments = ["--disable-auto-complete-config"]
    server = LocalTriton(repository, environment=environment, arguments=arguments)
    if what == "exit":
        server.start()
        tell(server)
        return
    with server:
        if what == "fork":
            child = os.fork()
            if child == 0:
                server.stop()
                sys.exit()
            assert os.waitpid(child, 0)[1] == 0
        tell(server)
        if what == "raise":
            raise RuntimeError("the block failed")
        signal.pause()


def tell(server: LocalTriton) -> None:
    assert server.log_path is not None
    run = server._run
    assert run is not None
    facts = {
        "pid": server.pid,
        "workspace": str(server.log_path.parent),
        "shm_prefix": run.shm_prefix,
        "http_port": server.ports.http,
    }
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
