"""Linear models from NumPy files, for infer-backends: the scheme ``linear``."""

import numpy as np

from infer_backends.plugin import (
    Array,
    Backend,
    DataType,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelNotFound,
    ModelURL,
    OpenOptions,
    Option,
    ProtocolError,
    TensorSpec,
    hookimpl,
)

INFER_BACKENDS_API = 1

BLOCK = 1024  # rows that are multiplied before the deadline is looked at again


def read_weights(url: ModelURL) -> Array:
    """The array ``weights`` of the file that a URL names."""
    try:
        with np.load(url.require_path()) as arrays:
            weights: Array = arrays["weights"].astype(np.float32)
    except FileNotFoundError as exc:
        raise ModelNotFound(f"there is no file at {url.location!r}: check the path") from exc
    except Exception as exc:  # NumPy has many, for a file that is something else, or damaged
        raise ProtocolError(
            f"{url.location!r} is no model: expected an .npz file with numbers called 'weights'"
        ) from exc
    if weights.ndim != 2:
        raise ProtocolError(
            f"{url.location!r} is no model: expected weights of rank 2, got shape {weights.shape}"
        )
    return weights


class LinearBackend:
    """One open model: ``y = x @ weights + bias``."""

    def __init__(self, url: ModelURL, bias: float) -> None:
        self._url = str(url)
        self._weights = read_weights(url)
        self._bias = np.float32(bias)
        rows, columns = self._weights.shape
        self.metadata = ModelMetadata(
            name=url.require_path(),
            versions=(),
            platform="numpy",
            inputs=(TensorSpec("x", DataType.FP32, (-1, rows)),),
            outputs=(TensorSpec("y", DataType.FP32, (-1, columns)),),
        )

    def infer(self, request: InferRequest) -> InferResponse:
        """Multiply block by block, and no further than the deadline."""
        request.deadline.require("the multiplication")
        x = request.inputs["x"]
        y = np.empty((len(x), self._weights.shape[1]), np.float32)
        for start in range(0, len(x), BLOCK):
            if request.deadline.explicit:
                request.deadline.require("the last rows were multiplied")
            rows = slice(start, start + BLOCK)
            y[rows] = np.matmul(x[rows], self._weights) + self._bias
        return InferResponse({"y": y}, backend_url=self._url)

    def close(self) -> None:
        """Nothing is held that would have to be given back."""


@hookimpl
def infer_backends_open(url: ModelURL, options: OpenOptions) -> Backend:
    """Open the file that a ``linear:`` URL names."""
    return LinearBackend(url, options["bias"])


@hookimpl
def infer_backends_options() -> list[Option]:
    """What may stand after the ``?`` of a URL."""
    return [Option("bias", float, 0.0, "added to every output")]
