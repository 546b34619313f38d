"""Pure: which outputs a call wants, and the arrays of a response, checked and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from infer_backends._backend import Array, InferResponse
from infer_backends._errors import InvalidInput, ProtocolError
from infer_backends._tensors import DataType, ModelMetadata


class Outputs:
    """The outputs of one model. What depends on the model is worked out once.

    Args:
        metadata: The model's metadata.
        who: Who answered, for errors, by the URL of a response, which may be empty.
    """

    __slots__ = ("_dtypes", "_only", "_who")

    def __init__(
        self, metadata: ModelMetadata, who: Callable[[str], str] = lambda url: url or "the backend"
    ) -> None:
        self._who = who
        self._dtypes = {spec.name: spec.dtype.numpy_dtype for spec in metadata.outputs}
        self._only = next(iter(self._dtypes.items())) if len(self._dtypes) == 1 else None

    def select(self, outputs: Iterable[str] | None) -> tuple[str, ...] | None:
        """The outputs asked for, checked; None for all.

        Raises:
            InvalidInput: An unknown name, one twice, or none.
        """
        if outputs is None:
            return None
        if isinstance(outputs, (str, bytes)):
            raise InvalidInput(f"outputs= is a list of names: pass [{outputs!r}]")
        try:
            names = tuple(outputs)
        except TypeError as exc:
            raise InvalidInput("outputs= is a list of names") from exc
        for name in names:
            if not isinstance(name, str):
                raise InvalidInput(
                    f"outputs= is a list of names: a name is a str, not {type(name).__name__}"
                )
            if name not in self._dtypes:
                raise InvalidInput(
                    f"unknown output {name!r}; the model's outputs are {_listed(self._dtypes)}"
                )
        if not names or len(set(names)) != len(names):
            raise InvalidInput("outputs= names each output once, and at least one")
        return names

    def unpack(self, response: InferResponse) -> Array | tuple[Array, ...]:
        """The array of a model with one output; all arrays, in metadata order, of another.

        Raises:
            ProtocolError: One is missing, or not what the metadata says.
        """
        if self._only is None:
            return tuple([self._look_closer(name, response) for name in self._dtypes])
        name, dtype = self._only
        outputs = response.outputs
        # On the path of every call; a dict is what nearly all backends give.
        array = outputs.get(name) if type(outputs) is dict else None
        if type(array) is np.ndarray and array.dtype is dtype:
            return array
        return self._look_closer(name, response)

    def order(
        self, response: InferResponse, outputs: tuple[str, ...] | None, *, classes: bool = False
    ) -> dict[str, Array]:
        """The outputs of a response in the order asked for, or in metadata order.

        Args:
            response: The response.
            outputs: The names asked for; None for all.
            classes: Whether classes were asked for, which are BYTES.

        Raises:
            ProtocolError: One is missing, or not what the metadata says.
        """
        bytes_ = DataType.BYTES.numpy_dtype if classes else None
        return {name: self._look_closer(name, response, bytes_) for name in outputs or self._dtypes}

    def _look_closer(
        self, name: str, response: InferResponse, dtype: np.dtype[np.generic] | None = None
    ) -> Array:
        outputs: object = response.outputs
        who = self._who(response.backend_url)
        if not isinstance(outputs, Mapping):
            raise ProtocolError(
                f"the answer of {who} has a {type(outputs).__name__} for its outputs; expected a "
                "dict of arrays by name"
            )
        array: Any = outputs.get(name)
        if array is None:
            raise ProtocolError(
                f"the answer of {who} has no output {name!r}; it has {_listed(outputs) or 'none'}"
            )
        dtype = dtype or self._dtypes[name]
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise ProtocolError(
                f"the answer of {who} has the output {name!r} as {got}; the model's metadata says "
                f"an array of {dtype}"
            )
        return array


def _listed(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))
