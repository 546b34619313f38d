"""A model in memory: what its backends ask, and what tests make of it."""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from infer_backends.plugin import (
    Array,
    Deadline,
    InferenceFailed,
    InferError,
    InferRequest,
    InvalidInput,
    ModelMetadata,
    ModelNotFound,
    SequenceStep,
)
from infer_backends.testing._fake_answers import read_answer, require_fit
from infer_backends.testing._fake_calls import FakeCall, remember
from infer_backends.testing._fake_drawing import draw
from infer_backends.testing._fake_health import Clock, Health
from infer_backends.testing._fake_names import Names
from infer_backends.testing._fake_outcomes import Down, Outcome, error_of, spoil

#: The platform of every fake: nobody takes it for a runtime.
PLATFORM = "fake"
Compute = Callable[..., Any]


class Fake:
    """A model in memory. :class:`FakeModel` is how tests see it, a backend how a model does.

    Args:
        metadata: What it says of itself.
        compute: Its function; None for outputs made up from the metadata.
        seed: What they are made up by.
        stateful: Whether it keeps sequences.
        clock: By which it is down, or slow.

    Attributes:
        name: Its name.
        metadata: What it says of itself now.
        compute: Its function now.
        stateful: Whether it keeps sequences.
        health: Whether it is there.
        calls: What came, oldest first; read and written under ``health.news``.
        script: What the next calls come to; likewise.
        openings: What the next openings come to; likewise.
        gone: Whether it was stopped.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        compute: Compute | None = None,
        *,
        seed: int = 0,
        stateful: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = metadata.name
        self.metadata = metadata
        self.compute = compute
        self.stateful = stateful
        self.who = f"the fake model {self.name!r}"
        self.health = Health(self.who, clock)
        self.calls: list[FakeCall] = []
        self.script: deque[Outcome] = deque()
        self.openings: deque[InferError | type[InferError]] = deque()
        self.gone = False
        self._seed = seed
        self._sequences: dict[int, dict[str, Any]] = {}
        _FAKES.add(self)

    def require_started(self) -> None:
        """Raise what a server without the model would say, once the fake was stopped."""
        if self.gone:
            raise ModelNotFound(
                f"{self.who} was stopped: open its models while it is started, inside its `with` "
                "block or its test"
            )

    def open(self, deadline: Deadline) -> ModelMetadata:
        """What a client sees that opens it now.

        Raises:
            InferError: The script says so, or it is down.
        """
        deadline.require(f"{self.who} was opened")
        with self.health.news:
            self.health.require_there()
            error = self.openings.popleft() if self.openings else None
        if error is not None:
            raise error_of(error, self.who)
        self.health.wait(deadline, self.require_started, answering=False)
        return self.metadata

    def arrive(
        self, request: InferRequest, url: str, headers: Mapping[str, str]
    ) -> tuple[FakeCall, Outcome | None]:
        """Remember a call, and take what it is to come to out of the script."""
        call = remember(request, url, headers)
        with self.health.news:
            self.calls.append(call)
            self.health.news.notify_all()
            try:
                self.require_started()
                self.health.require_there()
                outcome = self.script.popleft() if self.script else None
                if isinstance(outcome, Down):
                    self._go_down(outcome)
            except InferError as exc:
                call.failed(exc)
                raise
        return call, outcome

    def _go_down(self, outcome: Down) -> None:
        if outcome.seconds != 0:
            self.health.set_down(outcome.seconds, None)
        self.health.fail()

    def one_response(self, request: InferRequest, outcome: Outcome | None) -> dict[str, Array]:
        """The outputs that answer a request."""
        outputs = read_answer(self.metadata, self._run(request, outcome))
        return self._finished(outputs, request, outcome)

    def responses(
        self, request: InferRequest, outcome: Outcome | None
    ) -> Iterator[dict[str, Array]]:
        """The outputs of each response to a request of a decoupled model."""
        answers = self._run(request, outcome)
        several: Iterable[Any] = (answers,) if isinstance(answers, (Mapping, tuple)) else answers
        iterator = self._guarded(iter, several)
        while (answer := self._guarded(next, iterator, _END)) is not _END:
            yield self._finished(read_answer(self.metadata, answer), request, outcome)

    def _run(self, request: InferRequest, outcome: Outcome | None) -> Any:
        """What the outcome says that the answer is, or the function, or what is made up."""
        # Neither the caller's arrays nor those of the record: a function may write to its own.
        inputs = {name: array.copy() for name, array in request.inputs.items()}
        metadata = self.metadata
        require_fit(metadata, inputs)
        step = request.options.sequence if request.options is not None else None
        state = [self._state(step)] if self.stateful else []
        if isinstance(outcome, Mapping):
            return outcome
        if callable(outcome) and not isinstance(outcome, type):
            return self._guarded(outcome, inputs, *state)
        if self.compute is None:
            return draw(metadata, inputs, self._seed)
        return self._guarded(self.compute, inputs, *state)

    def _guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except InferError:
            raise
        except Exception as exc:
            # Only the type: the message may quote the tensors.
            raise InferenceFailed(
                f"the function of {self.who} raised {type(exc).__name__}"
            ) from exc

    def _finished(
        self, outputs: dict[str, Array], request: InferRequest, outcome: Outcome | None
    ) -> dict[str, Array]:
        wanted = tuple(outputs) if request.outputs is None else request.outputs
        for name in wanted:
            if name not in outputs:
                raise InvalidInput(
                    f"{self.who} has no output {name!r}; it has {', '.join(outputs)}"
                )
        return spoil({name: outputs[name] for name in wanted}, outcome, self.metadata)

    def _state(self, step: SequenceStep | None) -> dict[str, Any]:
        """What the function keeps for a sequence."""
        if step is None:
            raise InvalidInput(f"{self.who} keeps sequences: call it by model.sequence()")
        with self.health.news:
            if step.start:
                self._sequences[step.id] = {}
            elif step.id not in self._sequences:
                raise InvalidInput(f"{self.who} knows no sequence {step.id}: begin it first")
            state = self._sequences[step.id]
            if step.end:
                del self._sequences[step.id]
            return state

    def reset_in_child(self) -> None:
        """Forget the threads that are at it: they do not exist in a forked child."""
        self.health.reset_in_child()


_END = object()
#: The fakes that tests have started.
NAMES: Names[Fake] = Names()
_FAKES: weakref.WeakSet[Fake] = weakref.WeakSet()


def _reset_fakes() -> None:
    NAMES.reset_in_child()
    for fake in list(_FAKES):
        fake.reset_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_fakes)
