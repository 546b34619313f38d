"""Members of a model whose servers a test switches off and on, and whose probes it makes itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from infer_backends import DataType, InferError, TensorSpec
from infer_backends._member_state import MemberState
from infer_backends._resilience._contact import Contact
from infer_backends._resilience._endpoint import Endpoint
from infer_backends._resilience._fallback import Fallback
from infer_backends._resilience._opening import open_members
from infer_backends._resilience._policy import Policy
from infer_backends.plugin import Backend, Deadline, ModelMetadata
from tests.core.fakes import FakeBackend, metadata

#: What another model says of itself.
OTHER = metadata([TensorSpec("x", DataType.INT32, (-1, 3))])
#: What the same model says of itself when it is served with a fixed batch.
FIXED = metadata([TensorSpec("x", DataType.FP32, (2, 3))], [TensorSpec("y", DataType.FP32, (2, 3))])

#: How errors name the plugin of the members' scheme, if it was loaded in this process; a pattern.
BY_FAKE = r"(?: \(the plugin 'fake' of infer-backends [^)]+\))?"

#: So long that no prober comes to probe by itself, in seconds.
NEVER = 1e6


class Described(FakeBackend):
    """A backend that is asked whether it is ready, and what its model is now."""

    def __init__(self, url: str = "fake://h/m") -> None:
        super().__init__(url=url)
        self.now: ModelMetadata | InferError | BaseException = self.metadata
        self.is_ready = True
        self.described = 0

    def ready(self, deadline: Deadline) -> bool:
        return self.is_ready

    def describe(self, deadline: Deadline) -> ModelMetadata:
        self.described += 1
        if isinstance(self.now, BaseException):
            raise self.now
        return self.now


class Switch:
    """A member whose server can be down, and says so when it is probed."""

    def __init__(self, url: str, backend: FakeBackend | None = None, *, lazy: bool = False) -> None:
        self.url = url
        self.backend = backend or FakeBackend(url=url)
        self.lazy = lazy
        self.preload = False
        self.down: BaseException | None = None
        self.opened = 0
        self.given: list[float] = []
        self.before_open: Callable[[Deadline], None] = lambda deadline: None

    def open(self, deadline: Deadline) -> Backend:
        self.opened += 1
        self.given.append(deadline.remaining())
        self.before_open(deadline)
        if self.down is not None:
            raise self.down
        return self.backend

    def describe(self) -> ModelMetadata | None:
        return self.backend.metadata if self.lazy else None

    def contact(self) -> Contact:
        return Contact(self.url, self.open, None if self.preload else self.describe)


def pair() -> tuple[Switch, Switch]:
    return Switch("fake://first/m"), Switch("fake://second/m")


class Opened:
    """A fallback whose probes are made when a test says so."""

    def __init__(
        self, *switches: Switch | Sequence[Switch], policy: Policy, timeout: float
    ) -> None:
        self.policy = policy
        members = [
            [Endpoint(switch.contact(), policy) for switch in group]
            for group in (one if isinstance(one, Sequence) else [one] for one in switches)
        ]
        self.endpoints = [endpoint for member in members for endpoint in member]
        deadline = Deadline.after(timeout, clock=policy.clock)
        self.fallback = open_members(members, deadline, policy)

    def states(self) -> list[str]:
        return [str(endpoint.status().state) for endpoint in self.endpoints]

    def probe(self, position: int = 0) -> None:
        self.endpoints[position]._probe()

    def take_down(self, position: int = 0) -> None:
        """As five refused calls would."""
        endpoint = self.endpoints[position]
        endpoint._announce(endpoint.breaker.shut(MemberState.DOWN, "refused"))


OPEN: list[Fallback] = []


def opening(
    *switches: Switch | Sequence[Switch], policy: Policy | None = None, timeout: float = 10
) -> Opened:
    found = Opened(*switches, policy=policy or Policy(probe_period=NEVER), timeout=timeout)
    OPEN.append(found.fallback)
    return found


def opened(*switches: Switch, timeout: float = 10, policy: Policy | None = None) -> Fallback:
    return opening(*switches, timeout=timeout, policy=policy).fallback


def threads() -> list[str]:
    """The names of the library's threads."""
    return [t.name for t in threading.enumerate() if t.name.startswith("infer-backends")]


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something holds that another thread is about to bring about."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(0.001)


def at_once(number: int, do: Callable[[], object]) -> None:
    """Have so many threads do it, all begun before one of them goes on."""
    gate = threading.Barrier(number)

    def one() -> None:
        gate.wait(10)
        do()

    workers = [threading.Thread(target=one) for _ in range(number)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()
