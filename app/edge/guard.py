"""uvicorn's protocol with limits: `uvicorn app.main:app --http app.edge.guard:GuardedProtocol`.

uvicorn bounds neither the size of a header nor the time that it takes, nor how slowly a body comes or an answer goes,
nor how many connections there are. All of that is looked at here, before the application sees a request. Limits of time
are looked at by one timer for all connections, since one each would cost more than all the rest.
"""

import asyncio
import contextlib
import sys
from typing import Any

import httptools
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from app.edge.connection import (
    HEADER,
    LEAVING,
    LINGER_BYTES,
    LINGER_S,
    REQUEST,
    UNREAD,
    WAITING,
    Connection,
)
from app.edge.refusals import refusal
from app.edge.transfer import Arrival, Departure
from app.edge.turns import MOST_PARSED, Parts
from app.edge_limits import EdgeLimits, address_key

try:
    import fcntl
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

#: Requests of one connection that may wait while the first is answered. Each takes kilobytes, and sending one 20 bytes.
MOST_PIPELINED = 100
#: With what a client of TLS begins.
_TLS = b"\x16\x03"
#: Of a Host header in a message.
_LONGEST_NAME = 100


class _NoFields(list[tuple[bytes, bytes]]):
    """List that stays empty."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        """Forget the field."""


_NO_FIELDS = _NoFields()


class _RefusedError(Exception):
    """Ends the parser's work on what was received; the connection has been told."""


