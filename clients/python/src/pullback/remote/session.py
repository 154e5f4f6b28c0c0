"""Session objects, which number the calls that change a session, so that a repeated call never takes effect twice.

A call without a response is in doubt: it may have taken effect. The next call first settles this by sending it again
with its number; if the next call is equal to the one in doubt, it is the same call. `info()` settles doubt too.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from pullback.errors import OverloadedError, ProblemError
from pullback.remote import calls
from pullback.remote.core import Call
from pullback.remote.documents import MSGPACK, encode
from pullback.remote.endpoints import Awaiting, Blocking, signature_of
from pullback.remote.results import Raw, SessionInfo

P = ParamSpec("P")
R = TypeVar("R")


class _CallNumbers:
    """Numbers of a session's calls; last: number of the last effective one. in_doubt: a call without a response."""

    def __init__(self, session: str, last: int) -> None:
        self._session = session
        self.last = last
        self.in_doubt: Call[Any] | None = None

    def steps(self, make: Callable[[int], Call[R]]) -> Generator[Call[Any], Raw | BaseException, Raw]:
        """Yield calls, whose outcomes are sent into the generator; return the response to the call.

        make: builds the call from its number.
        """
        call = make(self.last + 1)
        before = self.in_doubt
        if before is not None:
            outcome = yield from self._settled(before)
            if _is_same(before, call) or (isinstance(outcome, BaseException) and self.in_doubt is not None):
                return _returned(outcome)
            call = make(self.last + 1)
        return _returned((yield from self._settled(call)))

    def _settled(self, call: Call[Any]) -> Generator[Call[Any], Raw | BaseException, Raw | BaseException]:
        """Yield a call; return its outcome, and update the numbers."""
        # Until the outcome is known, also if this generator is abandoned.
        self.in_doubt = call
        outcome = yield call
        if isinstance(outcome, ProblemError) and _may_be_done(outcome):
            seen = yield calls.get_session(self._session)
            if isinstance(seen, Raw) and seen.parsed.seq <= self.last:
                self.in_doubt = None
            elif isinstance(seen, Raw):
                outcome = yield call
        if isinstance(outcome, Raw):
            self.last += 1
            self.in_doubt = None
        elif isinstance(outcome, ProblemError) and not _may_be_done(outcome):
            self.in_doubt = None
        return outcome

    def saw(self, last: int) -> None:
        """Settle a doubt by the number of the session's last call, if that is newer."""
        if self.in_doubt is not None and last > self.last:
            self.last += 1
            self.in_doubt = None


def _may_be_done(error: ProblemError) -> bool:
    """Return whether a call with this error may have taken effect."""
    return error.status is not None and error.status >= 500 and not isinstance(error, OverloadedError)


def _returned(outcome: Raw | BaseException) -> Raw:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _is_same(first: Call[Any], second: Call[Any]) -> bool:
    return (first.method, first.path, first.query, first.content) == (
        second.method,
        second.path,
        second.query,
        second.content,
    ) and encode(first.document, MSGPACK) == encode(second.document, MSGPACK)


class Method(Generic[P, R]):
    """Descriptor of a method made from a call; subclasses say what they pass to `build` before the arguments."""

    def __init__(self, build: Callable[..., Call[R]], left_out: int) -> None:
        self._build = build
        self.__doc__ = build.__doc__
        self._signature = signature_of(build, left_out=left_out)

    def _call(self, instance: Any, *args: P.args, **keywords: P.kwargs) -> Any:
        raise NotImplementedError

    @overload
    def __get__(self, instance: Blocking, owner: Any = None) -> Callable[P, R]: ...
    @overload
    def __get__(self, instance: Awaiting, owner: Any = None) -> Callable[P, Awaitable[R]]: ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> Method[P, R]: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self

        @functools.wraps(self._build)
        def method(*args: P.args, **keywords: P.kwargs) -> Any:
            return self._call(instance, *args, **keywords)

        method.__signature__ = self._signature  # type: ignore[attr-defined]
        return method


