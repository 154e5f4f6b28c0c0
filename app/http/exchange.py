"""The one way of a request through the server.

    let in by its key -> read -> known and cheap: answer here
         -> otherwise: reserve, read on, wait for a turn, let a worker answer
         -> send

A worker does all the rest: it negotiates, inflates, parses, prepares, runs, encodes and compresses, and explains what
is wrong. Nothing that no worker has measured is parsed or run on the event loop, but for bodies of a kilobyte.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import OverloadedError
from app.http import bodies
from app.http.bodies import Reservations
from app.http.doorway import Doorway, caller_of, client_of, key_of
from app.http.endpoints import Endpoint
from app.http.envelope import CLIENT_CLOSED_REQUEST, Envelope
from app.http.inline import LONGEST_BODY, Inline
from app.http.messages import Answer, Call, ask
from app.http.spool import FileBody
from app.http.turns import Turns
from app.http.waiting import Waiting, at_once
from app.keys.ring import Key
from app.settings import Settings
from app.telemetry import PoolFigures
from app.wire.media import BodyTooLargeError, too_large

#: What stands before the id of a session in a path.
_SESSIONS = "/v1/sessions/"
#: Longest time for which a refusal for want of workers or memory is held back.
REFUSAL_S = 0.2
#: Processor time that a call is charged before it is known what it takes: a unit.
_HELD_S = 0.001
#: Length of the part of a body that says to which kind of work it belongs.
_KIND_BYTES = 200


class Pool(Protocol):
    """Workers beside the event loop.

    charge: called with the client of a call that was worked on, and the processor time in seconds.
    """

    charge: Callable[[str, float], None]

    async def start(self) -> None:
        """Make workers; calls that come before they are ready wait."""

    async def answer(self, call: Call, kind: object, receive: Receive, waited_s: float = 0.0) -> Answer:
        """Let a worker answer a request.

        Args:
            call: the request.
            kind: requests of one kind take about the same time.
            receive: gives a message once the client has gone.
            waited_s: how much of the deadline is over.

        Raises:
            OverloadedError: there is no room in the queue, or other work had to go first.
            DeadlineExceededError: it took too long.
            ClientDisconnect: the client went away.
        """

    def close(self) -> None:
        """Take no more calls, and drop those that wait."""

    def fault(self) -> str:
        """Return a sentence about why nothing can be worked on; empty if it can."""

    def figures(self) -> PoolFigures:
        """Return the figures of the pool."""


class Exchange:
    """Answers requests.

    Args:
        inline: answers what is cheap.
        endpoints: the paths of which requests may be cheap.
        pool: answers what is work.
        work: the routes of all that is work.
        light: application that answers what is neither.
        explain: builds the answer to an error.
        envelope: sends answers.
        answers: memory for answers that are sent.
        doorway: lets requests in.
        settings: the limits.
    """

    def __init__(
        self,
        inline: Inline,
        endpoints: Sequence[Endpoint],
        pool: Pool,
        work: Sequence[BaseRoute],
        light: ASGIApp,
        explain: Callable[[Call, Exception], Answer],
        envelope: Envelope,
        answers: Reservations,
        doorway: Doorway,
        settings: Settings,
    ) -> None:
        self.inline = inline
        self.pool = pool
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self._work = work
        self._light = light
        self._explain = explain
        self._envelope = envelope
        self._doorway = doorway
        self._limit = settings.max_body_bytes
        self._longest_known = min(LONGEST_BODY, settings.max_body_bytes)
        self._deadline_s = settings.deadline_s
        self._turns = Turns(settings.max_queue, settings.deadline_s)
        #: Set when the refusals are sent that are held back, None where there are none.
        self._refusals: asyncio.Event | None = None
        self.reservations = Reservations(settings.max_bytes_in_flight // 2)
        self.answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        start = time.perf_counter()
        headers = dict(reversed(scope["headers"]))
        request_id = self._envelope.request_id(headers.get(b"x-request-id"))
        origin = headers.get(b"origin")
        try:
            answer = await self._answered(scope, headers, request_id, receive)
        except ClientDisconnect:
            self._envelope.note(scope, Answer(CLIENT_CLOSED_REQUEST, [], b""), start, request_id)
            return
        except BodyTooLargeError as error:
            answer = self._explain(_call(scope, request_id), error)
            answer.headers.append((b"connection", b"close"))
            await self._envelope.send(scope, bodies.held_open(send), answer, request_id, origin, start)
            await bodies.linger(receive, send)
            return
        except OverloadedError as error:
            answer = self._explain(_call(scope, request_id), error)
            # The error's traceback keeps the body.
            del error
            await self._held_back()
        except Exception as error:  # noqa: BLE001 - it is explained and, if it is a bug, logged
            answer = self._explain(_call(scope, request_id), error)
        key = key_of(scope)
        if key is not None and key.is_limited:
            key.charge_bytes(len(answer.body))
        if isinstance(answer.body, FileBody) or len(answer.body) <= bodies.UNRESERVED_BYTES:
            await self._envelope.send(scope, send, answer, request_id, origin, start)
            return
        with self.answers.of(client_of(scope)) as reservation:
            # It is there already; what it takes is missing for the bodies of others.
            reservation.take(len(answer.body))
            await self._envelope.send(scope, send, answer, request_id, origin, start)

    async def _held_back(self) -> None:
        """Wait until all refusals of the last moment may be sent.

        Refusing costs the event loop as much as answering: clients that ask again at once are slowed down, and refusals
        that are written one behind the other cost half of what they do among other work.
        """
        if self._refusals is not None:
            await self._refusals.wait()
            return
        are_sent = self._refusals = asyncio.Event()
        try:
            await asyncio.sleep(REFUSAL_S)
        finally:
            self._refusals = None
            are_sent.set()

    async def _answered(self, scope: Scope, headers: dict[bytes, bytes], request_id: str, receive: Receive) -> Answer:
        preflight = self._envelope.preflight(scope, headers.get(b"origin")) if scope["method"] == "OPTIONS" else None
        if preflight is not None:
            return preflight
        key = self._doorway.enter(scope, headers)
        endpoint = self._endpoints.get(scope["path"]) if scope["method"] == "POST" else None
        length = bodies.declared_length(headers)
        if endpoint is None or length is None or length > self._longest_known or len(headers) < len(scope["headers"]):
            return await self._by_route(scope, request_id, receive, length)
        first = at_once(receive())
        if isinstance(first, Waiting):
            first = await bodies.first_piece(first, self._deadline_s)
        bodies.check_present(first)
        if first.get("more_body"):
            return await self._by_worker(scope, request_id, receive, length, first)
        body = bytes(first.get("body", b""))
        if key is not None and key.is_limited:
            key.charge_bytes(len(body))
        found = self.inline.answer(endpoint, headers, body)
        if isinstance(found, Answer):
            if key is not None and key.is_limited:
                key.charge_light()
            return found
        call = _call(scope, request_id, body)
        if found is None:
            return await self._worked(call, receive, key)
        if found.is_cheap:
            answer = self.inline.prepare(endpoint, call)
            if key is not None and answer.measure is not None:
                key.charge_work(answer.measure.cpu_s)
            return answer
        answer = await self._worked(call, receive, key)
        self.inline.learn(found, answer)
        return answer

    async def _by_route(self, scope: Scope, request_id: str, receive: Receive, length: int | None) -> Answer:
        """Answer a request that is not known here: by a worker, if a route says that it is work."""
        call = _call(scope, request_id)
        routed = call.scope()
        if any(route.matches(routed)[0] is Match.FULL for route in self._work):
            return await self._by_worker(scope, request_id, receive, length)
        key = key_of(scope)
        if key is not None:
            key.charge_light()
        return await ask(self._light, call, scope.get("root_path", ""), scope.get("state"))

    async def _by_worker(
        self, scope: Scope, request_id: str, receive: Receive, length: int | None, first: Message | None = None
    ) -> Answer:
        """Read the body of a request, and let a worker answer it; `length` is what the client says of the body."""
        if length is not None and length > self._limit:
            raise too_large(f"has {length:,} bytes", self._limit)
        with self.reservations.of(client_of(scope)) as reservation:
            if length is not None:
                reservation.ask(length)
            body = b""
            key = key_of(scope)
            try:
                body = await bodies.read_body(first, receive, self._limit, self._deadline_s, reservation)
            finally:
                if key is not None:
                    # Of a body that does not arrive in full, what was held for it.
                    key.charge_bytes(len(body) or reservation.held)
            return await self._worked(_call(scope, request_id, body), receive, key)

    async def _worked(self, call: Call, receive: Receive, key: Key | None) -> Answer:
        """Let a worker answer a call; hold a unit of its key meanwhile: a burst bounds the calls at one time."""
        if key is None or not key.is_limited:
            return await self._in_turn(call, receive)
        key.charge_work(_HELD_S)
        try:
            return await self._in_turn(call, receive)
        finally:
            key.charge_work(-_HELD_S)

    async def _in_turn(self, call: Call, receive: Receive) -> Answer:
        """Let a worker answer a call, after earlier calls to the same session."""
        session = _session(call.path)
        if not session:
            kind = call.path, len(call.body).bit_length(), call.body[:_KIND_BYTES]
            return await self.pool.answer(call, kind, receive)
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with self._turns.turn(session):
            return await self.pool.answer(call, session, receive, loop.time() - start)


def _call(scope: Scope, request_id: str, body: bytes = b"") -> Call:
    # The server leaves out the body of the answer to a HEAD.
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    path = get_route_path(scope)
    query, headers = scope["query_string"], list(scope["headers"])
    return Call(method, path, query, headers, client_of(scope), request_id, body, caller_of(scope))


def _session(path: str) -> str:
    """Return the id of the session that a path names, empty if it names none."""
    return path[len(_SESSIONS) :].partition("/")[0] if path.startswith(_SESSIONS) else ""
