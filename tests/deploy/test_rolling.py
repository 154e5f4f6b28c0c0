"""Two servers are restarted one after the other under load, behind the proxy, and no request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.app.conftest import ROOT, START_S, STOP_S, environment
from tests.deploy.caddy import start_caddy
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PULLBACK = str(Path(sys.executable).with_name("pullback"))
#: Longer than the proxy needs to notice, and than it keeps a connection that is idle.
DRAIN_S = 4
#: Requests of each client between two events.
SEVERAL = 20
#: Takes tenths of a second in a process that is put aside for long work.
LONG: dict[str, Any] = {
    "expr": "\n".join(["a = broadcast_to(x, [300, 300])", *["a = tanh(a @ a)"] * 60, "sum(a)"]),
    "inputs": {"x": 0.0},
}


class Proxy:
    """Asks the proxy of docker-compose.yml."""

    def __init__(self, port: int) -> None:
        self._client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=START_S, trust_env=False)

    async def ask(self, path: str, document: Any) -> httpx.Response:
        return await self._client.post(path, json=document)

    async def close(self) -> None:
        await self._client.aclose()


@contextlib.asynccontextmanager
async def caddy(urls: list[str], folder: Path) -> AsyncIterator[Proxy]:
    port = free_port()
    proxy = Proxy(port)
    with start_caddy(
        "Caddyfile", [url.removeprefix("http://") for url in urls], folder, proxy_port=str(port)
    ) as process:
        try:
            await until_ready(f"http://127.0.0.1:{port}", process)
            yield proxy
        finally:
            await proxy.close()


class Fleet:
    """Two servers on one SQLite store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = [free_port(), free_port()]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports]

    async def start(self, which: int) -> None:
        """Start a server, and wait until it is ready."""
        settings = {"data_dir": str(self._folder / "data"), "drain_s": str(DRAIN_S), "access_log": "0"}
        # On a busy machine everything takes long; a place for each client keeps that from being refused.
        env = environment(**settings, trusted_proxies="127.0.0.1", max_long_workers="8")
        command = [PULLBACK, "serve", "--port", str(self._ports[which])]
        with (self._folder / f"server-{which}.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
        self._processes[which] = process
        await until_ready(self.urls[which], process)

    async def stop(self, which: int) -> int:
        """Tell a server to stop, and return the code with which it ends."""
        process = self._processes.pop(which)
        process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(process.wait, STOP_S)

    def kill(self) -> None:
        """End what still runs."""
        for process in self._processes.values():
            process.kill()
            process.wait()


async def until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(START_S), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        while True:
            assert process.poll() is None
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


class Load:
    """Clients that ask one request after the other until they are told to stop; all answers have to be right."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._is_over = False
        self.counts: dict[str, int] = {}

    async def _good(self, path: str, document: Any) -> Any:
        answer = await self._proxy.ask(path, document)
        assert answer.status_code in (200, 201), f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def _repeat(self, name: str, call: Callable[[int], Awaitable[None]]) -> None:
        for number in itertools.count(1):
            if self._is_over:
                return
            await call(number)
            self.counts[name] = number
            await asyncio.sleep(0.01)

    async def _hot(self, number: int) -> None:
        found = await self._good("/v1/evaluate", {"expr": "x * x", "inputs": {"x": number}, "backward": True})
        assert (found["values"], found["grads"]) == ({"out": float(number**2)}, {"x": 2.0 * number})

    async def _fresh(self, number: int) -> None:
        found = await self._good("/v1/evaluate", {"expr": f"sum(x) + {number}", "inputs": {"x": [1.0] * 2000}})
        assert found["values"] == {"out": 2000.0 + number}

    async def _long(self, number: int) -> None:
        found = await self._good("/v1/evaluate", LONG)
        assert found["values"] == {"out": 0.0}

    async def run(self) -> None:
        """Ask until `end` is called; raises where an answer is wrong."""
        path = f"/v1/sessions/{(await self._good('/v1/sessions', {'seed': 1}))['id']}/run"
        zero = {"do": "variable", "id": "x", "value": 0.0}
        await self._good(path, {"seq": 1, "commands": [zero]})

        async def step(number: int) -> None:
            add = {"do": "apply", "op": "add", "args": ["x", 1.0], "out": ["x"]}
            found = await self._good(path, {"seq": number + 1, "commands": [add], "fetch": ["x"]})
            assert found["fetched"]["x"]["value"] == number

        clients = {"hot": self._hot, "hot too": self._hot, "fresh": self._fresh, "long": self._long, "session": step}
        async with asyncio.TaskGroup() as group:
            for name, call in clients.items():
                self.counts[name] = 0
                group.create_task(self._repeat(name, call))

    def end(self) -> None:
        """Let the clients stop after their next answer."""
        self._is_over = True

    async def go_on(self) -> None:
        """Wait until each client has several more answers, a few of the long ones."""
        before = dict(self.counts)
        while not before or any(
            self.counts[name] - count < (3 if name == "long" else SEVERAL) for name, count in before.items()
        ):
            await asyncio.sleep(0.05)
            before = before or dict(self.counts)


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_a_rolling_restart_loses_nothing(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)

    async def restart(load: Load) -> None:
        await load.go_on()
        for which in (0, 1):
            assert await fleet.stop(which) in (0, -signal.SIGTERM)
            await load.go_on()
            await fleet.start(which)
            await load.go_on()
        load.end()

    async def work() -> None:
        await asyncio.gather(fleet.start(0), fleet.start(1))
        async with caddy(fleet.urls, tmp_path) as proxy, asyncio.TaskGroup() as group:
            load = Load(proxy)
            group.create_task(load.run())
            group.create_task(restart(load))
        print(load.counts)

    try:
        asyncio.run(work())
    finally:
        fleet.kill()
    for log in tmp_path.glob("server-*.log"):
        assert "Traceback" not in log.read_text(), log.read_text()