class Query(Method[P, R]):
    """Method made from a call that does not change a session."""

    def __init__(self, build: Callable[Concatenate[str, P], Call[R]]) -> None:
        super().__init__(build, left_out=1)

    def _call(self, instance: Any, *args: P.args, **keywords: P.kwargs) -> Any:
        return instance._do(self._build(instance.id, *args, **keywords))


class Change(Method[P, R]):
    """Method made from a call that changes a session, and so has a number."""

    def __init__(self, build: Callable[Concatenate[str, int, P], Call[R]]) -> None:
        super().__init__(build, left_out=2)

    def _call(self, instance: Any, *args: P.args, **keywords: P.kwargs) -> Any:
        return instance._do_numbered(lambda seq: self._build(instance.id, seq, *args, **keywords))


class _Calls:
    """Calls of a session."""

    run = Change(calls.run)
    change = Change(calls.change_session)
    put_state = Change(calls.put_state)
    info = Query(calls.get_session)
    variables = Query(calls.variables)
    dot = Query(calls.session_dot)
    svg = Query(calls.session_svg)
    state = Query(calls.get_state)
    delete = Query(calls.delete_session)


class Session(Blocking, _Calls):
    """Session of a `Client`, from `client.session()` or `client.resume(id)`. Calls of several threads are serialized.

    Args:
        client: the `Client` that makes the calls.
        info: result of `client.sessions.create` or `client.sessions.get`.

    >>> from pullback import Client
    >>> with Client("local") as client:
    ...     session = client.session(seed=1)
    ...     commands = [{"do": "variable", "id": "x", "value": 0.5}, {"do": "apply", "expr": "x**2", "out": ["y"]}]
    ...     session.run(commands, fetch=["y"]).fetched["y"]["value"]
    0.25
    """

    def __init__(self, client: Any, info: SessionInfo) -> None:
        self.id, self.seed = info.id, info.seed
        self.client = client
        self._numbers = _CallNumbers(info.id, info.seq)
        self._lock = threading.Lock()

    @property
    def is_in_doubt(self) -> bool:
        """True if the last call has no response, so that it may or may not have taken effect."""
        return self._numbers.in_doubt is not None

    def _do(self, call: Call[Any]) -> Any:
        found = self.client._do(call)
        if isinstance(found, SessionInfo):
            with self._lock:
                self._numbers.saw(found.seq)
        return found

    def _do_numbered(self, make: Callable[[int], Call[R]]) -> Any:
        with self._lock:
            steps = self._numbers.steps(make)
            outcome: Raw | BaseException | None = None
            while True:
                try:
                    call = steps.send(outcome)  # type: ignore[arg-type]
                except StopIteration as end:
                    return end.value.parsed
                try:
                    outcome = self.client._perform(call)
                except Exception as error:  # noqa: BLE001 - `steps` raises it, unless a further call settles it
                    outcome = error


class AsyncSession(Awaiting, _Calls):
    """Session of an `AsyncClient`, from `client.session()` or `client.resume(id)`. Calls of tasks are serialized.

    Arguments as for `Session`.
    """

    def __init__(self, client: Any, info: SessionInfo) -> None:
        self.id, self.seed = info.id, info.seed
        self.client = client
        self._numbers = _CallNumbers(info.id, info.seq)
        self._lock = asyncio.Lock()

    @property
    def is_in_doubt(self) -> bool:
        """True if the last call has no response, so that it may or may not have taken effect."""
        return self._numbers.in_doubt is not None

    async def _do(self, call: Call[Any]) -> Any:
        found = await self.client._do(call)
        if isinstance(found, SessionInfo):
            async with self._lock:
                self._numbers.saw(found.seq)
        return found

    async def _do_numbered(self, make: Callable[[int], Call[R]]) -> Any:
        async with self._lock:
            steps = self._numbers.steps(make)
            outcome: Raw | BaseException | None = None
            while True:
                try:
                    call = steps.send(outcome)  # type: ignore[arg-type]
                except StopIteration as end:
                    return end.value.parsed
                try:
                    outcome = await self.client._perform(call)
                except Exception as error:  # noqa: BLE001 - `steps` raises it, unless a further call settles it
                    outcome = error
