"""deploy/caddy: what the proxy passes on, to whom, and how it answers itself."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.app.conftest import START_S
from tests.deploy.caddy import CADDY, FOLDER, start_caddy
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.app.conftest import Server

pytestmark = pytest.mark.thorough
REQUEST = {"expr": "x * x", "inputs": {"x": 3.0}, "backward": True}


def until_it_answers(client: httpx.Client, path: str, process: subprocess.Popen[bytes]) -> httpx.Response:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None
        with contextlib.suppress(httpx.TransportError):
            return client.get(path)
        time.sleep(0.05)
    raise TimeoutError(path)


def address(server: Server) -> str:
    return server.base_url.removeprefix("http://")


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.iterdir()))
def test_files_are_written_as_caddy_writes_them(file: str) -> None:
    done = subprocess.run([CADDY, "fmt", str(FOLDER / file)], capture_output=True, text=True, check=False)
    assert done.stdout == (FOLDER / file).read_text()


def test_requests_are_passed_on_and_figures_are_not(server: Server, tmp_path: Path) -> None:
    port = free_port()
    with (
        start_caddy("Caddyfile", [address(server)], tmp_path, proxy_port=str(port)) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        assert until_it_answers(client, "/readyz", process).status_code == 200
        assert client.post("/v1/evaluate", json=REQUEST).json()["grads"] == {"x": 6.0}
        assert server.client.get("/metrics").status_code == 200
        assert client.get("/metrics").status_code == 404
        assert client.get("/readyz", headers={"X-Long": "x" * 64_000}).status_code == 431


def test_an_error_of_its_own_has_the_form_of_the_servers(tmp_path: Path) -> None:
    port = free_port()
    with (
        start_caddy("Caddyfile", [f"127.0.0.1:{free_port()}"], tmp_path, proxy_port=str(port)) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=START_S) as client,
    ):
        answer = until_it_answers(client, "/v1", process)
        assert answer.status_code in (502, 503)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "1"
        problem = answer.json()
        assert set(problem) == {"type", "title", "status", "detail", "errors", "request_id"}
        assert (problem["type"], problem["status"]) == ("/problems/unavailable", answer.status_code)
        assert len(problem["request_id"]) == 36


@pytest.mark.parametrize(("clients", "status"), [("127.0.0.1/32", 200), ("10.0.0.0/8 192.0.2.1", 403)])
def test_tls_is_for_the_networks_that_are_named(server: Server, tmp_path: Path, clients: str, status: int) -> None:
    ports = {name: str(free_port()) for name in ("http_port", "https_port", "health_port")}
    with (
        start_caddy(
            "tls.Caddyfile", [address(server)], tmp_path, domain="localhost", clients=clients, **ports
        ) as caddy,
        httpx.Client(verify=False, trust_env=False, timeout=START_S) as client,
    ):
        answer = until_it_answers(client, f"https://localhost:{ports['https_port']}/readyz", caddy)
        assert answer.status_code == status
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert client.post(f"https://localhost:{ports['https_port']}/v1/evaluate", json=REQUEST).status_code == status
        assert client.get(f"http://127.0.0.1:{ports['health_port']}/readyz").status_code == 200
        plain = client.get(f"http://localhost:{ports['http_port']}/readyz")
        assert (plain.status_code, plain.headers["location"].partition(":")[0]) == (308, "https")
