"""What the contract says of arrays holds for batches that are split, too, whatever way they go."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import trustme

from infer_backends import DataType, InvalidInput, Model, open_model
from infer_backends.testing._values import assert_same, values
from infer_backends_triton import LocalTriton, _shared_memory
from tests.servers.tls import tls_proxy

#: Opens the model of a name.
Open = Callable[[str], Model]


@pytest.fixture(scope="session")
def https(
    one_by_one_triton: LocalTriton, authority: trustme.CA, ca_option: str
) -> Iterator[Callable[[str], str]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with tls_proxy(one_by_one_triton.ports.http, context) as port:
        yield lambda name: f"https://localhost:{port}/{name}?{ca_option}"


@pytest.fixture(params=["http", "grpc", "https", "http by regions", "grpc by regions"])
def open_split(
    request: pytest.FixtureRequest,
    one_by_one_triton: LocalTriton,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Open]:
    protocol, _, regions = request.param.partition(" by ")
    if regions:
        # Every tensor that can goes by shared memory, and it is an error if that fails.
        monkeypatch.setattr(_shared_memory, "THRESHOLD", 1)
    opened: list[Model] = []

    def open_it(name: str) -> Model:
        if protocol == "https":
            url = request.getfixturevalue("https")(name)
        else:
            base = {"http": one_by_one_triton.http_url, "grpc": one_by_one_triton.grpc_url}
            url = f"{base[protocol]}/{name}?shared_memory={'system' if regions else 'off'}"
        opened.append(open_model(url))
        assert opened[-1].metadata.max_batch_size == 1
        return opened[-1]

    yield open_it
    for model in opened:
        model.close()


@pytest.mark.parametrize("dtype", list(DataType), ids=str)
def test_every_datatype_comes_back_as_it_went(open_split: Open, dtype: DataType) -> None:
    model = open_split(f"identity_{dtype.value.lower()}")
    array = values(dtype)
    for part in (array, array[:, :0], array[:1], np.tile(array, (5, 1))):
        assert_same(model(part), part)
    with pytest.raises(InvalidInput, match="no rows"):
        model(array[:0])


@pytest.mark.parametrize("dtype", list(DataType), ids=str)
def test_strides_and_byte_order_do_not_matter(open_split: Open, dtype: DataType) -> None:
    model = open_split(f"identity_{dtype.value.lower()}")
    array = values(dtype)
    variants = [array.T, array[:, ::-1], array[::-1], np.asfortranarray(array)]
    if dtype not in {DataType.BYTES, DataType.BF16}:
        variants.append(array.astype(array.dtype.newbyteorder(">")))
    for variant in variants:
        assert_same(model(variant), variant.astype(dtype.numpy_dtype))


@pytest.mark.parametrize("dtype", list(DataType), ids=str)
def test_outputs_belong_to_the_caller(open_split: Open, dtype: DataType) -> None:
    model = open_split(f"identity_{dtype.value.lower()}")
    array = values(dtype)
    before = array.copy()
    first, second = model(array), model(array)
    for output in (first, second):
        assert output.flags.writeable
        assert output.flags.c_contiguous
        assert output.dtype.isnative
        assert not np.shares_memory(output, array)
    first[...] = first[0, 0]
    assert_same(array, before)
    assert_same(second, before)


def test_large_batches_of_several_threads_do_not_mix(open_split: Open) -> None:
    model = open_split("identity_fp32")
    wrong: list[object] = []

    def call(value: int) -> None:
        # 400 KB in each row.
        batch = np.arange(900_000, dtype=np.float32).reshape(9, -1) + value
        try:
            wrong.extend(
                "another answer" for _ in range(3) if not np.array_equal(model(batch), batch)
            )
        except Exception as exc:  # noqa: BLE001 - shown by the assert
            wrong.append(exc)

    threads = [threading.Thread(target=call, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
