"""The runtime of this process: OpenVINO, its one ``Core``, and whether a fork has broken it.

A child that was forked after OpenVINO had compiled a model has its locks and queues, but not its
threads. Calls there hang, now and then: with a model of the parent, with one that the child
compiles, and with a ``Core`` of its own. So nothing is asked of it there.
"""

from __future__ import annotations

import os
import threading
from types import ModuleType
from typing import Any

from infer_backends.plugin import UnsupportedOperation, skip_exit_handlers_of_c
from infer_backends_openvino._install import import_runtime


class Runtime:
    """OpenVINO, as this process has it. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._core: Any = None
        self._has_threads = False
        self.forked = False

    def start(self) -> tuple[ModuleType, Any]:
        """The package, and the ``Core`` that all models of this process share.

        Raises:
            MissingDependency: OpenVINO is not installed, or does not import.
            UnsupportedOperation: This process was forked from one that had compiled a model.
        """
        self.require_unforked()
        runtime = import_runtime()
        with self._lock:
            if self._core is None:
                self._core = runtime.Core()
        return runtime, self._core

    def compile(self, model: Any, device: str, properties: dict[str, Any]) -> Any:
        """A compiled model. From the first one on, OpenVINO has threads, and a fork breaks it."""
        self._has_threads = True
        return self._core.compile_model(model, device, properties)

    def require_unforked(self) -> None:
        """Refuse to go on in a forked child.

        Raises:
            UnsupportedOperation: This process was forked from one that had compiled a model.
        """
        if self.forked:
            raise UnsupportedOperation(
                "OpenVINO does not survive a fork, and this process was forked from one that had a "
                "model open: start workers with 'spawn', or open models in the workers only",
                unprocessed=True,
            )

    def after_fork_in_child(self) -> None:
        """Note that there was a fork, if that matters."""
        self._lock = threading.Lock()
        if self._has_threads:
            self.forked = True
            skip_exit_handlers_of_c()


RUNTIME = Runtime()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RUNTIME.after_fork_in_child)
