"""Threads, forked children, and other processes: a part of the suite."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from infer_backends._errors import UnsupportedOperation
from infer_backends._model import Model
from infer_backends._open import open_model
from infer_backends._registry import REGISTRY
from infer_backends._url import ModelURL
from infer_backends.testing._rules import keeps
from infer_backends.testing._subject import Subject, URLs
from infer_backends.testing._values import assert_all_close
from infer_backends.testing._waist import PATIENCE

_THREADS, _CALLS = 8, 20
#: What another process runs: it is sent where modules are found, a plugin, and a model.
_PROGRAM = """\
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
registered, model, inputs = pickle.load(sys.stdin.buffer)
for scheme, plugin in registered.items():
    from infer_backends._registry import REGISTRY
    REGISTRY.register(scheme, plugin, owner=scheme)
with model:
    outputs = {name: array for name, array in model.infer(inputs).items()}
sys.stdout.buffer.write(b"outputs:" + pickle.dumps(outputs))
"""


class SharingContract(Subject):
    """Who may use a model, beside the one who opened it."""

    @keeps("threads")
    def test_threads_share_a_model(self, main_model: Model) -> None:
        def call(number: int) -> None:
            inputs = self.inputs(number)
            for _ in range(_CALLS):
                self.check(main_model.infer(inputs), inputs)

        with ThreadPoolExecutor(_THREADS) as pool:
            for result in [pool.submit(call, 7 * number) for number in range(_THREADS)]:
                result.result()

    @keeps("pickling")
    def test_a_model_pickles_by_its_url(self, main_model: Model) -> None:
        with pickle.loads(pickle.dumps(main_model)) as again:
            assert again.metadata == main_model.metadata
            self.still_answers(again)
            self.still_answers(main_model)

    @keeps("spawn")
    def test_a_pickled_model_opens_in_another_process(self, reference_url: URLs) -> None:
        url = reference_url(self.main.name)
        inputs = self.inputs(1)
        with open_model(url) as model:
            try:
                sent = pickle.dumps((_registered(ModelURL.parse(url).scheme), model, inputs))
            except (AttributeError, TypeError, pickle.PicklingError) as exc:
                pytest.skip(f"only this process knows the scheme, and what opens it: {exc}")
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=pickle.dumps([str(Path.cwd()), *sys.path]) + sent,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
        outputs = pickle.loads(done.stdout.partition(b"outputs:")[2])
        tolerance = self.tolerance
        assert_all_close(outputs, self.main.compute(inputs), tolerance)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    @keeps("fork")
    def test_a_model_works_in_a_forked_child(self, main_model: Model) -> None:
        self.still_answers(main_model)
        told, tell = multiprocessing.get_context("fork").Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(
            target=_tell, args=(tell, self._in_child, main_model)
        )
        child.start()
        tell.close()
        outcome = told.recv() if told.poll(PATIENCE / 2) else "nothing: it hangs"
        child.kill()
        child.join()
        if self.survives_fork:
            assert outcome == "answered"
        else:
            assert outcome != "answered", "it works: take `survives_fork = False` out"
            assert outcome == "refused"
        self.still_answers(main_model)

    def _in_child(self, model: Model) -> str:
        try:
            self.still_answers(model)
        except UnsupportedOperation:
            return "refused"
        return "answered"


def _registered(scheme: str) -> dict[str, object]:
    """The plugin of a scheme that is registered in this process only."""
    # Installed plugins are found by the other process itself.
    known = {row.scheme: row.distribution for row in REGISTRY.plugins()}
    if known.get(scheme):
        return {}
    (plugin,) = REGISTRY.find(scheme).hook.infer_backends_open.get_hookimpls()
    return {scheme: plugin.plugin}


def _tell(tell: Any, call: Callable[[Model], str], model: Model) -> None:
    """Say how a call went, in a child."""
    try:
        outcome = call(model)
    except Exception as exc:  # noqa: BLE001 - shown by the assert
        outcome = f"{type(exc).__name__}: {exc}"
    tell.send(outcome)
    tell.close()
