"""Pure: the arguments of a call -> checked, coerced, named arrays."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from infer_backends._backend import Array
from infer_backends._coercion import Coerce, coerce_array
from infer_backends._errors import InvalidInput
from infer_backends._tensors import DataType, ModelMetadata, TensorSpec


class Binder:
    """Binds arguments to the inputs of one model. What depends on the model is worked out once.

    Args:
        metadata: The model's metadata.
        coerce: How far values may be converted; see :func:`infer_backends.open_model`.
    """

    __slots__ = ("_batching", "_coerce", "_exact", "_inputs", "_only", "_required", "_specs")

    def __init__(self, metadata: ModelMetadata, coerce: Coerce = "lossless") -> None:
        self._inputs = metadata.inputs
        self._specs = {spec.name: spec for spec in metadata.inputs}
        self._required = [spec.name for spec in metadata.inputs if not spec.optional]
        self._batching = metadata.max_batch_size > 0
        self._coerce = coerce
        self._exact = [_Exact(spec) for spec in metadata.inputs]
        self._only = self._exact[0] if len(self._exact) == 1 else None

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Array]:
        """The arrays of ``model(*args, **kwargs)``, by input name, in metadata order.

        Raises:
            InvalidInput: Wrong count, names, rank, dimensions or dtype.
        """
        only = self._only
        if only is not None and len(args) == 1 and not kwargs and only.fits(args[0]):
            # Most calls, in as few steps as can be.
            return {only.name: args[0]}
        if not kwargs:
            bound = self.bind_exact(args)
            if bound is not None:
                return bound
        elif args:
            raise InvalidInput(
                "inputs are given by position or by name, not both; options such as timeout= "
                "go to model.infer({...}, timeout=...)"
            )
        if len(args) == 1 and isinstance(args[0], Mapping):
            return self.bind_mapping(args[0])
        if args:
            return self.bind_mapping(self._by_position(args))
        return self.bind_mapping(kwargs)

    def of_rows(self, metadata: ModelMetadata) -> Binder:
        """A binder of samples: of the same inputs without their first axis."""
        rows = tuple(replace(spec, shape=spec.shape[1:]) for spec in metadata.inputs)
        return Binder(replace(metadata, inputs=rows, max_batch_size=0), self._coerce)

    def bind_exact(self, args: Sequence[Any]) -> dict[str, Array] | None:
        """The common call, in one pass: every input is there, and an array that fits as it is.

        None for any other call, wrong ones among them, which takes the longer way.
        """
        if len(args) != len(self._exact):
            return None
        only = self._only
        if only is not None:
            return {only.name: args[0]} if only.fits(args[0]) else None
        bound = {}
        for value, exact in zip(args, self._exact, strict=True):
            if not exact.fits(value):
                return None
            bound[exact.name] = value
        if self._batching:
            _check_rows(bound)
        return bound

    def bind_mapping(self, given: Mapping[str, Any]) -> dict[str, Array]:
        """The arrays of ``model.infer(given)``, by input name, in metadata order.

        Raises:
            InvalidInput: Wrong names, rank, dimensions or dtype, or no mapping.
        """
        if not isinstance(given, Mapping):
            raise InvalidInput(
                f"expected a mapping from input names to arrays, got {type(given).__name__}; "
                f"pass {{{self._example()!r}: x}}, or call model(x)"
            )
        self._check_names(given)
        bound = {
            spec.name: bind_one(given[spec.name], spec, self._coerce)
            for spec in self._inputs
            if spec.name in given
        }
        if self._batching and len(bound) > 1:
            _check_rows(bound)
        return bound

    def _by_position(self, args: Sequence[Any]) -> dict[str, Any]:
        if not len(self._required) <= len(args) <= len(self._inputs):
            missing = ", ".join(map(repr, self._required[len(args) :]))
            raise InvalidInput(
                f"expected {self._expected_count()}, got {len(args)}"
                f"{f': {missing} is missing' if missing else ''}; the model's inputs are "
                f"{_listed(self._inputs) or 'none'}"
            )
        return {spec.name: value for spec, value in zip(self._inputs, args, strict=False)}

    def _expected_count(self) -> str:
        least, most = len(self._required), len(self._inputs)
        count = str(most) if least == most else f"{least} to {most}"
        return f"{count} input{'' if most == 1 else 's'}"

    def _check_names(self, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in self._specs:
                import difflib

                near = difflib.get_close_matches(str(name), self._specs, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise InvalidInput(
                    f"unknown input {name!r}; the model's inputs are "
                    f"{_listed(self._inputs) or 'none'}{hint}"
                )
        missing = [name for name in self._required if name not in given]
        if missing:
            raise InvalidInput(
                f"missing input {', '.join(map(repr, missing))}; expected "
                f"{self._expected_count()}, got {len(given)}; the model's inputs are "
                f"{_listed(self._inputs)}"
            )

    def _example(self) -> str:
        return self._inputs[0].name if self._inputs else "name"


class _Exact:
    """What an array has to be so that nothing has to be done with it."""

    __slots__ = ("_dtype", "_fixed", "_rank", "name")

    def __init__(self, spec: TensorSpec) -> None:
        self.name = spec.name
        # Every element of a BYTES tensor has to be looked at: none fits.
        self._dtype = None if spec.dtype is DataType.BYTES else spec.dtype.numpy_dtype
        self._rank = len(spec.shape)
        self._fixed = [(axis, size) for axis, size in enumerate(spec.shape) if size != -1]

    def fits(self, value: object) -> bool:
        """Whether ``value`` can be sent as it is."""
        if (
            type(value) is not np.ndarray
            or value.dtype is not self._dtype
            or value.ndim != self._rank
            or not value.flags.c_contiguous
        ):
            return False
        if self._fixed:
            shape = value.shape
            for axis, size in self._fixed:
                if shape[axis] != size:
                    return False
        return True


def bind_one(value: Any, spec: TensorSpec, coerce: Coerce) -> Array:
    """One argument as an array that fits ``spec``.

    Raises:
        InvalidInput: Wrong rank, dimensions or dtype.
    """
    array = coerce_array(value, spec, coerce)
    if not _fits(array.shape, spec.shape):
        raise InvalidInput(
            f"input {spec.name!r}: expected shape {spec.shape}, got {array.shape}"
            f"{_shape_hint(array.shape, spec)}"
        )
    return array


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(
        want in (-1, got) for want, got in zip(wanted, shape, strict=True)
    )


def _shape_hint(shape: tuple[int, ...], spec: TensorSpec) -> str:
    wanted = spec.shape
    if _fits((1, *shape), wanted) and not (len(shape) == 1 and wanted[1] == 1):
        return "; missing batch axis? pass x[None]" if shape else "; a single value? pass [x]"
    if _fits((*shape, 1), wanted):
        return "; a column of single values? pass x[..., None]"
    if shape[:1] == (1,) and _fits(shape[1:], wanted):
        return "; one axis too many? pass x[0]"
    if len(shape) == len(wanted) <= 5:
        for axes in itertools.permutations(range(len(shape))):
            if _fits([shape[axis] for axis in axes], wanted):
                return f"; axes in another order? pass x.transpose{axes}"
    if len(shape) != len(wanted):
        return f"; the rank should be {len(wanted)}, not {len(shape)}"
    return "; -1 stands for any length"


def _check_rows(bound: Mapping[str, Array]) -> None:
    rows = {name: array.shape[0] for name, array in bound.items() if array.ndim}
    if len(set(rows.values())) > 1:
        described = ", ".join(f"{name!r} has {count}" for name, count in rows.items())
        raise InvalidInput(f"all inputs need the same number of rows (first axis): {described}")


def _listed(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items)
