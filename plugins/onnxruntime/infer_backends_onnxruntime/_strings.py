"""BYTES tensors: ``bytes`` on our side, ``str`` on onnxruntime's, whose strings are UTF-8.

onnxruntime would take the ``repr`` of a ``bytes`` object, silently.
"""

from __future__ import annotations

import numpy as np

from infer_backends.plugin import Array, InvalidInput


def decode(name: str, array: Array) -> Array:
    """An object array of ``str`` of the same shape, from one of ``bytes``.

    Raises:
        InvalidInput: An element is not UTF-8. The exception of the codec is not chained: it
            holds the text.
    """
    decoded = np.empty(array.size, dtype=object)
    index = 0
    try:
        for index, element in enumerate(array.ravel().tolist()):
            decoded[index] = element.decode()
    except UnicodeDecodeError:
        pass
    else:
        return decoded.reshape(array.shape)
    raise InvalidInput(
        f"element {index} (in C order) of the input {name!r} is not UTF-8; onnxruntime's strings "
        "are: send text, or another datatype for other bytes"
    )


def encode(array: Array) -> Array:
    """An object array of ``bytes`` of the same shape, from one of ``str``."""
    encoded = np.empty(array.size, dtype=object)
    for index, element in enumerate(array.ravel().tolist()):
        encoded[index] = element.encode()
    return encoded.reshape(array.shape)
