"""Turns of connections: of what arrived a part is parsed at a time, and others are looked at before the next."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

#: Bytes that are parsed at a time: they may take a thousand calls, half a millisecond.
MOST_PARSED = 2 * 2**10
#: A connection has its turn for so many seconds, and for one part at least.
TURN_S = 0.0005
#: All connections together have their turns for so many seconds in each round of the event loop.
ROUND_S = 0.002
#: libuv reads on at once, up to 32 times, where it got as much as it asked for, and uvloop asks for 256,000 bytes.
_MUCH = 2**16


class Flow(FlowControl):
    """Control of reading as uvicorn has it, for a connection that does not read while something waits to be parsed."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._is_held = False

    def pause_reading(self) -> None:
        """Read no more, for uvicorn."""
        if not self.read_paused:
            self.read_paused = True
            self._apply(self._is_held)

    def resume_reading(self) -> None:
        """Read on, for uvicorn."""
        if self.read_paused:
            self.read_paused = False
            self._apply(self._is_held)

    def hold(self, is_held: bool) -> None:
        """Read no more until this is taken back, whatever uvicorn says."""
        if is_held != self._is_held:
            self._is_held = is_held
            self._apply(self.read_paused)

    def _apply(self, is_paused_anyway: bool) -> None:
        # Of a transport that was closed uvloop raises an error.
        if is_paused_anyway or self._transport.is_closing():
            return
        if self.read_paused or self._is_held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class Line:
    """Connections of which something waits to be parsed, for a bounded time in each round of the event loop.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Parts] = deque()

    def __bool__(self) -> bool:
        """Return whether any wait."""
        return bool(self._waiting)

    def add(self, parts: "Parts") -> None:
        """Let a connection wait behind all others."""
        if not self._waiting:
            self._loop.call_soon(self._serve)
        self._waiting.append(parts)

    def _serve(self) -> None:
        """Give turns to those that wait now, as many as there is time for."""
        end = time.perf_counter() + ROUND_S
        for _ in range(len(self._waiting)):
            parts = self._waiting.popleft()
            try:
                if parts.take_turn():
                    self._waiting.append(parts)
            except BaseException:
                self._go_on()
                raise
            if time.perf_counter() >= end:
                break
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            self._loop.call_soon(self._serve)


class Parts:
    """What arrived on a connection and waits to be parsed.

    Args:
        flow: of the connection.
        transport: of the connection.
        parse: takes a part.
        line: of all connections.
    """

    def __init__(
        self, flow: Flow, transport: asyncio.Transport, parse: Callable[[memoryview], None], line: Line
    ) -> None:
        self._flow = flow
        self._transport = transport
        self._parse = parse
        self._line = line
        self._waiting = memoryview(b"")
        self._is_much = False

    def __bool__(self) -> bool:
        """Return whether something waits."""
        return bool(self._waiting)

    def add(self, data: bytes) -> None:
        """Parse what arrived: now if nobody waits, else behind the others."""
        if self._waiting:
            self._waiting = memoryview(bytes(self._waiting) + data)
            return
        self._waiting = memoryview(data)
        self._is_much = len(data) >= _MUCH
        if self._line:
            self._flow.hold(True)
            self._line.add(self)
        elif self.take_turn():
            self._line.add(self)

    def take_turn(self) -> bool:
        """Parse for a turn, and return whether another one is needed; keep nothing of a connection that closes."""
        end = time.perf_counter() + TURN_S
        try:
            while self._waiting and not self._transport.is_closing():
                part = self._waiting[:MOST_PARSED]
                self._waiting = self._waiting[MOST_PARSED:]
                self._parse(part)
                if time.perf_counter() >= end:
                    break
        except BaseException:
            # As an event loop does after an error of its protocol.
            self._transport.abort()
            raise
        if self._transport.is_closing():
            self._waiting = memoryview(b"")
            return False
        is_over = not self._waiting and not self._is_much
        self._is_much = False
        self._flow.hold(not is_over)
        return not is_over
