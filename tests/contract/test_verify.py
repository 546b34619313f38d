"""Real members of one model are verified and warmed up, each by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from infer_backends import MemberState, Unavailable, open_model
from infer_backends.testing import REFERENCE_MODELS
from infer_backends_triton._local import LocalTriton

# Triton serves these files by onnxruntime, which has no BF16 in Python, and a scalar as a vector of
# one, since its configurations know no rank 0. And two models don't take just any input.
NAMES = sorted(set(REFERENCE_MODELS) - {"identity_bf16", "scalar", "reshaped", "slow"})


@pytest.mark.parametrize("name", NAMES)
def test_the_same_file_served_and_local_agrees_on_made_up_inputs(
    name: str, reference_triton: LocalTriton, reference_folder: Path
) -> None:
    urls = [
        f"{reference_triton.http_url}/{name}",
        f"{reference_triton.grpc_url}/{name}",
        str(reference_folder / f"{name}.onnx"),
    ]
    with open_model(urls) as model:
        found = model.verify()
        assert found, str(found)
        assert [member.url.split(":")[0] for member in found.members] == ["http", "grpc", "onnx"]
        assert [member.differences for member in found.members] == [(), (), ()]


def test_a_member_that_is_down_is_reported_and_the_others_are_compared(
    reference_triton: LocalTriton, reference_folder: Path
) -> None:
    name = NAMES[0]
    down = f"http://127.0.0.1:9/{name}"
    urls = [down, f"{reference_triton.grpc_url}/{name}", str(reference_folder / f"{name}.onnx")]
    with open_model(urls, timeout=20) as model:
        found = model.verify()
        states = [member.state for member in model.status().members]
    assert not found
    assert found.members[0].url == down
    assert isinstance(found.members[0].error, Unavailable)
    assert [member.error for member in found.members[1:]] == [None, None]
    assert states[0] is MemberState.DOWN


def test_warming_up_loads_a_member_that_waits_to_be_needed(
    reference_triton: LocalTriton, reference_folder: Path
) -> None:
    name = NAMES[0]
    urls = [f"{reference_triton.http_url}/{name}", str(reference_folder / f"{name}.onnx")]
    with open_model(urls) as model:
        assert model.status().members[1].state is MemberState.UNOPENED
        assert model.warmup()
        assert model.status().members[1].state is MemberState.READY
