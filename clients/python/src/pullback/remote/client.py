"""Client and AsyncClient: one method for each call of the server, the same on both, blocking or awaited.

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
    """A server's calls, blocking. It may be used by many threads at once.

    programs: the calls for registered programs: register, list, all, get, delete, dot, svg. sessions: the calls for
    sessions by their ids: create, get, delete, change, run, variables, dot, svg, state, put_state; `session()` and
    `resume(id)` return a `Session`, which numbers its calls. with_raw_response: all of them, with status and headers.

    Args:
        url: of the server; "local" runs one in this process, without a socket, where pullback-server is installed.
            Default: PULLBACK_URL, else http://127.0.0.1:8000.
        api_key: sent as a bearer token. Default: PULLBACK_API_KEY.
        json: documents travel as JSON, not as MessagePack: longer, and readable on the way.
        timeout_s: for each try of a call.
        retries: how often a call is sent again where the server cannot be reached, is busy or limits the rate, with
            pauses that grow from 0.1 to 5 s, or as long as Retry-After says. No call is done twice by that.
        connections: at most so many at once.
        event_hooks, transport: as of httpx.

    >>> with Client("local") as client:
    ...     client.evaluate("square(exp(square(x)))", {"x": 0.5}, backward=True).grads
    {'x': 3.297442541400256}

    Raises (from every call):
        ProblemError: the server refused; `AutogradError` and its subclasses: the request was wrong.
        UnreachableError: no whole answer, after all tries.
        WrongServerError: what answered is no server of this contract.
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
        #: Caches of modules above that hold for this server alone.
        self._kept: dict[str, Any] = {}

    def session(
        self, *, ttl_s: float | None = None, seed: int | None = None, name: str | None = None, key: str | None = None
    ) -> Session:
        """Make a session, and return an object that numbers its calls; arguments as of `sessions.create`."""
        return Session(self, self.sessions.create(ttl_s=ttl_s, seed=seed, name=name, key=key))

    def resume(self, session: str) -> Session:
        """Return an object for a session that exists, by its id.

        Raises:
            UnknownSessionError, ExpiredSessionError: there is no such session any more.
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
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(Awaiting, Endpoints):
    """A server's calls, awaited; arguments and errors as of `Client`. Any number of tasks may use it at once."""

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
        """Make a session, and return an object that numbers its calls; arguments as of `sessions.create`."""
        return AsyncSession(self, await self.sessions.create(ttl_s=ttl_s, seed=seed, name=name, key=key))

    async def resume(self, session: str) -> AsyncSession:
        """Return an object for a session that exists, by its id. Raises as `Client.resume`."""
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
        """Closes the connections."""
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
        # Waiting for a connection of our own is no part of a try.
        "timeout": httpx.Timeout(settings.timeout_s, pool=None),
        # Certificates take a tenth of a second to read; without TLS there are none to check.
        "verify": not settings.url.startswith("http://"),
        "limits": httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        "event_hooks": event_hooks,
    }
