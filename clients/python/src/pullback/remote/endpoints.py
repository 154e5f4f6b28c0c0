"""Methods of the clients, each made from a function of `calls`; one definition serves all four kinds of clients.

The kind of an object determines what its methods return: `Blocking`, `Awaiting`, `BlockingRaw` or `AwaitingRaw`.
`Programs` and `Sessions` are namespaces of the clients, with the names of the JavaScript client.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pullback.remote import calls
from pullback.remote.core import Call
from pullback.remote.results import Program, Raw

P = ParamSpec("P")
R = TypeVar("R")

#: Number of programs on a page of `all`.
_PAGE = 100


class Blocking:
    """Base of objects whose methods return results; `_do(call)` makes a call."""


class Awaiting:
    """Base of objects whose methods return awaitables of results."""


class BlockingRaw:
    """Base of objects whose methods return responses with status and headers."""


class AwaitingRaw:
    """Base of objects whose methods return awaitables of responses with status and headers."""


class Namespace:
    """Base of groups of methods: `do` makes their calls."""

    def __init__(self, do: Callable[[Call[Any]], Any]) -> None:
        self._do = do


class Endpoint(Generic[P, R]):
    """Descriptor of a method made from a function of `calls`; the kind of its owner determines what it returns."""

    def __init__(self, build: Callable[P, Call[R]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__
        self._signature = signature_of(build)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

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

        method.__name__ = self._name
        method.__signature__ = self._signature  # type: ignore[attr-defined]
        return method


def signature_of(build: Callable[..., Call[Any]], *, left_out: int = 0) -> inspect.Signature:
    """Return the signature of a method made from `build`, without the first `left_out` parameters."""
    found = inspect.signature(build)
    parameters = list(found.parameters.values())[left_out:]
    result = re.sub(r"^Call\[(.*)\]$", r"\1", str(found.return_annotation))
    return found.replace(parameters=parameters, return_annotation=result)


class Endpoints:
    """Calls that concern neither registered programs nor sessions."""

    evaluate = Endpoint(calls.evaluate)
    vjp = Endpoint(calls.vjp)
    jvp = Endpoint(calls.jvp)
    jacobian = Endpoint(calls.jacobian)
    hessian = Endpoint(calls.hessian)
    hvp = Endpoint(calls.hvp)
    check = Endpoint(calls.check)
    infer = Endpoint(calls.infer)
    info = Endpoint(calls.info)
    ops = Endpoint(calls.ops)
    op = Endpoint(calls.op)
    health = Endpoint(calls.health)
    ready = Endpoint(calls.ready)


class ProgramEndpoints:
    """Calls for registered programs."""

    register = Endpoint(calls.register)
    list = Endpoint(calls.list_programs)
    get = Endpoint(calls.get_program)
    delete = Endpoint(calls.delete_program)
    dot = Endpoint(calls.program_dot)
    svg = Endpoint(calls.program_svg)


class SessionEndpoints:
    """Calls for sessions, by id; calls that change a session also take their number."""

    create = Endpoint(calls.create_session)
    get = Endpoint(calls.get_session)
    delete = Endpoint(calls.delete_session)
    change = Endpoint(calls.change_session)
    run = Endpoint(calls.run)
    variables = Endpoint(calls.variables)
    dot = Endpoint(calls.session_dot)
    svg = Endpoint(calls.session_svg)
    state = Endpoint(calls.get_state)
    put_state = Endpoint(calls.put_state)


class Programs(Namespace, Blocking, ProgramEndpoints):
    """Registered programs, `client.programs`."""

    def all(self) -> Iterator[Program]:
        """Iterate over all registered programs; they are fetched in pages."""
        page = self.list(limit=_PAGE)
        yield from page.programs
        while page.next is not None:
            page = self.list(page.next, limit=_PAGE)
            yield from page.programs


class AsyncPrograms(Namespace, Awaiting, ProgramEndpoints):
    """Registered programs, awaited."""

    async def all(self) -> AsyncIterator[Program]:
        """Iterate over all registered programs; they are fetched in pages."""
        page = await self.list(limit=_PAGE)
        for program in page.programs:
            yield program
        while page.next is not None:
            page = await self.list(page.next, limit=_PAGE)
            for program in page.programs:
                yield program


class RawPrograms(Namespace, BlockingRaw, ProgramEndpoints):
    """Registered programs, `client.with_raw_response.programs`."""


class AsyncRawPrograms(Namespace, AwaitingRaw, ProgramEndpoints):
    """Registered programs, `client.with_raw_response.programs`, awaited."""


class Sessions(Namespace, Blocking, SessionEndpoints):
    """Sessions by their ids, `client.sessions`; `client.session()` returns an object that numbers its calls itself."""


class AsyncSessions(Namespace, Awaiting, SessionEndpoints):
    """Sessions by their ids, awaited."""


class RawSessions(Namespace, BlockingRaw, SessionEndpoints):
    """Sessions by their ids, `client.with_raw_response.sessions`."""


class AsyncRawSessions(Namespace, AwaitingRaw, SessionEndpoints):
    """Sessions by their ids, `client.with_raw_response.sessions`, awaited."""


class RawClient(Namespace, BlockingRaw, Endpoints):
    """Calls that return responses with status, headers and request id, `client.with_raw_response`."""

    def __init__(self, do: Callable[[Call[Any]], Raw]) -> None:
        super().__init__(do)
        self.programs = RawPrograms(do)
        self.sessions = RawSessions(do)


class AsyncRawClient(Namespace, AwaitingRaw, Endpoints):
    """Calls that return responses with status, headers and request id, awaited."""

    def __init__(self, do: Callable[[Call[Any]], Awaitable[Raw]]) -> None:
        super().__init__(do)
        self.programs = AsyncRawPrograms(do)
        self.sessions = AsyncRawSessions(do)
