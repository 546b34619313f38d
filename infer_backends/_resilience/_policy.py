"""What all the endpoints of one model share: clock, randomness, settings, and who watches."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from infer_backends._deadline import Clock
from infer_backends._observers import Observers

#: A failure that took so long, in seconds, kept its caller waiting: as a time-out does.
SLOW = 0.25
#: How far the time between two probes grows, as a multiple of the first.
SLOWEST_PROBES = 5.0
#: How long closing a model waits for observers to be told the rest, in seconds.
FAREWELL = 1.0


_NOBODY = Observers(())


@dataclass(frozen=True, slots=True)
class Policy:
    """How the endpoints of one model are watched over.

    Attributes:
        clock: The monotonic clock.
        random: Numbers from 0 to 1, for jitter and for choosing among replicas.
        probe_period: Seconds before the first probe of an endpoint that is down; grows to five
            times that.
        strict: Whether an endpoint that serves another model is left out, not only reported.
        on_failure: Whether a failure of the model itself makes the next member be asked, too.
        idempotent: Whether a call may be sent again that may have been worked on.
        observers: Who is told what happens.
    """

    clock: Clock = time.monotonic
    random: Callable[[], float] = field(default=random.random)
    probe_period: float = 1.0
    strict: bool = True
    on_failure: bool = False
    idempotent: bool = False
    observers: Observers = _NOBODY

    def pace(self, period: float) -> float:
        """The time after which to probe when the last one was ``period``, in seconds.

        Half as much again every time, with a tenth of jitter, so that the probers of many
        processes do not fall into step.
        """
        slowest = self.probe_period * SLOWEST_PROBES
        return min(period * 1.5, slowest) * (0.9 + 0.1 * self.random())
