"""Clients that cost little beside what they measure: many connections that are kept alive, or one that blocks.

Requests are bytes made beforehand; of a response only the status and the length are looked at.
"""

import asyncio
import itertools
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import numpy as np
import uvloop

HOST = "127.0.0.1"
#: Far more than any round takes: a server that stopped answering ends the run.
ROUND_LIMIT_S = 120


def post(path: str, body: bytes, content_type: str) -> bytes:
    """A whole request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def expected_length(head: bytes) -> int:
    """How many bytes of a body follow the head of a response.

    Raises:
        ValueError: the response is no 200.
    """
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"expected 200 OK, got {head.decode(errors='replace')}")
    lowered = head.lower()
    start = lowered.index(b"content-length:") + len(b"content-length:")
    return int(lowered[start:].partition(b"\r\n")[0])


@dataclass(frozen=True, slots=True)
class Round:
    """Complete answers a second, and how long the slowest but one in a hundred took."""

    rate: float
    p99_s: float


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the one before is there."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.done: asyncio.Future[None] | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed a connection"))

    def start(self, requests: Iterator[bytes], deadline: float) -> asyncio.Future[None]:
        """Take requests, at least one, until there are none left or the time is up."""
        self.seconds, self._requests, self._deadline = [], requests, deadline
        self.done = asyncio.get_running_loop().create_future()
        self._next(time.perf_counter())
        return self.done

    def _next(self, now: float) -> None:
        request = next(self._requests, None) if not self.seconds or now < self._deadline else None
        if request is None:
            assert self.done is not None
            self.done.set_result(None)
            return
        self._sent = now
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        try:
            if not end or len(body) < expected_length(head):
                return
        except ValueError as error:
            assert self.done is not None
            self.done.set_exception(ValueError(f"{error}: {body.decode(errors='replace')}"))
            return
        self._received = b""
        now = time.perf_counter()
        self.seconds.append(now - self._sent)
        self._next(now)


class Load:
    """Connections to one server, kept alive from round to round."""

    def __init__(self, port: int, connections: int) -> None:
        self._port, self._count = port, connections

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._connections = self._runner.run(self._connect())
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for connection in self._connections:
            connection.done = None
            connection.transport.close()
        self._runner.close()

    async def _connect(self) -> list[_Connection]:
        loop = asyncio.get_running_loop()
        return [(await loop.create_connection(_Connection, HOST, self._port))[1] for _ in range(self._count)]

    def run(self, requests: Iterable[bytes], seconds: float = ROUND_LIMIT_S) -> Round:
        """Send requests on all connections at once until there are none left or the time is up; one each at least."""
        return self._runner.run(self._round(iter(requests), seconds))

    async def _round(self, requests: Iterator[bytes], seconds: float) -> Round:
        start = time.perf_counter()
        async with asyncio.timeout(ROUND_LIMIT_S):
            await asyncio.gather(*(each.start(requests, start + seconds) for each in self._connections))
        elapsed = time.perf_counter() - start
        latencies = list(itertools.chain.from_iterable(each.seconds for each in self._connections))
        return Round(len(latencies) / elapsed, float(np.quantile(latencies, 0.99)))


class Exchange:
    """One connection that blocks, for bodies of megabytes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=ROUND_LIMIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> memoryview:
        """The body of the answer."""
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError("the server closed the connection")
            received += more
        head, _, begun = received.partition(b"\r\n\r\n")
        body = memoryview(bytearray(expected_length(head)))
        body[: len(begun)] = begun
        filled = len(begun)
        while filled < len(body):
            filled += self._socket.recv_into(body[filled:])
        return body
