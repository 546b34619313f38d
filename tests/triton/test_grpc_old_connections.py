"""Connections that a server, or a proxy, ends because they are old."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path

import infer_backends as ib
from infer_backends_triton import LocalTriton
from tests.servers import repository


def test_a_server_that_ends_old_connections_costs_no_call_and_works_on_each_once(
    tmp_path: Path, triton_environment: Path
) -> None:
    # As proxies do, too: new calls go elsewhere, and those that it had begun are answered.
    with LocalTriton(
        repository.write_repository(tmp_path / "models", only=["identity_1d"]),
        environment=triton_environment,
        arguments=[
            "--disable-auto-complete-config",
            "--grpc-max-connection-age=20",
            "--grpc-max-connection-age-grace=5000",
        ],
        startup_timeout=120,
    ) as server:
        errors: list[str] = []
        with ib.open_model(f"{server.grpc_url}/identity_1d") as model:

            def call() -> None:
                for value in range(300):
                    try:
                        assert model([value]) == [value]
                    except ib.InferError as exc:  # noqa: PERF203 - each call may fail
                        errors.append(str(exc))

            threads = [threading.Thread(target=call) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert model.status().retries == 0
        assert errors == []
        with urllib.request.urlopen(f"{server.http_url}/v2/models/identity_1d/stats") as answer:
            (statistics,) = json.load(answer)["model_stats"]
        assert statistics["inference_count"] == 8 * 300
