"""What docker-compose.yml starts, from real processes: two servers on one Redis behind a proxy that takes turns."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.app.conftest import ROOT, Server, environment, stop, wait_until_ready
from tests.app.scripts import back, expr, op, var
from tests.ports import free_port
from tests.redis_process import RedisProcess, needs_redis, start_redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PULLBACK = str(Path(sys.executable).with_name("pullback"))


class Proxy:
    """Hands each connection to the next server in turn; where nobody listens any more, to the one after it."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._turns = cycle(self._ports)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = listening.result()
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self._ports:
            with contextlib.suppress(OSError):
                answers, asks = await asyncio.open_connection("127.0.0.1", next(self._turns))
                await asyncio.gather(_pump(reader, asks), _pump(answers, writer))
                return
        writer.close()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # Sockets are closed a turn after they are told to.
        for _ in range(3):
            await asyncio.sleep(0)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()


class Topology:
    def __init__(self, redis: RedisProcess, servers: list[subprocess.Popen[bytes]], port: int) -> None:
        self.redis, self.servers = redis, servers
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, document: Any = None) -> httpx.Response:
        """Each on a connection of its own, and so to the next server."""
        headers = {"Connection": "close"}
        return httpx.request(method, self._url + path, json=document, headers=headers, trust_env=False, timeout=30)


@pytest.fixture
def topology(tmp_path: Path) -> Iterator[Topology]:
    (tmp_path / "redis").mkdir()
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(start_redis(tmp_path / "redis"))
        ports = [free_port(), free_port()]
        servers = []
        for port in ports:
            log = tmp_path / f"{port}.log"
            env = environment(store=redis.url, trusted_proxies="127.0.0.1")
            with log.open("wb") as output:
                command = [PULLBACK, "serve", "--port", str(port)]
                process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT)
            servers.append(process)
            stack.callback(stop, process)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                wait_until_ready(Server(str(client.base_url), process, client), log)
        proxy = Proxy(ports)
        stack.callback(proxy.close)
        yield Topology(redis, servers, proxy.port)


@needs_redis
def test_the_quickstart_through_the_proxy(topology: Topology) -> None:
    path = f"/v1/sessions/{topology.ask('POST', '/v1/sessions', {'seed': 7}).json()['id']}"
    steps = [var("x", 0.5), op("a", "square", "x"), op("b", "exp", "a"), op("y", "square", "b"), back("y")]
    for seq, command in enumerate(steps, 1):
        answer = topology.ask("POST", f"{path}/run", {"seq": seq, "commands": [command]})
        assert answer.status_code == 200, answer.text
    found = {"value": 0.5, "grad": 3.297442541400256}
    # Both servers see the same.
    for _ in range(2):
        seen = topology.ask("GET", f"{path}/variables/x").json()
        assert {name: seen[name] for name in found} == found

    # A program that one of them was given is the other's too.
    program = topology.ask("POST", "/v1/programs", {"expr": "square(exp(square(x)))", "name": "quickstart"}).json()[
        "id"
    ]
    request = {"program": "quickstart", "inputs": {"x": 0.5}, "backward": True}
    for _ in range(2):
        answer = topology.ask("POST", "/v1/evaluate", request)
        assert answer.json()["grads"] == {"x": 3.297442541400256}
    assert [listed["id"] for listed in topology.ask("GET", "/v1/programs").json()["programs"]] == [program]

    # One server ends and nobody notices; Redis ends, all wait, and go on from what they had been told.
    topology.servers[0].kill()
    topology.servers[0].wait()
    for seq in (6, 7):
        assert topology.ask("POST", f"{path}/run", {"seq": seq, "commands": [expr("x", "x * 2.0")]}).status_code == 200
    topology.redis.kill()
    refused = topology.ask("POST", f"{path}/run", {"seq": 8, "commands": [expr("x", "x * 2.0")]})
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
    topology.redis.start()
    answer = topology.ask("POST", f"{path}/run", {"seq": 8, "commands": [expr("x", "x * 2.0")], "fetch": ["x"]})
    assert answer.json()["fetched"]["x"]["value"] == 4.0
