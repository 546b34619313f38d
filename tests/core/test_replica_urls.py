"""The URL of each replica."""

from __future__ import annotations

import pytest

from infer_backends import InvalidURL, ModelURL
from infer_backends._replica_urls import replica_urls


def rendered(text: str) -> list[str]:
    return [url.render(mask=False) for url in replica_urls(ModelURL.parse(text))]


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("http://a/m", ["http://a/m"]),
        ("onnx:m.onnx?device=cpu", ["onnx:m.onnx?device=cpu"]),
        ("http://a/m?host=b&host=C", ["http://a/m", "http://b/m", "http://c/m"]),
        ("http://a:8000/m?host=b", ["http://a:8000/m", "http://b:8000/m"]),
        ("http://a:8000/m?host=b:8001", ["http://a:8000/m", "http://b:8001/m"]),
        ("http://a/m?host=a:8001", ["http://a/m", "http://a:8001/m"]),
        ("grpc://a/m?host=[::1]:8001", ["grpc://a/m", "grpc://[::1]:8001/m"]),
        ("grpc://a/m?host=[fe80::1%25eth0]", ["grpc://a/m", "grpc://[fe80::1%25eth0]/m"]),
        ("grpc://[::1]/m?host=b", ["grpc://[::1]/m", "grpc://b/m"]),
        (
            "https://u:p@a:1/base/v2/models/m/versions/3?x=1&host=b:2&y=2",
            [
                "https://u:p@a:1/base/v2/models/m/versions/3?x=1&y=2",
                "https://u:p@b:2/base/v2/models/m/versions/3?x=1&y=2",
            ],
        ),
    ],
)
def test_each_replica_has_its_own_host_and_all_else_of_the_url(text: str, urls: list[str]) -> None:
    assert rendered(text) == urls


def test_what_is_secret_in_the_url_is_masked_in_the_replicas() -> None:
    url = ModelURL.parse("http://u:hunter2@a/m?key=hunter3&host=b")
    for replica in replica_urls(url.with_secret_options(frozenset({"key"}))):
        assert "hunter" not in str(replica)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onnx:m.onnx?host=b", "'host' of 'onnx:m.onnx' has no meaning for a path"),
        ("http://a/m?host=", "is empty: write host=b"),
        ("http://a/m?host=u:hunter2%40b", "holds an '@': write host and port only"),
        ("http://a/m?host=hunter2@b", "holds an '@': write host and port only"),
        ("http://a/m?host=http://b", "without scheme and model, as in host=b:8001"),
        ("http://a/m?host=b/m", "without scheme and model"),
        ("http://a/m?host=b?auth=hunter2", "without scheme and model"),
        ("http://a/m?host=b:hunter2", "is not a number from 1 to 65535"),
        ("http://a/m?host=b:0", "is not a number from 1 to 65535"),
        ("http://a/m?host=:8001", "no valid host name"),
        ("http://a/m?host=b,c", "no valid host name"),
        ("http://a/m?host=b%20c", "no valid host name"),
        ("http://a/m?host=b%2564", "no valid host name"),
        ("http://a/m?host=[::1", "write an IPv6 host as"),
        ("http://a/m?host=::1", "several ':' after the host: write an IPv6"),
        ("http://a/m?host=[b]", "no valid IPv6 address"),
        ("http://a/m?host=a", "two replicas .* the same host and port"),
        ("http://a:8000/m?host=A:8000", "two replicas .* the same host and port"),
        ("http://a/m?host=b:1&host=c&host=b:1", "two replicas .* the same host and port"),
    ],
)
def test_a_wrong_host_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(InvalidURL, match=message) as caught:
        replica_urls(ModelURL.parse(text))
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"