class GuardedProtocol(Connection):
    """One connection. Limits are those of the settings, or of a class that `guarded` makes."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._is_proxy = False
        #: The address that a request counts for which a proxy forwards.
        self._forwarded = ""
        #: Of a header: bytes of the one piece that has others too.
        self._shared = 0
        self._arrival: Arrival | None = None
        self._departure = Departure()
        #: The request that is answered now, or was last.
        self._answered: RequestResponseCycle | None = None
        #: What waits to be parsed; made for the first long piece.
        self._parts: Parts | None = None

    # Begin and end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection in, or refuse it."""
        super().connection_made(transport)
        edge, peer = self._edge, self.client
        is_local = False
        if peer is not None:
            key, is_local = address_key(peer[0])
            self._is_proxy = edge.is_proxy(peer[0])
            self.address = None if self._is_proxy else key
        reason = edge.admit(self, is_local)
        if not reason:
            edge.idle[self] = self._since = edge.clock
            return
        edge.counts.connections_refused += 1
        self._phase = LEAVING
        transport.write(refusal("overloaded", reason, (), self.server_state.default_headers, is_head=False))
        if edge.may_linger(self):
            self._linger()
        else:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._edge.remove(self)
        self._forget_client()
        # uvicorn tells the last request only; the one that is answered now may be another.
        for cycle in (self._answered, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self._parts = None
        super().connection_lost(exc)

    # Requests

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, a part at a time: limits are looked at after each."""
        if len(data) <= MOST_PARSED and not self._parts:
            self._receive(data)
            return
        if self._parts is None:
            self._parts = Parts(self.flow, self.transport, self._receive, self._edge.line)
        self._parts.add(data)

    def _receive(self, data: bytes | memoryview) -> None:
        """Parse a part of what arrived, and look at limits of size."""
        phase, before, cycle = self._phase, 0, self.cycle
        if phase is WAITING:
            self._edge.idle.pop(self, None)
            self._phase, self._since = HEADER, self._edge.clock
            self._taken, self._shared = len(data), 0
        elif phase is HEADER:
            self._taken += len(data)
        elif phase is LEAVING:
            self._throw_away(len(data))
            return
        elif phase is UNREAD:
            self._taken += len(data)
        else:
            self._taken, before = len(data), len(cycle.body)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._begin_without_upgrade(data, upgrade.args[0])
            return
        except httptools.HttpParserError as error:
            if self._phase is not LEAVING:
                self._refuse_bytes(data, error)
            return
        if self._phase is HEADER:
            if self._taken - self._shared > self._edge.limits.header_bytes:
                self._refuse_header()
        elif self.cycle.more_body or self.scope is not self.cycle.scope:
            self._look(len(data), before if self.cycle is cycle else None)

    def _begin_without_upgrade(self, data: bytes | memoryview, rest: int) -> None:
        """Parse a request again that asks for another protocol, as if it did not: a server may go on as it is.

        The parser leaves it at the header then. Clients ask so with a body too, such as Java's for HTTP/2.

        Args:
            data: the piece in which the header ends.
            rest: where the body begins in it.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._refuse("malformed-request", "CONNECT is for proxies; ask this server for a path")
            return
        url, fields = self.url, self.headers
        asked = {b"upgrade", b"http2-settings"}
        lines = [b"%b %b HTTP/%b" % (method, url, version)]
        for name, value in fields:
            if name == b"connection":
                value = b", ".join(word for word in value.split(b",") if word.strip().lower() not in asked)
            if name not in asked and (value or name != b"connection"):
                lines.append(b"%b: %b" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self._shared = self._taken
        self._receive(b"\r\n".join([*lines, b"", b""]))
        if len(data) > rest and not self.transport.is_closing():
            self._receive(data[rest:])

    def on_message_complete(self) -> None:
        """Note that a request is complete."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body; of many small chunks, without a copy of all that is there for each."""
        cycle: Any = self.cycle
        if cycle.body and type(cycle.body) is bytes:
            cycle.body = bytearray(cycle.body)
        super().on_body(body)

    def _look(self, received: int, before: int | None) -> None:
        """Look at the rest of a piece: a body that goes on, or the header of the next request.

        before: bytes of the body that were there already; None where it began in this piece, which has a header too.
        """
        if self.scope is not self.cycle.scope:
            self._phase, self._since = HEADER, self._edge.clock
            self._taken = self._shared = received
            return
        if self._phase is UNREAD:
            if self._taken > LINGER_BYTES:
                self._reset()
            return
        payload = len(self.cycle.body) - (before or 0)
        self._arrival = self._arrival or Arrival()
        if self._arrival.add(payload if before is None else received, payload, self._edge.limits):
            self._edge.counts.headers_too_large += 1
            self._refuse(
                "headers-too-large", "the body is mostly framing: tiny chunks, extensions or trailers without end"
            )

    def on_headers_complete(self) -> None:
        """Check a header as a whole and let the request begin."""
        if self.parser.should_upgrade():
            return
        edge = self._edge
        limits = edge.limits
        if len(self.headers) > limits.header_fields or self._taken > limits.header_bytes:
            self._check_header()
        if edge.hosts is not None:
            for name, value in self.headers:
                if name == b"host" and value not in edge.hosts and not edge.is_allowed(value):
                    self._refuse_host(value)
        if self.pipeline and len(self.pipeline) >= MOST_PIPELINED:
            self._leave(b"")
            raise _RefusedError
        if self._is_proxy:
            self._count_client()
        super().on_headers_complete()
        # Fields behind a chunked body are no part of the header, and may be many.
        self.headers = _NO_FIELDS
        self._phase = REQUEST
        self._arrival = None

    def _check_header(self) -> None:
        limits = self._edge.limits
        if len(self.headers) > limits.header_fields:
            self._edge.counts.headers_too_large += 1
            detail = f"the header has {len(self.headers)} fields; at most {limits.header_fields}"
            self._refuse("headers-too-large", f"{detail} (setting PULLBACK_MAX_HEADER_FIELDS)")
            raise _RefusedError
        # Of several things in one piece it is not known how long the header was as sent.
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > limits.header_bytes:
            self._refuse_header()
            raise _RefusedError

    def _refuse_header(self) -> None:
        self._edge.counts.headers_too_large += 1
        limit = f"{self._edge.limits.header_bytes:,} bytes (setting PULLBACK_MAX_HEADER_BYTES)"
        self._refuse("headers-too-large", f"the request's line and header have more than {limit}")

    def _refuse_host(self, host: bytes) -> None:
        self._edge.counts.wrong_hosts += 1
        name = host[:_LONGEST_NAME].decode("latin-1")
        detail = f'Host is "{name}"; expected localhost, a loopback address, or a name in PULLBACK_ALLOWED_HOSTS'
        self._refuse("wrong-host", detail)
        raise _RefusedError

    def _refuse_bytes(self, data: bytes | memoryview, error: httptools.HttpParserError) -> None:
        """Refuse what is no HTTP; behind the requests that are under way, whose answers come first."""
        if self._phase is UNREAD:
            # This request was answered; what comes is the rest of its body.
            self._leave(b"")
        elif bytes(data[:2]) == _TLS:
            self._refuse(
                "malformed-request", "these are bytes of TLS; the server speaks plain HTTP here: ask by http://"
            )
        else:
            detail = f"the request is no HTTP/1.1 ({error}); a Content-Length that is too short may be why"
            self._refuse("malformed-request", detail)

    def _count_client(self) -> None:
        """Count a request for the address that a proxy forwards it for, as uvicorn's middleware reads it."""
        self._forget_client()
        host = self._edge.client_of(self.headers)
        if not host:
            return
        address, reason = self._edge.begin_forwarded(host)
        if reason:
            self._edge.counts.connections_refused += 1
            self._refuse("overloaded", reason)
            raise _RefusedError
        self._forwarded = address

    def _forget_client(self) -> None:
        if self._forwarded:
            self._edge.end_forwarded(self._forwarded)
            self._forwarded = ""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Begin with the next request that waits; where there is none, become idle, without a timer of its own."""
        self.server_state.total_requests += 1
        if self._is_proxy:
            self._forget_client()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._last_words is not None:
            self._say_last_words()
        elif self._phase is REQUEST:
            self._since = self._edge.clock
            if self.cycle.more_body:
                self._phase, self._taken = UNREAD, 0
            else:
                self._phase = WAITING
                self._edge.idle[self] = self._since

    # The table's view

    def evict(self) -> None:
        """Close an idle connection to make room; what its client has not read is lost."""
        self._phase = LEAVING
        if self.transport.get_write_buffer_size():
            self._reset()
        else:
            self.transport.close()

    def resume_writing(self) -> None:
        """Note that the client has read what the buffer held."""
        self._departure.begin_anew()
        super().resume_writing()

    def sweep(self, clock: float, elapsed_s: float) -> None:
        """Look at the limits of time; `clock` began a phase at most a period before it really began."""
        if self._is_slow_reader(elapsed_s):
            self._edge.counts.slow_readers += 1
            self._reset()
            return
        if self.transport.is_closing():
            return
        limits, phase = self._edge.limits, self._phase
        age_s = clock - self._since - self._edge.period_s
        if phase is WAITING:
            self._sweep_idle(age_s)
        elif phase is HEADER:
            if self.flow.read_paused:
                self._since = clock
            elif age_s >= limits.header_s:
                self._edge.counts.header_timeouts += 1
                detail = f"the header was not complete after {limits.header_s:g} s (setting PULLBACK_HEADER_TIMEOUT_S)"
                self._refuse("request-timeout", detail)
        elif phase is REQUEST:
            self._sweep_body(elapsed_s)
        elif phase is UNREAD:
            if age_s >= limits.header_s:
                self.transport.close()
        elif self._last_words is None and age_s >= LINGER_S:
            self.transport.close()

    def _sweep_idle(self, age_s: float) -> None:
        if self.has_asked():
            if age_s >= self.timeout_keep_alive:
                self.transport.close()
        elif age_s >= self._edge.limits.header_s:
            self._edge.counts.idle_closed += 1
            self.transport.close()

    def _sweep_body(self, elapsed_s: float) -> None:
        """Refuse a body that comes too slowly; time stops while the application does not take it or did not ask."""
        cycle, limits = self.cycle, self._edge.limits
        if not cycle.more_body or cycle.response_complete or self.flow.read_paused or cycle.waiting_for_100_continue:
            return
        self._arrival = arrival = self._arrival or Arrival()
        if arrival.is_slow(elapsed_s, limits):
            self._edge.counts.slow_bodies += 1
            detail = (
                f"of the body {arrival.payload:,} bytes came in {arrival.waited_s:.1f} s; expected at least "
                f"{limits.rate:,} bytes a second (setting PULLBACK_MIN_TRANSFER_RATE)"
            )
            self._refuse("request-timeout", detail)

    def _is_slow_reader(self, elapsed_s: float) -> bool:
        """Return whether the client takes an answer too slowly.

        Looked at only while nothing is written: then the buffer shrinks by what the client takes.
        """
        size = self.transport.get_write_buffer_size()
        if size:
            # The transport's buffer stands still until the kernel's, which may be larger, has room again.
            size += _queued(self.transport)
        has_ended = self._phase is WAITING or (self._phase is LEAVING and self._last_words is None)
        if not size or not (self.flow.write_paused or has_ended or self.transport.is_closing()):
            self._departure.begin_anew()
            return False
        return self._departure.is_slow(size, self._since, elapsed_s, self._edge.limits)


def guarded(limits: EdgeLimits) -> type[GuardedProtocol]:
    """Return the protocol with limits of its own, for a server beside others in one process."""
    return type("GuardedProtocol", (GuardedProtocol,), {"limits": limits})


def _queued(transport: asyncio.Transport) -> int:
    """Return the bytes of a connection that the kernel has taken and its client has not; 0 if nobody says."""
    sock = transport.get_extra_info("socket")
    if sock is None or termios is None:
        return 0
    with contextlib.suppress(OSError):
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return 0
