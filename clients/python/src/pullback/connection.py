"""connect(): a client, a session, and a recorder for the variables that are made on it."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import httpx

from pullback.core import current
from pullback.core.messages import nearest
from pullback.core.variable import Variable
from pullback.errors import (
    ExpiredSessionError,
    NotConnectedError,
    PullbackError,
    UnknownSessionError,
    UnknownVariableError,
    UnreachableError,
)
from pullback.recording.recorder import Recorder
from pullback.remote.client import Client
from pullback.remote.session import Session

#: Timeout for the end of each session at the end of the process.
_HANG_UP_S = 2.0
#: Open connections, whose sessions end with the process.
_open: weakref.WeakSet[Connection] = weakref.WeakSet()


@atexit.register
def _hang_up() -> None:
    """End the sessions of this process that are not to be kept, without retries."""
    for connection in list(_open):
        connection._end_at_once()


class Connection:
    """Client with a session on which variables are made; `connect` returns one.

    client: has a method for every call of the server. session: its `id` is a secret, as it gives access to the session.
    """

    def __init__(self, session: Session, recorder: Recorder, *, keep: bool, owns_client: bool) -> None:
        self.client = session.client
        self.session = session
        self.keep = keep
        self._owns_client = owns_client
        self._recorder = recorder
        self._is_open = True
        self._pid = os.getpid()
        self._entered: list[Any] = []
        current.push(recorder)
        _open.add(self)

    @classmethod
    def on(
        cls,
        client: Client,
        *,
        seed: int | None = None,
        ttl_s: float | None = None,
        name: str | None = None,
        keep: bool = False,
        owns_client: bool = False,
    ) -> Connection:
        """Connect through an existing client, with a new session; arguments as for `connect`."""
        session = client.session(seed=seed, ttl_s=ttl_s, name=name)
        return cls(session, Recorder(session, client.settings.url), keep=keep, owns_client=owns_client)

    @classmethod
    def of(cls, client: Client, session_id: str, *, owns_client: bool = False) -> Connection:
        """Connect through an existing client to an existing session."""
        info = client.sessions.get(session_id)
        session = Session(client, info)
        listed = session.variables()
        taken = [each["id"] for group in ("variables", "others") for each in listed[group]]
        recorder = Recorder(session, client.settings.url, taken, (not info.nograd, info.train))
        return cls(session, recorder, keep=True, owns_client=owns_client)

    @property
    def id(self) -> str:
        """Id of the session, with which it can be resumed: connect(url, session=id)."""
        return self.session.id

    def flush(self) -> None:
        """Send all recorded operations without fetching a value.

        Raises:
            AutogradError: an operation is refused; the message has the line that recorded it.
        """
        self._recorder.outbox.flush()

    def variable(self, name: str) -> Variable:
        """Return a variable of the session by its name, usually one of an earlier process (`connect(session=...)`).

        If several variables have the name, it is the last one made.

        Raises:
            UnknownVariableError: no variable has the name.
        """
        listed = self.variables()
        known = [each for each, about in listed.items() if about["name"] == name]
        if not known:
            names = sorted({about["name"] for about in listed.values() if about["name"] is not None})
            raise UnknownVariableError(f"there is no variable named {name!r} in this session{nearest(name, names)}")
        return self._recorder.take_up(known[-1], name)

    def variables(self) -> dict[str, dict[str, Any]]:
        """Return name, shape, dtype, creator and generation of all variables of the session, constants too, by id."""
        self._recorder.outbox.flush()
        return {each.pop("id"): each for each in self.session.variables()["variables"]}

    @contextmanager
    def active(self) -> Iterator[Connection]:
        """Span in which new variables belong to this connection, even if another one was made later."""
        token = current.enter(self._recorder)
        try:
            yield self
        finally:
            current.leave(token)

    def _end_at_once(self) -> None:
        if os.getpid() == self._pid and not self.keep:
            with suppress(httpx.HTTPError, PullbackError):
                self.client._http.delete(f"/v1/sessions/{self.session.id}", timeout=_HANG_UP_S)
        self.client.close()

    def close(self) -> None:
        """End the session, unless it is to be kept, and close the client if `connect` made it."""
        if not self._is_open:
            return
        self._is_open = False
        _open.discard(self)
        current.drop(self._recorder)
        self._recorder.outbox.close(
            NotConnectedError("the connection of this variable is closed; connect again and make it anew")
        )
        try:
            if not self.keep and os.getpid() == self._pid:
                # A session that cannot be reached expires by itself.
                with suppress(ExpiredSessionError, UnknownSessionError, UnreachableError):
                    self.session.delete()
        finally:
            if self._owns_client:
                self.client.close()

    def __enter__(self) -> Connection:
        self._entered.append(current.enter(self._recorder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        current.leave(self._entered.pop())
        try:
            if kind is None and self._recorder.outbox.is_waiting():
                self._recorder.outbox.flush()
        finally:
            self.close()

    def __repr__(self) -> str:
        return f"<connection to {self.client.settings.url}, session {self.id[:8]}...>"


def connect(
    url: str | None = None,
    *,
    session: str | None = None,
    seed: int | None = None,
    ttl_s: float | None = None,
    name: str | None = None,
    keep: bool = False,
    **options: Any,
) -> Connection:
    """Connect to a server; from then on variables are made on it. The connection is a context manager that closes it.

    Args:
        url: URL of the server; "local" runs one in this process. Default: PULLBACK_URL, or http://127.0.0.1:8000.
        session: id of a session to resume; `variable(name)` returns its variables.
        seed: seed of the session's random numbers.
        ttl_s: seconds without use after which the session expires.
        name: name of the session, for lists that people read.
        keep: do not end the session when the connection is closed; a resumed session is never ended.
        options: options of `Client`: api_key, json, timeout_s, retries, ...

    >>> with connect("local"):
    ...     x = Variable(0.5)
    ...     (x * x).backward()
    ...     print(x.grad)
    variable(1.0)

    Raises:
        UnreachableError, WrongServerError: there is no server at the URL.
        UnknownSessionError, ExpiredSessionError: the session does not exist, or has expired.
    """
    client = Client(url, **options)
    try:
        if session is None:
            return Connection.on(client, seed=seed, ttl_s=ttl_s, name=name, keep=keep, owns_client=True)
        return Connection.of(client, session, owns_client=True)
    except BaseException:
        client.close()
        raise
