"""TritonRemoteModel, in both of its forms, against a real Triton."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import trustme

import infer_backends_triton
from infer_backends.plugin import (
    DataType,
    DeadlineExceeded,
    InferError,
    InvalidInput,
    InvalidURL,
    ModelClosed,
    ModelNotFound,
    Unavailable,
)
from infer_backends_triton import LocalTriton, TritonRemoteModel
from infer_backends_triton._remote_model import read_mapping, resolve_url
from tests.servers import repository
from tests.triton.grpc_fakes import ONE_OUT, Tensors, fake_server, respond

URL = Callable[..., str]
Protocol = str

B = np.array([[1, 2, 3, 4]], np.int32)
A = np.array([[4, 4, 4, 4]], np.int32)


@pytest.fixture(scope="module")
def lone(
    triton_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalTriton]:
    """A server of one model, ``add_sub``."""
    models = repository.write_repository(tmp_path_factory.mktemp("lone") / "m", only=["add_sub"])
    with LocalTriton(models, environment=triton_environment) as server:
        yield server


def base_url(server: LocalTriton, protocol: Protocol) -> str:
    return server.http_url if protocol == "http" else server.grpc_url


def test_with_a_model_outputs_are_sorted_and_cast_to_the_first_inputs_dtype(
    triton_url: URL, protocol: Protocol
) -> None:
    with TritonRemoteModel(triton_url("add_sub", protocol)) as model:
        outputs = model(B.astype(np.float64), A)
        assert type(outputs) is list
        difference, total = outputs
        assert total.dtype == difference.dtype == np.float64
        assert total.tolist() == (B + A).tolist()
        assert difference.tolist() == (B - A).tolist()
        assert (model.input_names, model.output_names) == (["b", "a"], ["difference", "sum"])
        assert model.input_formats == ["TYPE_INT32", "TYPE_INT32"]
        assert model.np_input_formats == [np.int32, np.int32]
        assert model.endpoint == "add_sub"
        assert model.metadata is None
        assert "add_sub" in repr(model)


def test_the_first_input_decides_even_when_it_is_a_list(triton_url: URL) -> None:
    with TritonRemoteModel(triton_url("add_sub", "grpc")) as model:
        for output in model(B.tolist(), A.astype(np.uint8)):
            assert output.dtype == np.asarray([1]).dtype


def test_host_endpoint_and_scheme_may_be_given_apart(
    triton: LocalTriton, protocol: Protocol
) -> None:
    address = base_url(triton, protocol).partition("//")[2]
    for url in (address, f"{protocol}://{address}"):
        with TritonRemoteModel(url, endpoint="parameters", scheme=protocol) as model:
            assert model.url == address
            (output,) = model(np.array([1, 2], np.uint8))
            assert output.dtype == np.uint8
            assert model.metadata == {
                "names": {"0": "cat", "1": "dog"},
                "imgsz": [640, 640],
                "task": "detect",
            }


def test_without_a_model_the_first_of_the_repository_is_taken(
    lone: LocalTriton, protocol: Protocol
) -> None:
    with TritonRemoteModel(base_url(lone, protocol)) as model:
        assert model.endpoint == "add_sub"
        assert model.runtime == "python"
        by_position = model(B, A)
        by_name = model(a=A, b=B)
        assert type(by_position) is list
        for outputs in (by_position, by_name):
            assert [output.tolist() for output in outputs] == [(B + A).tolist(), (B - A).tolist()]
            assert {output.dtype for output in outputs} == {np.dtype(np.int32)}
        assert model.output_names == ["sum", "difference"]
        assert model.metadata is not None
        assert model.metadata["inputs"][0] == {"name": "b", "datatype": "INT32", "shape": [-1, 4]}


def test_without_a_model_one_output_comes_alone(
    triton: LocalTriton, triton_repository: Path, protocol: Protocol
) -> None:
    """Of several models the first that is ready is taken, and these are in order of name."""
    with TritonRemoteModel(base_url(triton, protocol)) as model:
        assert model.endpoint == min(folder.name for folder in triton_repository.iterdir())
    index = _index([("off", "UNAVAILABLE"), ("m", "READY"), ("n", "READY")])
    with fake_server(answers={"RepositoryIndex": index}) as server:
        with TritonRemoteModel(f"grpc://127.0.0.1:{server.port}") as model:
            assert model.endpoint == "m"
            output = model([1, 2])
            assert type(output) is np.ndarray
            assert output.dtype == np.float32


def test_a_server_where_nothing_is_ready_has_no_model() -> None:
    with fake_server(answers={"RepositoryIndex": _index([("m", "LOADING")])}) as server:
        with pytest.raises(ModelNotFound):
            TritonRemoteModel(f"grpc://127.0.0.1:{server.port}")


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "No inputs provided."),
        ((B,), {"a": A}, "Cannot specify args and kwargs at the same time"),
        ((B,), {}, "Expected 2 inputs, got 1."),
        ((B, A, A), {}, "Expected 2 inputs, got 3."),
        ((), {"a": A}, "Expected 2 inputs, got 1."),
    ],
)
def test_a_wrong_number_of_inputs_is_a_runtime_error_with_these_words(
    lone: LocalTriton, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    for url in (lone.grpc_url, f"{lone.http_url}/add_sub"):
        with TritonRemoteModel(url) as model, pytest.raises(RuntimeError) as caught:
            model(*args, **kwargs)
        assert str(caught.value) == text
        assert isinstance(caught.value, InvalidInput)


def test_names_that_the_model_does_not_have_are_invalid_input(lone: LocalTriton) -> None:
    with TritonRemoteModel(lone.grpc_url) as model:
        with pytest.raises(InvalidInput, match=r"'b', 'a'.*\['c'\].*\['a'\]"):
            model(b=B, c=A)


def test_optional_inputs_may_be_left_out(triton_url: URL, protocol: Protocol) -> None:
    with TritonRemoteModel(triton_url("optional", protocol)) as model:
        assert model([1.0, 2.0])[0].tolist() == [1, 2]
        assert model([1.0, 2.0], [10])[0].tolist() == [11, 12]
        assert model(INPUT=[1.0], BIAS=[1])[0].tolist() == [2]


@pytest.mark.parametrize("dtype", [dtype for dtype in DataType if dtype is not DataType.BYTES])
def test_every_datatype_of_numbers_is_cast_both_ways(
    triton_url: URL, protocol: Protocol, dtype: DataType
) -> None:
    with TritonRemoteModel(triton_url(f"identity_{dtype.value.lower()}", protocol)) as model:
        assert model.np_input_formats == [dtype.numpy_dtype.type]
        assert model.input_formats == [f"TYPE_{dtype.value}"]
        for given in (np.int64, np.float16, np.dtype(">i4"), ml_dtypes.bfloat16):
            (output,) = model(np.array([[0, 1, 1]]).astype(given))
            assert output.dtype == np.dtype(given)
            assert output.astype(int).tolist() == [[0, 1, 1]]


def test_strings_go_as_they_are_and_come_as_bytes(triton_url: URL, protocol: Protocol) -> None:
    with TritonRemoteModel(triton_url("identity_bytes", protocol)) as model:
        assert model.input_formats == ["TYPE_STRING"]
        assert model.np_input_formats == [np.object_]
        for strings in ([["a", "ü🙂"]], [[b"a", "ü🙂"]], np.array([["a", "ü🙂"]], object)):
            (output,) = model(strings)
            assert output.tolist() == [[b"a", "ü🙂".encode()]]


class NoArray:
    def __array__(self, *_: object, **__: object) -> None:
        raise KeyError("no array after all")


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((1, 4), complex),
        np.zeros((1, 4), "datetime64[s]"),
        np.zeros((1, 4), "i4,i4"),
        [["a"] * 4],
        [[1, 2, 3, None]],
        [[1, 2, 3, 4], [1]],
        None,
        NoArray(),
        np.zeros((1, 3), np.int32),
        np.zeros(4, np.int32),
        3,
    ],
)
def test_what_no_cast_makes_fit_is_invalid_input(triton_url: URL, value: Any) -> None:
    with TritonRemoteModel(triton_url("add_sub", "grpc")) as model:
        with pytest.raises(InvalidInput, match="input 'b'"):
            model(value, A)


@pytest.mark.parametrize("value", [[[1]], [[None]], [["\ud800"]]])
def test_what_is_no_string_is_invalid_input(triton_url: URL, value: Any) -> None:
    with TritonRemoteModel(triton_url("identity_bytes", "grpc")) as model:
        with pytest.raises(InvalidInput, match="input 'INPUT'"):
            model(value)


def test_tritonclients_own_classes_are_there(triton_url: URL, protocol: Protocol) -> None:
    with TritonRemoteModel(triton_url("identity_1d", protocol)) as model:
        x = np.array([1, 2], np.float32)
        tensor = model.InferInput("INPUT", x.shape, "FP32")
        tensor.set_data_from_numpy(x)
        wanted = [model.InferRequestedOutput("OUTPUT")]
        client = model.triton_client
        answer = client.infer(model.endpoint, inputs=[tensor], outputs=wanted)
        assert answer.as_numpy("OUTPUT").tolist() == [1, 2]
        assert model.triton_client is client
        assert protocol in type(client).__module__


def test_threads_share_one_model(triton_url: URL, protocol: Protocol) -> None:
    with TritonRemoteModel(triton_url("identity_1d", protocol)) as model:

        def call(number: int) -> bool:
            return bool(model([float(number)])[0].tolist() == [number])

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(call, range(100)))


def test_a_call_ends_in_time(triton_url: URL, protocol: Protocol) -> None:
    with TritonRemoteModel(triton_url("slow", protocol), timeout=0.5) as model:
        with pytest.raises(DeadlineExceeded):
            model([2.0])


def test_a_call_may_take_forever(triton_url: URL, protocol: Protocol) -> None:
    with TritonRemoteModel(triton_url("identity_1d", protocol), timeout=float("inf")) as model:
        (output,) = model([2.0])
    assert output.tolist() == [2.0]


def test_an_input_may_have_any_name() -> None:
    named: Tensors = (("self", DataType.FP32, (-1,)),)
    answer = respond(("y", "FP32", (1,)), contents={"y": {"fp32_contents": [1.5]}})
    with fake_server(answer, inputs=named) as server, TritonRemoteModel(server.url) as model:
        (output,) = model(self=[1.0])
    assert output.tolist() == [1.5]


def test_a_closed_model_says_so(triton_url: URL, protocol: Protocol) -> None:
    model = TritonRemoteModel(triton_url("identity_1d", protocol))
    assert model.triton_client is not None
    model.close()
    model.close()
    with pytest.raises(ModelClosed):
        model([1.0])


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_is_not_there_is_unavailable(protocol: str) -> None:
    for url in (f"{protocol}://127.0.0.1:1/m", f"{protocol}://127.0.0.1:1"):
        with pytest.raises(Unavailable):
            TritonRemoteModel(url)


@pytest.mark.parametrize(
    ("arguments", "rendered"),
    [
        (("localhost:8000", "yolov8", "http"), "http://localhost:8000/yolov8"),
        (("http://localhost:8000/yolov8",), "http://localhost:8000/yolov8"),
        (("http://localhost:8000/yolov8", "yolov8", "http"), "http://localhost:8000/yolov8"),
        (("grpcs://h/base/v2",), "grpcs://h/base/v2"),
        (("http://h/base/v2", "m"), "http://h/base/v2/models/m"),
        (("triton+grpc://h", "m"), "triton+grpc://h/m"),
        (("[::1]", "m", "grpc"), "grpc://[::1]/m"),
    ],
)
def test_the_three_arguments_make_one_url(arguments: tuple[str, ...], rendered: str) -> None:
    url, endpoint, scheme = (*arguments, "", "")[:3]
    assert str(resolve_url(url, endpoint, scheme)) == rendered


@pytest.mark.parametrize(
    "arguments",
    [
        ("localhost:8000", "m", ""),
        ("localhost", "", ""),
        ("http://h/a", "b", ""),
        ("http://h/a", "", "grpc"),
        ("ftp://h/a", "", ""),
        ("h/a", "", "onnx"),
        ("m.onnx", "", ""),
        ("", "", ""),
    ],
)
def test_arguments_that_contradict_each_other_are_invalid(arguments: tuple[str, str, str]) -> None:
    with pytest.raises(InvalidURL):
        TritonRemoteModel(*arguments)


@pytest.mark.parametrize(
    ("text", "mapping"),
    [
        ('{"a": [1]}', {"a": [1]}),
        ("{'stride': 32, 'half': True}", {"stride": 32, "half": True}),
        ("[1]", None),
        ("", None),
        ("__import__('os')", None),
        ("{" * 5000, None),
    ],
)
def test_the_metadata_parameter_is_json_or_a_literal(
    text: str, mapping: dict[str, Any] | None
) -> None:
    assert read_mapping(text) == mapping


def test_basic_auth_and_headers_are_sent_and_options_taken() -> None:
    with fake_server() as server:
        url = f"grpc://me:sesame@127.0.0.1:{server.port}/m?max_response_bytes=100"
        with TritonRemoteModel(url, headers={"X-Team": "vision"}) as model:
            model([1.0])
            sent = server.metadata[-1]
            assert "sesame" not in repr(model)
        assert sent["authorization"] == "Basic bWU6c2VzYW1l"
        assert sent["x-team"] == "vision"
        with pytest.raises(InvalidURL, match="max_response_bytes"):
            TritonRemoteModel(f"{server.url}?nope=1")


def test_outputs_that_are_strings_are_not_cast() -> None:
    answer = respond(("y", "BYTES", (1,)), contents={"y": {"bytes_contents": [b"1.5"]}})
    strings: Tensors = (("y", DataType.BYTES, (-1,)),)
    assert strings != ONE_OUT
    with fake_server(answer, outputs=strings) as server:
        with TritonRemoteModel(server.url) as model:
            (output,) = model(np.array([1.0], np.float32))
    assert output.tolist() == [b"1.5"]


# Older releases of geventhttpclient compare names by a function that Python gave up.
@pytest.mark.filterwarnings("ignore:ssl.match_hostname:DeprecationWarning")
def test_the_client_over_https_verifies_the_server(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _OneModel) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            url = f"https://127.0.0.1:{server.server_port}/m"
            with TritonRemoteModel(f"{url}?ca={ca}") as model:
                assert model.triton_client.is_server_live()
            with pytest.raises(InferError):
                TritonRemoteModel(url)
        finally:
            server.shutdown()
            thread.join()


def test_importing_the_package_imports_no_runtime() -> None:
    program = """
import sys
import infer_backends_triton as package
assert dir(package) and package.__all__ == sorted(package.__all__)
heavy = {"numpy", "grpc", "gevent", "tritonclient", "google.protobuf", "infer_backends"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from infer_backends_triton import LocalTriton, TritonRemoteModel
heavy -= {"numpy", "infer_backends"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_has_nothing_else() -> None:
    with pytest.raises(AttributeError, match="Nope"):
        infer_backends_triton.Nope  # noqa: B018 - looked up for its error


class _OneModel(http.server.BaseHTTPRequestHandler):
    """Describes the model ``m``, and is live."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        tensor = '[{"name": "x", "datatype": "FP32", "shape": [-1]}]'
        bodies = {
            "/v2": '{"name": "triton", "extensions": ["binary_tensor_data"]}',
            "/v2/models/m": f'{{"name": "m", "inputs": {tensor}, "outputs": {tensor}}}',
            "/v2/health/live": "",
        }
        body = bodies.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or "")))
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


def _index(states: list[tuple[str, str]]) -> Any:
    from tritonclient.grpc import service_pb2

    response = service_pb2.RepositoryIndexResponse()
    for name, state in states:
        response.models.add(name=name, version="1", state=state)
    return lambda request, context: response
