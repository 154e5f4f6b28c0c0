"""Embedded server: runs in this process, without a socket; found by the entry point of pullback-server."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points
from typing import Any

import httpx

from pullback.errors import NotConnectedError

#: URL that stands for the embedded server.
URL = "http://local"
_GROUP = "pullback.embedded"


class Transport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Transport of httpx to a server that it starts on a thread, and stops when it is closed.

    Raises:
        NotConnectedError: pullback-server is not installed, or does not start.
    """

    def __init__(self) -> None:
        found = next(iter(entry_points(group=_GROUP)), None)
        if found is None:
            raise NotConnectedError(
                'connect("local") needs the server in this environment: pip install pullback-server (or its checkout); '
                "or name a server that runs elsewhere: connect(url)"
            )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pullback-embedded", daemon=True)
        self._thread.start()
        self._pid = os.getpid()
        self._server: AbstractAsyncContextManager[Any] = found.load()()
        try:
            self._asgi = httpx.ASGITransport(self._wait(self._server.__aenter__()))
        except Exception as error:
            self._stop()
            raise NotConnectedError(f"the server in this process does not start: {error}") from error

    def _wait(self, coroutine: Any) -> Any:
        if os.getpid() != self._pid:
            coroutine.close()
            raise NotConnectedError("the server is in the process that this one was forked from; connect again")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the response."""
        found: httpx.Response = self._wait(self._answered(request))
        return found

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request from an event loop other than the server's; return the response."""
        future = asyncio.run_coroutine_threadsafe(self._answered(request), self._loop)
        return await asyncio.wrap_future(future)

    async def _answered(self, request: httpx.Request) -> httpx.Response:
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"accept-encoding"]
        plain = httpx.Request(request.method, request.url, headers=headers, content=await _body(request))
        answer = await self._asgi.handle_async_request(plain)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

    def close(self) -> None:
        """Stop the server, with everything that it holds in memory."""
        if self._loop.is_closed():
            return
        if os.getpid() == self._pid:
            self._wait(self._server.__aexit__(None, None, None))
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def aclose(self) -> None:
        """Stop the server, as `close`."""
        await asyncio.to_thread(self.close)


async def _body(request: httpx.Request) -> bytes:
    """Return the body of a request of either kind of client."""
    return await request.aread() if isinstance(request.stream, httpx.AsyncByteStream) else request.read()
