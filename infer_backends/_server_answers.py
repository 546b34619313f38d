"""What a server says of itself: its metadata, the states of its models, and their statistics."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BatchStatistics",
    "ModelState",
    "ModelStatistics",
    "ServerMetadata",
    "StatisticDuration",
]


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What a server says of itself.

    Attributes:
        name: The name of its software, as ``triton``.
        version: The version of its software.
        extensions: The protocol extensions that it says it has. Some servers list none, and have
            some all the same.
    """

    name: str
    version: str = ""
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelState:
    """One version of a model in a server's repository, and how it does.

    Attributes:
        name: The model's name.
        version: Its version; empty where the server names none, as for a model that was not
            loaded yet.
        state: In the server's words: ``READY``, ``LOADING``, ``UNLOADING`` or ``UNAVAILABLE``;
            empty for a model that was not loaded yet.
        reason: Why it is in that state, in the server's words; empty when it does not say.
    """

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""

    @property
    def ready(self) -> bool:
        """Whether it answers requests."""
        return self.state == "READY"

    @property
    def loaded(self) -> bool:
        """Whether the server holds it, or is about to load or unload it."""
        return self.state in {"READY", "LOADING", "UNLOADING"}


@dataclass(frozen=True, slots=True)
class StatisticDuration:
    """How often something was done, and how long that took in all.

    Attributes:
        count: How often.
        seconds: How long all of it took, in seconds.
    """

    count: int = 0
    seconds: float = 0.0

    @property
    def mean(self) -> float | None:
        """How long it took on average, in seconds; None where it was never done."""
        return self.seconds / self.count if self.count else None


_NEVER = StatisticDuration()


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """The executions of a model with one size of batch.

    Attributes:
        size: The rows of the batch.
        compute_input: Getting the inputs ready.
        compute_infer: Running the model.
        compute_output: Getting the outputs ready.
    """

    size: int
    compute_input: StatisticDuration = _NEVER
    compute_infer: StatisticDuration = _NEVER
    compute_output: StatisticDuration = _NEVER


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What one version of a model has done since it was loaded.

    After Triton's statistics extension; what a server does not say is zero, empty or None.

    Attributes:
        name: The model's name.
        version: Its version.
        inferences: How many inferences were made: a request with a batch of eight counts as eight.
        executions: How often the model was run, which is less where requests were batched.
        last_inference: When the last request came, in seconds since 1970; None for never.
        success: Requests that were answered, from their arrival to the answer.
        fail: Requests that failed.
        queue: Waiting for the model to be free.
        compute_input: Getting the inputs ready.
        compute_infer: Running the model.
        compute_output: Getting the outputs ready.
        cache_hit: Looking up answers that were in the cache.
        cache_miss: Looking up, and putting there, answers that were not.
        batches: The executions by size of batch, the smallest first.
    """

    name: str
    version: str = ""
    inferences: int = 0
    executions: int = 0
    last_inference: float | None = None
    success: StatisticDuration = _NEVER
    fail: StatisticDuration = _NEVER
    queue: StatisticDuration = _NEVER
    compute_input: StatisticDuration = _NEVER
    compute_infer: StatisticDuration = _NEVER
    compute_output: StatisticDuration = _NEVER
    cache_hit: StatisticDuration = _NEVER
    cache_miss: StatisticDuration = _NEVER
    batches: tuple[BatchStatistics, ...] = ()
