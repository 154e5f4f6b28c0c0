"""Client and AsyncClient: a method for each call of the server, blocking or awaited.

Calls for registered programs are in the namespace `programs`, calls for sessions by id in `sessions`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx

from pullback.errors import UnauthorizedError, UnreachableError
from pullback.remote import embedded
from pullback.remote.core import Call, Pause, Settings, conversation, request_of
from pullback.remote.documents import JSON, MSGPACK
from pullback.remote.endpoints import (
    AsyncPrograms,
    AsyncRawClient,
    AsyncSessions,
    Awaiting,
    Blocking,
    Endpoints,
    Programs,
    RawClient,
    Sessions,
)
from pullback.remote.results import Raw
from pullback.remote.session import AsyncSession, Session

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 60.0
RETRIES = 5

Hooks = Mapping[str, Sequence[Callable[..., Any]]]


class Client(Blocking, Endpoints):
    """Blocking client of a server. Many threads may use it at once.

    programs: the calls for registered programs: register, list, all, get, delete, dot, svg. sessions: the calls for
    sessions by their ids: create, get, delete, change, run, variables, dot, svg, state, put_state; `session()` and
    `resume(id)` return a `Session`, which numbers its calls. with_raw_response: all of them, with status and headers.

    Args:
        url: URL of the server; "local" runs one in this process, without a socket, if pullback-server is installed.
            Default: PULLBACK_URL, or http://127.0.0.1:8000.
        api_key: key, sent as a bearer token. Default: PULLBACK_API_KEY.
        json: encode documents as JSON instead of MessagePack, which is shorter.
        timeout_s: timeout of each try of a call.
        retries: limit of the repetitions of a call if the server cannot be reached, is busy or limits the rate. Pauses
            grow from 0.1 to 5 s, or are as long as Retry-After. A repeated call never takes effect twice.
        connections: limit of simultaneous connections.
        event_hooks, transport: options of httpx.

    >>> with Client("local") as client:
    ...     client.evaluate("square(exp(square(x)))", {"x": 0.5}, backward=True).grads
    {'x': 3.297442541400256}

    Raises (from every call):
        ProblemError: the server refused the request; `AutogradError` and its subclasses: the request was wrong.
        UnreachableError: no complete response after all tries.
        WrongServerError: the response is not from a server with this contract.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        json: bool = False,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        connections: int = 100,
        event_hooks: Hooks | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.settings = _settings(url, api_key, json, retries, timeout_s)
        if self.settings.url == embedded.URL and transport is None:
            transport = embedded.Transport()
        self._http = httpx.Client(**_options(self.settings, connections, event_hooks), transport=transport)
        self.programs = Programs(self._do)
        self.sessions = Sessions(self._do)
        self.with_raw_response = RawClient(self._perform)
        #: Caches of other modules for this client.
        self._caches: dict[str, Any] = {}

    def session(
        self, *, ttl_s: float | None = None, seed: int | None = None, name: str | None = None, key: str | None = None
    ) -> Session:
        """Create a session; return an object that numbers its calls. Arguments as for `sessions.create`."""
        return Session(self, self.sessions.create(ttl_s=ttl_s, seed=seed, name=name, key=key))

    def resume(self, session: str) -> Session:
        """Return an object for an existing session, by its id.

        Raises:
            UnknownSessionError, ExpiredSessionError: the session does not exist, or has expired.
        """
        return Session(self, self.sessions.get(session))

    def _do(self, call: Call[Any]) -> Any:
        return self._perform(call).parsed

    def _perform(self, call: Call[Any]) -> Raw:
        steps = conversation(call, self.settings)
        outcome: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                found: Raw = end.value
                return found
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                outcome = None
                continue
            try:
                outcome = self._http.request(**request_of(*step, self.settings))
            except httpx.TransportError as error:
                outcome = error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(Awaiting, Endpoints):
    """Client of a server with awaited methods; arguments and errors as for `Client`. Many tasks may use it at once."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        json: bool = False,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        connections: int = 100,
        event_hooks: Hooks | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = _settings(url, api_key, json, retries, timeout_s)
        if self.settings.url == embedded.URL and transport is None:
            transport = embedded.Transport()
        self._http = httpx.AsyncClient(**_options(self.settings, connections, event_hooks), transport=transport)
        self.programs = AsyncPrograms(self._do)
        self.sessions = AsyncSessions(self._do)
        self.with_raw_response = AsyncRawClient(self._perform)

    async def session(
        self, *, ttl_s: float | None = None, seed: int | None = None, name: str | None = None, key: str | None = None
    ) -> AsyncSession:
        """Create a session; return an object that numbers its calls. Arguments as for `sessions.create`."""
        return AsyncSession(self, await self.sessions.create(ttl_s=ttl_s, seed=seed, name=name, key=key))

    async def resume(self, session: str) -> AsyncSession:
        """Return an object for an existing session, by its id. Raises as `Client.resume`."""
        return AsyncSession(self, await self.sessions.get(session))

    async def _do(self, call: Call[Any]) -> Any:
        return (await self._perform(call)).parsed

    async def _perform(self, call: Call[Any]) -> Raw:
        steps = conversation(call, self.settings)
        outcome: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                found: Raw = end.value
                return found
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                outcome = None
                continue
            try:
                outcome = await self._http.request(**request_of(*step, self.settings))
            except httpx.TransportError as error:
                outcome = error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _settings(url: str | None, api_key: str | None, json: bool, retries: int, timeout_s: float) -> Settings:
    url = (url or os.environ.get("PULLBACK_URL") or DEFAULT_URL).rstrip("/")
    key = (api_key or os.environ.get("PULLBACK_API_KEY") or "").strip() or None
    if key is not None and not (key.isascii() and key.isprintable()):
        raise UnauthorizedError("the key (argument api_key, PULLBACK_API_KEY) has letters that no header can carry")
    url = embedded.URL if url == "local" else url
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UnreachableError(f"{url} is no address of a server ({error}); expected http://host:port") from None
    return Settings(url, key, JSON if json else MSGPACK, retries, timeout_s)


def _options(settings: Settings, connections: int, event_hooks: Hooks | None) -> dict[str, Any]:
    return {
        "base_url": settings.url,
        "headers": settings.headers(),
        # The wait for a free connection does not count.
        "timeout": httpx.Timeout(settings.timeout_s, pool=None),
        # Loading certificates takes 0.1 s, and plain HTTP needs none.
        "verify": not settings.url.startswith("http://"),
        "limits": httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        "event_hooks": event_hooks,
    }
