"""Pure: whether an answer is one of the model that it should be of."""

from __future__ import annotations

from infer_backends._backend import InferResponse
from infer_backends._request_options import RequestOptions
from infer_backends._tensors import ModelMetadata


class Likeness:
    """What the outputs of a model look like; worked out once.

    Args:
        metadata: What the members of the model agree on.
    """

    __slots__ = ("_expected",)

    def __init__(self, metadata: ModelMetadata) -> None:
        # An empty shape is a scalar's, or not known (an ONNX file need not declare one).
        self._expected = tuple(
            (
                spec.name,
                spec.dtype.numpy_dtype,
                len(spec.shape),
                tuple((axis, size) for axis, size in enumerate(spec.shape) if size != -1),
            )
            for spec in metadata.outputs
        )

    def of(self, response: InferResponse, options: RequestOptions | None = None) -> bool:
        """Whether datatypes, ranks and known dimensions of the outputs are the model's.

        An output that is not there may not have been asked for; nothing is known of classes, which
        stand in the place of outputs.
        """
        if options is not None and options.top_k is not None:
            return True
        try:
            return self._fit(response)
        except AttributeError:  # no arrays, or not by name
            return False

    def _fit(self, response: InferResponse) -> bool:
        outputs = response.outputs
        for name, dtype, rank, sizes in self._expected:
            array = outputs.get(name)
            if array is None:
                continue
            if array.dtype is not dtype and array.dtype != dtype:
                return False
            if rank:
                if array.ndim != rank:
                    return False
                for axis, size in sizes:
                    if array.shape[axis] != size:
                        return False
        return True
