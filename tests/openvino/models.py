"""Small models, each made for one behaviour, as OpenVINO has them in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops


def parameter(name: str | None, dtype: Any = np.float32, shape: Any = (-1,)) -> Any:
    """An input; one without a name has none for its tensor either."""
    node = ops.parameter(ov.PartialShape(shape), dtype)
    if name is not None:
        node.set_friendly_name(name)
        node.output(0).set_names({name})
    return node


def result(node: Any, *names: str) -> Any:
    """An output, whose tensor has these names."""
    made = ops.result(node)
    made.output(0).add_names(set(names))
    return made


def chain(operators: int = 60, size: int = 1024) -> ov.Model:
    """``y`` is ``x`` times a matrix, so many times, for a second or so: with places to stop at."""
    x = parameter("x", shape=(size, size))
    weights = ops.constant(np.full((size, size), 1 / size, np.float32))
    node = x
    for _ in range(operators):
        node = ops.tanh(ops.matmul(node, weights, False, False))
    return ov.Model([result(node, "y")], [x], "chain")


def counter() -> ov.Model:
    """``total`` is ``x`` and all that was given before, while a request keeps its state."""
    x = parameter("x", shape=(1,))
    read = ops.read_value(ops.constant(np.zeros(1, np.float32)), "total", np.float32, [1])
    total = ops.add(read, x)
    return ov.Model([result(total, "total")], [ops.assign(total, "total")], [x], "counter")


def aliases() -> ov.Model:
    """Outputs that are one value under many names: the input, a constant, and views of them."""
    x = parameter("x", shape=(-1, 4))
    weight = ops.constant(np.ones((1, 4), np.float32))
    flat = ops.reshape(x, ops.constant(np.array([-1])), False)
    outputs = [
        result(x, "same"),
        result(x, "again"),
        result(flat, "view"),
        result(weight, "weight"),
        result(weight, "copy"),
    ]
    return ov.Model(outputs, [x], "aliases")


def doubled(dtype: Any, shape: Any = (-1,)) -> ov.Model:
    """``y`` is ``x`` and ``x``."""
    x = parameter("x", dtype, shape)
    return ov.Model([result(ops.add(x, x), "y")], [x], "doubled")
