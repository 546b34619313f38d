"""A real MLServer, over both protocols: what it does otherwise than Triton, and how it fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    DataType,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    InvalidURL,
    Model,
    ModelNotFound,
    Unavailable,
    UnsupportedOperation,
    open_async_model,
    open_model,
)
from infer_backends.plugin import Array, Deadline, InferRequest
from infer_backends_triton import TritonRemoteModel
from tests.conftest import Protocol
from tests.servers.mlserver import MLServer
from tests.servers.mlserver_models import CONSTANTS
from tests.triton.endpoints import opened_at

IMAGE = np.arange(6, dtype=np.float32).reshape(2, 3)
CODES = np.array([1, 2])


@pytest.fixture
def mixed(mlserver: MLServer, protocol: Protocol) -> Iterator[Model]:
    with open_model(mlserver.url("mixed", protocol)) as model:
        yield model


def test_metadata_is_what_it_says_of_the_model_and_no_more(mixed: Model) -> None:
    metadata = mixed.metadata
    assert (metadata.name, metadata.versions, metadata.platform) == ("mixed", (), "")
    assert (metadata.max_batch_size, metadata.decoupled) == (0, False)


def test_a_url_without_a_model_lists_those_that_are_ready(
    mlserver: MLServer, protocol: Protocol
) -> None:
    with pytest.raises(InvalidURL, match="ready are 'batching', 'constants'") as caught:
        open_model(mlserver.url("", protocol))
    assert "'loading'" not in str(caught.value)


@pytest.mark.parametrize("path", ["nothing", "versions/versions/7", "mixed/versions/2"])
def test_a_model_or_version_that_it_does_not_have_is_not_found(
    mlserver: MLServer, protocol: Protocol, path: str
) -> None:
    with pytest.raises(ModelNotFound):
        open_model(mlserver.url(path, protocol))


@pytest.mark.parametrize("version", ["1", "2"])
def test_the_version_that_was_asked_for_answers(
    mlserver: MLServer, protocol: Protocol, version: str
) -> None:
    with open_model(mlserver.url(f"versions/versions/{version}", protocol)) as model:
        result = model.infer({"x": [1.5]})
        assert result["y"].tolist() == [1.5 * int(version)]
        assert result.model_version == version


def test_a_base_path_before_the_protocols_own_is_understood(
    mlserver: MLServer, protocol: Protocol
) -> None:
    with open_model(mlserver.url("v2/models/mixed", protocol)) as model:
        assert model.metadata.name == "mixed"


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("exception", InferenceFailed, "500|the model raised a plain exception"),
        ("missing", InferenceFailed, "the model misses a part of itself"),
        ("error", InvalidInput, "the model raised an InferenceError"),
    ],
)
def test_what_the_model_raises_is_an_error_and_does_no_harm(
    mlserver: MLServer, protocol: Protocol, kind: str, error: type[InferError], words: str
) -> None:
    with open_model(mlserver.url("failing", protocol)) as model:
        with pytest.raises(error, match=words) as caught:
            model([kind])
        assert type(caught.value) is error
        assert model(["nothing"]).tolist() == [b"nothing"]


def test_what_it_refuses_in_a_request_is_named_without_what_was_sent(mlserver: MLServer) -> None:
    with open_model(mlserver.url("mixed")) as model:
        with pytest.raises(InvalidInput, match=r"422.*parameters\.content_type: ") as caught:
            model.infer({"image": IMAGE, "codes": CODES}, parameters={"content_type": 98765})
    assert "98765" not in str(caught.value)


def test_a_model_that_it_is_still_loading_is_unavailable(
    mlserver: MLServer, protocol: Protocol
) -> None:
    with open_model(mlserver.url("loading", protocol)) as model:
        with pytest.raises(Unavailable, match="is not ready yet") as caught:
            model.infer({"x": [1.0]}, timeout=5)
    assert caught.value.attempts[0].error.unprocessed


def test_a_model_that_is_not_described_is_refused_with_what_to_declare(
    mlserver: MLServer, protocol: Protocol
) -> None:
    with pytest.raises(UnsupportedOperation, match=r"'undeclared'.*model-settings\.json"):
        open_model(mlserver.url("undeclared", protocol))


def test_a_call_ends_at_its_deadline_and_the_next_is_answered(
    mlserver: MLServer, protocol: Protocol
) -> None:
    with open_model(mlserver.url("delayed", protocol)) as model:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            model.infer({"x": [1.0], "seconds": [30.0]}, timeout=0.2)
        assert time.monotonic() - started < 10
        assert model([2.5], [0.0]).tolist() == [2.5]


def test_readiness_and_metadata_are_asked_of_the_model(
    mlserver: MLServer, protocol: Protocol
) -> None:
    for name, ready in (("mixed", True), ("loading", False)):
        with opened_at(mlserver.url(name, protocol)) as backend:
            assert backend.ready(Deadline.after(10)) is ready
            assert backend.describe(Deadline.after(10)) == backend.metadata


def test_batches_that_it_makes_of_several_calls_come_apart_again(
    mlserver: MLServer, protocol: Protocol
) -> None:
    found: dict[int, Any] = {}
    with open_model(mlserver.url("batching", protocol)) as model:

        def call(value: int) -> None:
            found[value] = model([[value] * 3])

        threads = [threading.Thread(target=call, args=(value,)) for value in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for value, (y, rows) in found.items():
        assert y.tolist() == [[value] * 3]
        assert rows.tolist() == [4]
    assert len(found) == 4


def test_outputs_come_in_metadata_order_without_those_that_nobody_knows(
    mlserver: MLServer, protocol: Protocol
) -> None:
    with open_model(mlserver.url("reordered", protocol)) as model:
        a, b = model([1.0, 2.0])
        assert (a.tolist(), b.tolist()) == ([1.0, 2.0], [2.0, 4.0])
        only = model.infer({"x": [1.0]}, outputs=["b"])
        assert {name: array.tolist() for name, array in only.items()} == {"b": [2.0]}


def test_every_datatype_comes_as_json_and_as_typed_contents(
    mlserver: MLServer, protocol: Protocol
) -> None:
    """Over gRPC it answers raw tensors to raw ones only, and this model takes none."""
    with open_model(mlserver.url("constants", protocol)) as model:
        result = model.infer({})
    assert list(result) == [datatype.lower() for datatype in CONSTANTS]
    for datatype, expected in CONSTANTS.items():
        array = result[datatype.lower()]
        assert array.dtype == DataType(datatype).numpy_dtype
        if datatype == "BYTES":
            expected = [text.encode() for text in expected]
        assert array.tolist() == expected


def test_an_output_of_nan_is_an_error_and_never_another_value(mlserver: MLServer) -> None:
    """It writes null for NaN and infinities alike, and cannot pack that for gRPC."""
    with open_model(mlserver.url("roots", "http")) as model:
        assert model([[4.0]]).tolist() == [[2.0]]
        with pytest.raises(UnsupportedOperation, match="'y' is FP32 and has null"):
            model([[4.0, -1.0]])
    with open_model(mlserver.url("roots", "grpc")) as model:
        assert model([[np.inf]]).tolist() == [[np.inf]]
        with pytest.raises(InferenceFailed):
            model([[-1.0]])


def test_a_scalar_goes_and_comes(mlserver: MLServer, protocol: Protocol) -> None:
    with open_model(mlserver.url("scalar", protocol)) as model:
        assert model(0.1).shape == ()
        assert model(0.1) == 0.1


def test_the_id_of_a_request_is_that_of_its_result(mixed: Model) -> None:
    result = mixed.infer({"image": IMAGE, "codes": CODES}, request_id="r-1")
    assert result.request_id == "r-1"


def test_shared_memory_that_is_insisted_on_is_refused(
    mlserver: MLServer, protocol: Protocol
) -> None:
    with pytest.raises(UnsupportedOperation, match="shared_memory"):
        open_model(mlserver.url("mixed", protocol), shared_memory="system")


def test_what_a_call_may_ask_of_triton_alone_is_refused_before_it_is_sent(mixed: Model) -> None:
    inputs = {"image": IMAGE, "codes": CODES}
    with pytest.raises(UnsupportedOperation, match="priority"):
        mixed.infer(inputs, priority=1)
    with pytest.raises(UnsupportedOperation, match="sequence"), mixed.sequence() as step:
        step(IMAGE, CODES)
    assert mixed.infer(inputs, top_k=1)["copied"].tolist() == [b"2:1"], "the core ranks"


def test_grpc_compresses_and_http_has_no_way_to_ask_for_it(mlserver: MLServer) -> None:
    inputs = {"image": IMAGE, "codes": CODES}
    with open_model(mlserver.url("mixed", "grpc")) as model:
        assert model.infer(inputs, compression="gzip")["copied"].tolist() == CODES.tolist()
    with open_model(mlserver.url("mixed", "http")) as model:
        with pytest.raises(UnsupportedOperation, match="compression"):
            model.infer(inputs, compression="gzip")


def test_a_stream_is_refused_since_its_metadata_does_not_say_that_a_model_streams(
    mixed: Model,
) -> None:
    with pytest.raises(UnsupportedOperation, match="not decoupled"):
        list(mixed.stream({"image": IMAGE, "codes": CODES}))


def test_a_message_over_its_limit_is_refused_by_grpc_and_taken_by_http(mlserver: MLServer) -> None:
    large = np.ones((1, 5 << 20), np.uint8)
    with open_model(mlserver.url("identity_uint8", "grpc")) as model:
        with pytest.raises(InvalidInput, match="larger than max"):
            model(large)
    with open_model(mlserver.url("identity_uint8", "http")) as model:
        assert model(large).sum() == large.size


def test_the_drop_in_works_without_what_triton_alone_has(
    mlserver: MLServer, protocol: Protocol
) -> None:
    with TritonRemoteModel(mlserver.url("", protocol)) as model:
        assert model.output_names
    with TritonRemoteModel(mlserver.url("mixed", protocol)) as model:
        assert (model.metadata, model.output_names) == (None, ["again", "copied", "scaled"])
        again, copied, scaled = model(IMAGE, CODES.astype(np.float32))
    assert again.tolist() == scaled.tolist() == (IMAGE * 2).tolist()
    assert copied.tolist() == CODES.tolist()


def test_a_model_of_event_loops_gives_what_one_of_threads_gives(
    mlserver: MLServer, protocol: Protocol
) -> None:
    async def main() -> None:
        async with await open_async_model(mlserver.url("mixed", protocol)) as model:
            scaled, copied, _ = await model(IMAGE, CODES)
            assert scaled.tolist() == (IMAGE * 2).tolist()
            assert copied.tolist() == CODES.tolist()
            with pytest.raises(InvalidInput):
                await model(IMAGE)

    asyncio.run(main())


def test_backends_answer_in_event_loops_themselves(mlserver: MLServer, protocol: Protocol) -> None:
    def request(seconds: float, timeout: float) -> InferRequest:
        inputs: dict[str, Array] = {
            "x": np.ones(2, np.float32),
            "seconds": np.array([seconds], np.float32),
        }
        return InferRequest(inputs, None, Deadline.after(timeout))

    async def main() -> None:
        answers = await asyncio.gather(*(backend.infer_async(request(0, 20)) for _ in range(8)))
        assert [answer.outputs["y"].tolist() for answer in answers] == [[1.0, 1.0]] * 8
        with pytest.raises(DeadlineExceeded):
            await backend.infer_async(request(30, 0.2))
        await backend.close_async()

    with opened_at(mlserver.url("delayed", protocol)) as backend:
        asyncio.run(main())
