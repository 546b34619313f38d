"""The reference models of the suite for plugins, as fakes that are always there."""

from __future__ import annotations

from infer_backends.plugin import ModelMetadata
from infer_backends.testing._fake import PLATFORM, Fake
from infer_backends.testing._reference import REFERENCE_MODELS


def reference_fake(name: str) -> Fake | None:
    """A fake of the reference model of that name; None if there is none."""
    reference = REFERENCE_MODELS.get(name)
    if reference is None:
        return None
    metadata = ModelMetadata(name, ("1",), PLATFORM, reference.inputs, reference.outputs)
    return Fake(metadata, reference.compute)
