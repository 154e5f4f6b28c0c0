"""One connection: its phase, and how it ends, with a problem or without one, behind all that is under way."""

import asyncio
import contextlib
import socket
import struct
from enum import Enum, auto
from typing import Any, ClassVar

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.edge.refusals import refusal
from app.edge.state import Edge
from app.edge.turns import Flow
from app.edge_limits import EdgeLimits
from app.settings import load_settings

#: Key of the `Edge` in the state of the application: `request.state.edge.counts`.
STATE_KEY = "edge"
#: Bytes and time that a refused client is listened to: closed while it still sends, it would lose the answer.
LINGER_BYTES, LINGER_S = 16 * 2**20, 1.0
#: A socket that is closed with this sends a reset and drops what waits; else the kernel goes on sending megabytes.
_NO_LINGER = struct.pack("ii", 1, 0)


class Phase(Enum):
    """Of a connection."""

    WAITING = auto()  #: for the first byte of a request
    HEADER = auto()  #: some of it is there
    REQUEST = auto()  #: a body arrives, or an answer is awaited
    UNREAD = auto()  #: answered before the body was there; it may still come
    LEAVING = auto()  #: refused; what comes is thrown away


# Looked up for each request: a name of the module is faster than a member of an Enum.
WAITING, HEADER, REQUEST, UNREAD, LEAVING = (
    Phase.WAITING,
    Phase.HEADER,
    Phase.REQUEST,
    Phase.UNREAD,
    Phase.LEAVING,
)


class Connection(HttpToolsProtocol):
    """A connection that can be refused, and left. Limits are those of the settings, or of a class of their own.

    address: that the connection counts for; None if it is a proxy's.
    """

    limits: ClassVar[EdgeLimits | None] = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        if STATE_KEY not in app_state:
            limits = self.limits or load_settings().edge_limits()
            app_state[STATE_KEY] = Edge(limits, config, self.loop)
        self._edge: Edge = app_state[STATE_KEY]
        # There are no WebSockets here, whatever libraries are installed.
        self.ws_protocol_class = None
        self.address: str | None = None
        self._phase = WAITING
        #: By the table's clock: when the phase began.
        self._since = self._edge.clock
        #: Bytes of a header, or of what is thrown away.
        self._taken = 0
        #: A response that follows those under way, and is the last.
        self._last_words: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with a control of reading that others share."""
        super().connection_made(transport)
        self.flow: Flow = Flow(transport)

    def has_asked(self) -> bool:
        """Return whether it ever sent a request."""
        return self.cycle is not None

    def _refuse(self, slug: str, detail: str) -> None:
        """Answer the request that arrives with a problem, as the last of this connection."""
        self._leave(self._answer(slug, detail))

    def _answer(self, slug: str, detail: str) -> bytes:
        # Nothing is known of a request that has not begun.
        sent = (self.headers or ()) if self._phase is HEADER else self.scope["headers"]
        is_head = bool(sent) and self.parser.get_method() == b"HEAD"
        return refusal(slug, detail, sent, self.server_state.default_headers, is_head)

    def _leave(self, last_words: bytes) -> None:
        """Send a last response once those under way are complete, and close."""
        is_mine = self._phase is REQUEST and self.scope is self.cycle.scope
        is_behind = len(self.pipeline) > 0 or not (is_mine or not self.has_asked() or self.cycle.response_complete)
        self._phase, self._since, self._taken = LEAVING, self._edge.clock, 0
        self._last_words = last_words
        if is_behind:
            if is_mine:
                self.pipeline.popleft()
            self.flow.pause_reading()
            return
        if is_mine:
            # The application has the request already, and gets to know that its client is gone.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self._last_words = b""
        self._say_last_words()

    def _say_last_words(self) -> None:
        words, self._last_words = self._last_words, None
        self._since, self._taken = self._edge.clock, 0
        if words:
            self.transport.write(words)
        self.flow.resume_reading()
        self._linger()

    def _linger(self) -> None:
        """Say that no more will come, and wait until the client has read that."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _throw_away(self, received: int) -> None:
        self._taken += received
        if self._last_words is not None:
            self.flow.pause_reading()
        elif self._taken > LINGER_BYTES:
            self._reset()

    def _reset(self) -> None:
        """Close at once, and let go of what waits to be sent, here and in the kernel."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None and raw.family != getattr(socket, "AF_UNIX", None):
            with contextlib.suppress(OSError):  # closed already
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()
