"""A fake that has the inputs and outputs of an ONNX file, so that it cannot drift from it."""

from __future__ import annotations

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.testing import REFERENCE_MODELS, FakeModel, FakePair, probe_now

MIXED = REFERENCE_MODELS["mixed"]


@pytest.mark.parametrize("url", [MIXED.onnx_file, f"onnx:{MIXED.onnx_file}"], ids=["path", "url"])
def test_a_fake_is_like_a_file(url: object) -> None:
    fake = FakeModel.like(url, "mixed-fake")  # type: ignore[arg-type] # either of the two
    assert fake.metadata.inputs == MIXED.inputs
    assert fake.metadata.outputs == MIXED.outputs
    assert fake.metadata.platform == "fake"


def test_a_real_local_model_answers_while_a_fake_server_is_down() -> None:
    image, codes = np.ones((2, 3), np.float32), np.array([1, 2])
    with FakeModel.like(MIXED.onnx_file, "server", compute=MIXED.compute) as server:
        with ib.open_model(f"{server.url} onnx:{MIXED.onnx_file}") as model:
            assert model.verify(timeout=60).agreed
            with server.down():
                for _ in range(6):
                    result = model.infer({"image": image, "codes": codes})
                    assert result.backend_url.startswith("onnx:")
            probe_now(model)
            result = model.infer({"image": image, "codes": codes})
            assert result.backend_url == server.url


def test_a_server_that_serves_an_old_model_is_refused() -> None:
    with FakePair.like(MIXED.onnx_file, "pair") as pair:
        pair.server.become(REFERENCE_MODELS["scalar"].onnx_file)
        with pytest.raises(ib.MetadataMismatch):
            ib.open_model(f"{pair.server.url} onnx:{MIXED.onnx_file}")
