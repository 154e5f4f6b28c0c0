"""The server inside of the test process: requests go through ASGI, not through a socket."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from app.main import create_app
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


class Local:
    """A blocking client of an application whose event loop runs in a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
        self.loop, self.client = loop, client

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self.client.request(method, path, **options), self.loop).result(60)

    def post(self, path: str, document: Any) -> httpx.Response:
        return self.request("POST", path, json=document)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def ask(self, path: str, **document: Any) -> dict[str, Any]:
        """Return the answer to a request that has to succeed."""
        response = self.post(path, document)
        assert response.status_code in (200, 201), f"{path} {document}: {response.status_code} {response.text}"
        answer: dict[str, Any] = response.json()
        return answer


@contextmanager
def local_server(**settings: Any) -> Iterator[Local]:
    """Run the application with a store in memory, and stop it afterwards."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    app = create_app(Settings(store="memory", **settings))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")
    started, stop = threading.Event(), asyncio.Event()

    async def live() -> None:
        async with app.opened(), client:
            started.set()
            await stop.wait()

    running = asyncio.run_coroutine_threadsafe(live(), loop)
    try:
        assert started.wait(30)
        yield Local(loop, client)
    finally:
        loop.call_soon_threadsafe(stop.set)
        running.result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
