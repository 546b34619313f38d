"""Pure: whether two backends serve the same model."""

from __future__ import annotations

from collections.abc import Sequence

from infer_backends._tensors import ModelMetadata, TensorSpec


def differences(expected: ModelMetadata, got: ModelMetadata) -> list[str]:
    """In what the inputs and outputs of two models differ; empty when either may stand in.

    Names in the same order, datatypes and ranks have to be the same, and dimensions too, where
    both are known: a -1 matches anything.
    """
    return [
        *_compare("input", expected.inputs, got.inputs),
        *_compare("output", expected.outputs, got.outputs),
    ]


def _compare(kind: str, expected: Sequence[TensorSpec], got: Sequence[TensorSpec]) -> list[str]:
    names, others = [spec.name for spec in expected], [spec.name for spec in got]
    if names != others:
        return [f"{kind}s are {names} and {others}"]
    return [
        f"{kind} {left.name!r} is {left.dtype}{list(left.shape)} "
        f"and {right.dtype}{list(right.shape)}"
        for left, right in zip(expected, got, strict=True)
        if left.dtype is not right.dtype or not _same_shape(left.shape, right.shape)
    ]


def _same_shape(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return len(left) == len(right) and all(
        a == b or -1 in (a, b) for a, b in zip(left, right, strict=True)
    )
