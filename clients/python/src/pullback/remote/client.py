"""Client and AsyncClient: one method for each call of the server, the same on both, blocking or awaited."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, overload

import httpx

from pullback.errors import UnauthorizedError, UnreachableError
from pullback.remote import calls, embedded
from pullback.remote.core import Call, Pause, Settings, conversation, request_of
from pullback.remote.documents import JSON, MSGPACK
from pullback.remote.results import Raw

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 60.0
RETRIES = 5

Hooks = Mapping[str, Sequence[Callable[..., Any]]]


class Blocking:
    """What returns results."""

    def _do(self, call: Call[R]) -> Any:
        raise NotImplementedError


class Awaiting:
    """What returns awaitables of results."""

    def _do(self, call: Call[R]) -> Any:
        raise NotImplementedError


class BlockingRaw:
    """What returns answers as they came."""

    def __init__(self, perform: Callable[[Call[Any]], Raw]) -> None:
        self._do = perform


class AwaitingRaw:
    """What returns awaitables of answers as they came."""

    def __init__(self, perform: Callable[[Call[Any]], Awaitable[Raw]]) -> None:
        self._do = perform


class Endpoint(Generic[P, R]):
    """A method made of one of `calls`: what it returns is for its owner to say."""

    def __init__(self, build: Callable[P, Call[R]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__
        self._signature = signature_of(build)

    @overload
    def __get__(self, instance: Blocking, owner: Any = None) -> Callable[P, R]: ...
    @overload
    def __get__(self, instance: Awaiting, owner: Any = None) -> Callable[P, Awaitable[R]]: ...
    @overload
    def __get__(self, instance: BlockingRaw, owner: Any = None) -> Callable[P, Raw]: ...
    @overload
    def __get__(self, instance: AwaitingRaw, owner: Any = None) -> Callable[P, Awaitable[Raw]]: ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> Endpoint[P, R]: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self

        @functools.wraps(self._build)
        def method(*args: P.args, **keywords: P.kwargs) -> Any:
            return instance._do(self._build(*args, **keywords))

        method.__signature__ = self._signature  # type: ignore[attr-defined]
        return method


def signature_of(build: Callable[..., Call[Any]], *, left_out: int = 0) -> inspect.Signature:
    """The signature of a method that is made of a call, for `help`: without what its owner gives, and of the result."""
    found = inspect.signature(build)
    parameters = list(found.parameters.values())[left_out:]
    result = re.sub(r"^Call\[(.*)\]$", r"\1", str(found.return_annotation))
    return found.replace(parameters=parameters, return_annotation=result)


class Endpoints:
    """The calls of a server."""

    evaluate = Endpoint(calls.evaluate)
    vjp = Endpoint(calls.vjp)
    jvp = Endpoint(calls.jvp)
    jacobian = Endpoint(calls.jacobian)
    hessian = Endpoint(calls.hessian)
    hvp = Endpoint(calls.hvp)
    check = Endpoint(calls.check)
    infer = Endpoint(calls.infer)
    register = Endpoint(calls.register)
    programs = Endpoint(calls.programs)
    get_program = Endpoint(calls.get_program)
    delete_program = Endpoint(calls.delete_program)
    program_dot = Endpoint(calls.program_dot)
    program_svg = Endpoint(calls.program_svg)
    info = Endpoint(calls.info)
    ops = Endpoint(calls.ops)
    op = Endpoint(calls.op)
    health = Endpoint(calls.health)
    ready = Endpoint(calls.ready)
    create_session = Endpoint(calls.create_session)
    get_session = Endpoint(calls.get_session)
    delete_session = Endpoint(calls.delete_session)
    change_session = Endpoint(calls.change_session)
    run = Endpoint(calls.run)
    variables = Endpoint(calls.variables)
    session_dot = Endpoint(calls.session_dot)
    session_svg = Endpoint(calls.session_svg)
    get_state = Endpoint(calls.get_state)
    put_state = Endpoint(calls.put_state)


class RawClient(BlockingRaw, Endpoints):
    """The calls of a server, whose answers come with status, headers and request id."""


class AsyncRawClient(AwaitingRaw, Endpoints):
    """The same, awaited."""


class Client(Blocking, Endpoints):
    """A server's calls, blocking. It may be used by many threads at once.

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
        self.with_raw_response = RawClient(self._perform)
        #: Caches of modules above that hold for this server alone.
        self.kept: dict[str, Any] = {}

    def _do(self, call: Call[R]) -> Any:
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
        self.with_raw_response = AsyncRawClient(self._perform)

    async def _do(self, call: Call[R]) -> Any:
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
