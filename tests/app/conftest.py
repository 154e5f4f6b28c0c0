"""One real server process for all tests of the wire contract."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
#: Bounds for what hangs; a busy machine comes nowhere near them.
START_S = 120
STOP_S = 60
REQUEST_S = 60
UVICORN = ("uvicorn", "app.main:app", "--host", "127.0.0.1")


def strict_json(text: str | bytes) -> Any:
    """`text` as JSON, refusing the bare NaN and Infinity that Python's reader would let through."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"the answer holds a bare {constant}, which is not JSON")

    return json.loads(text, parse_constant=refuse)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens, its process, and a client that speaks to it."""

    base_url: str
    process: subprocess.Popen[bytes]
    client: httpx.Client

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, path: str, **request: Any) -> Any:
        """The answer to a POST of `request` that has to succeed."""
        response = self.client.post(path, json=request)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].split(";")[0] == "application/json"
        return strict_json(response.content)

    def evaluate(self, **request: Any) -> dict[str, Any]:
        """The answer of `/v1/evaluate` to a request that has to succeed."""
        answer: dict[str, Any] = self.ask("/v1/evaluate", **request)
        return answer

    def assert_well(self) -> None:
        """The next good request is answered with the right digits."""
        answer = self.evaluate(expr="square(exp(square(x)))", inputs={"x": 0.5}, backward=True)
        assert answer["values"] == {"out": 1.648721270700128}
        assert answer["grads"] == {"x": 3.297442541400256}


def wait_until_ready(server: Server, log: Path) -> None:
    """Poll `/readyz` until it answers 200; the pause between two polls ends early when the process does."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if server.client.get("/readyz").status_code == 200:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(timeout=0.02)
    pytest.fail(f"the server was not ready within {START_S} s:\n{log.read_text(errors='replace')}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        pytest.fail(f"the server did not stop within {STOP_S} s of SIGTERM")


def environment(**settings: str) -> dict[str, str]:
    """The environment of a server with these settings and no others."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PULLBACK_")}
    return env | {f"PULLBACK_{name.upper()}": value for name, value in settings.items()}


@contextlib.contextmanager
def start_server(folder: Path, module: Sequence[str] = UVICORN, **settings: str) -> Iterator[Server]:
    """A real server process, whose log lies in `folder`, and where nothing is said its data directory too.

    It may be killed inside the block.

    module: a module of Python that serves, and its arguments but for the port.
    """
    log, port = folder / "server.log", free_port()
    base_url = f"http://127.0.0.1:{port}"
    env = environment(**{"data_dir": str(folder / "data"), **settings})
    command = [sys.executable, "-m", *module, "--port", str(port)]
    with (
        log.open("ab") as output,
        httpx.Client(base_url=base_url, timeout=REQUEST_S, trust_env=False) as client,
    ):
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT)
        try:
            running = Server(base_url, process, client)
            wait_until_ready(running, log)
            yield running
            client.close()
        finally:
            stop(process)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with default settings for all tests that do not end it."""
    with start_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(autouse=True)
def server_stays_alive(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test that speaks to the server may end its process."""
    if "server" not in request.fixturenames:
        yield
        return
    running: Server = request.getfixturevalue("server")
    yield
    assert running.process.poll() is None, f"the server died with {running.process.returncode}"
