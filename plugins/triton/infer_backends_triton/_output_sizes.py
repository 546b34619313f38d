"""How many bytes each output of a call will have, from metadata and from earlier answers. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from infer_backends.plugin import Array, DataType, ModelMetadata, TensorSpec

_Key = tuple[tuple[str, tuple[int, ...]], ...]

# Callers whose shapes never repeat must not fill the memory.
_MAX_SHAPES = 256
_NONE: Mapping[str, int] = {}


class OutputSizes:
    """What is known of the sizes of one model's outputs. Safe for threads.

    Outputs of BYTES are left out: neither a shape nor an earlier answer says how long they are.

    Args:
        metadata: What the model says of itself.
        least: Sizes below this are not worth remembering, in bytes.
    """

    def __init__(self, metadata: ModelMetadata, least: int) -> None:
        self._least = least
        self._batching = metadata.max_batch_size > 0
        self._fixed: dict[str, int] = {}
        self._widest = 0
        self._per_row: dict[str, int] = {}
        self._varying: set[str] = set()
        for spec in metadata.outputs:
            self._classify(spec)
        self._learnt: dict[_Key, dict[str, int]] = {}

    def _classify(self, spec: TensorSpec) -> None:
        if spec.dtype is DataType.BYTES:
            return
        itemsize = spec.dtype.numpy_dtype.itemsize
        shape = spec.shape[1:] if self._batching else spec.shape
        if -1 in shape:
            self._varying.add(spec.name)
        elif self._batching:
            self._per_row[spec.name] = size = math.prod(shape) * itemsize
            self._widest = max(self._widest, size)
        elif (size := math.prod(shape) * itemsize) >= self._least:
            self._fixed[spec.name] = size

    def expect(self, inputs: Mapping[str, Array]) -> dict[str, int]:
        """The sizes of the outputs that will be large, as far as they are known, in bytes."""
        sizes = self._fixed.copy()
        if self._widest and inputs:
            rows = len(next(iter(inputs.values())))
            if rows * self._widest >= self._least:
                sizes |= {name: rows * size for name, size in self._per_row.items()}
        if self._learnt:
            sizes |= self._learnt.get(_key(inputs), _NONE)
        # Nothing is known to be large in most calls, and those take few steps.
        return {name: size for name, size in sizes.items() if size >= self._least} if sizes else {}

    def learn(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Take note of what a call's outputs turned out to be."""
        for name, array in outputs.items():
            if array.nbytes >= self._least and name in self._varying:
                self._note(_key(inputs), name, array.nbytes)

    def _note(self, key: _Key, name: str, size: int) -> None:
        known = self._learnt.get(key)
        if known is None:
            if len(self._learnt) >= _MAX_SHAPES:
                self._learnt = {}
            known = self._learnt[key] = {}
        before = known.get(name)
        if before is None:
            known[name] = size
        elif size > before:
            # The shapes alone do not decide it: leave room, so that it does not fail each time.
            known[name] = 2 * size


def _key(inputs: Mapping[str, Array]) -> _Key:
    return tuple([(name, array.shape) for name, array in inputs.items()])
