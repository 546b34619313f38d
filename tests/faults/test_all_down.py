"""When nobody can answer, one error says whom was asked, why each did not answer, and how long."""

from __future__ import annotations

import pytest

import infer_backends as ib
from tests.faults.calls import call
from tests.faults.servers import Server, wait_until


def test_the_error_of_a_call_shows_each_attempt(server: Server) -> None:
    urls = [server.url("http"), server.url("grpc")]
    with ib.open_model(urls) as model:
        assert call(model).url == urls[0]
        server.kill()
        error = call(model).error
        assert isinstance(error, ib.AllBackendsFailed)
        assert [attempt.url for attempt in error.attempts] == urls
        for attempt in error.attempts:
            assert isinstance(attempt.error, ib.Unavailable)
            assert 0 <= attempt.duration < 20
            assert f"{attempt.url}: Unavailable: " in str(error)
            assert f"(after {attempt.duration:.3f} s)" in str(error)
        server.start()
        wait_until(lambda: call(model).right)


def test_the_error_at_open_shows_each_attempt(server: Server) -> None:
    server.kill()
    urls = [server.url("http"), server.url("grpc")]
    with pytest.raises(ib.AllBackendsFailed) as caught:
        ib.open_model(urls)
    assert [attempt.url for attempt in caught.value.attempts] == urls
    for attempt in caught.value.attempts:
        assert f"(after {attempt.duration:.3f} s)" in str(caught.value)


def test_a_server_that_hangs_makes_it_a_deadline_that_passed(server: Server) -> None:
    with ib.open_model([server.url("http"), server.url("grpc")]) as model:
        assert call(model).right
        server.hang()
        error = call(model, timeout=0.8).error
        assert isinstance(error, ib.DeadlineExceeded)
        assert [attempt.url for attempt in error.attempts][:1] == [server.url("http")]
        assert all(isinstance(one.error, ib.DeadlineExceeded) for one in error.attempts)
        server.resume()
        wait_until(lambda: call(model).right)
