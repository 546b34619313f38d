"""What ``model.infer`` returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infer_backends._backend import Array, Attempt, ParameterValue
from infer_backends._classes import read_classes


class InferResult(Mapping[str, Array]):
    """The outputs of one call, by name, and how they came about.

    The arrays are writable, C-contiguous, and the caller's own. The order is that of ``outputs=``,
    or else that of the metadata.

    Attributes:
        backend_url: The URL that answered, secrets masked.
        attempts: What was tried before it, and why it did not answer; oldest first.
        model_version: The version that answered; empty when the backend has none.
        parameters: Response parameters of the protocol.
        request_id: The ``request_id`` of the call; empty for none.
        sample_index: Which of the samples of :meth:`Model.map` this is of; None of a single call.
    """

    __slots__ = (
        "_outputs",
        "attempts",
        "backend_url",
        "model_version",
        "parameters",
        "request_id",
        "sample_index",
    )

    def __init__(
        self,
        outputs: dict[str, Array],
        *,
        backend_url: str = "",
        attempts: tuple[Attempt, ...] = (),
        model_version: str = "",
        parameters: Mapping[str, ParameterValue] | None = None,
        request_id: str = "",
        sample_index: int | None = None,
    ) -> None:
        self._outputs = outputs
        self.backend_url = backend_url
        self.attempts = attempts
        self.model_version = model_version
        self.parameters = dict(parameters) if parameters else {}
        self.request_id = request_id
        self.sample_index = sample_index

    def __getitem__(self, name: str) -> Array:
        try:
            return self._outputs[name]
        except KeyError:
            raise KeyError(f"no output {name!r}; there are {', '.join(self._outputs)}") from None

    def classes(self, name: str) -> list[Any]:
        """The classes of an output, of a call with ``top_k=``.

        Args:
            name: The output's name.

        Returns:
            For each row a list of :class:`Classification`, the largest element first; one such
            list for a model without a batch axis.

        Raises:
            InvalidInput: The call was one without ``top_k=``.
            ProtocolError: The output holds no classes.
        """
        return read_classes(self[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{n}: {a.dtype}{list(a.shape)}" for n, a in self._outputs.items())
        return f"<InferResult {shapes} from {self.backend_url}>"
