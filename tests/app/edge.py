"""A server with the guarded protocol in a thread of the test, under an application that has next to nothing to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import orjson
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.edge.connection import STATE_KEY
from app.edge.guard import guarded
from app.edge_limits import EdgeCounts, EdgeLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: A bound for what hangs; a busy machine comes nowhere near it.
PATIENCE_S = 60
PAUSE_S = 0.01
HOST = "127.0.0.1"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
WELL = GET + b"Connection: close\r\n\r\n"
LARGE_BYTES = 24 * 2**20
PIECE_BYTES = 256 * 2**10


def until(holds: Callable[[], bool]) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(PAUSE_S)


@dataclass
class App:
    """`/hold` is answered once `gate` is opened, `/echo` with the body and the headers, `/large` with much."""

    held: int = 0
    gone: int = 0
    gate: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        content, step = b"ok", LARGE_BYTES
        if scope["path"] == "/hold":
            self.held += 1
            while not self.gate.is_set():
                await asyncio.sleep(PAUSE_S)
        elif scope["path"] == "/echo":
            body, more = b"", True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.gone += 1
                    return
                body, more = body + message["body"], message["more_body"]
            headers = [[name.decode(), value.decode()] for name, value in scope["headers"]]
            content = orjson.dumps({"body": body.decode(), "headers": headers, "client": scope["client"][0]})
        elif scope["path"].startswith("/large"):
            content, step = b"x" * LARGE_BYTES, PIECE_BYTES if scope["path"] == "/large-in-pieces" else LARGE_BYTES
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(content))]}
        )
        for start in range(0, len(content), step):
            more = start + step < len(content)
            await send({"type": "http.response.body", "body": content[start : start + step], "more_body": more})


@dataclass
class Edge:
    """A running server."""

    port: int
    app: App
    uvicorn: Server
    opened: list[socket.socket] = field(default_factory=list)

    @property
    def counts(self) -> EdgeCounts:
        return cast("EdgeCounts", self.uvicorn.lifespan.state[STATE_KEY].counts)

    @property
    def connections(self) -> int:
        return len(self.uvicorn.server_state.connections)

    def connect(self, *pieces: bytes, source: str = HOST) -> socket.socket:
        """A connection from an address of this machine, on which something was sent; closed with the server."""
        connection = socket.create_connection((HOST, self.port), timeout=PATIENCE_S, source_address=(source, 0))
        self.opened.append(connection)
        for piece in pieces:
            connection.sendall(piece)
        return connection

    def talk(self, *pieces: bytes, source: str = HOST) -> bytes:
        """All that is answered to some bytes until the connection is closed."""
        with self.connect(source=source) as connection:
            with contextlib.suppress(ConnectionError):  # closed while there was more to send
                for piece in pieces:
                    connection.sendall(piece)
            return read_all(connection)

    def assert_well(self, source: str = HOST) -> None:
        answer = self.talk(WELL, source=source)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\nok"), answer


def read_all(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes; a reset is an end too."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(2**16):
            received += piece
    return received


def read_answer(connection: socket.socket, ending: bytes = b"\r\n\r\nok") -> bytes:
    """One answer on a connection that is kept open."""
    received = b""
    while not received.endswith(ending):
        piece = connection.recv(2**16)
        assert piece, received
        received += piece
    return received


@dataclass(frozen=True)
class Problem:
    status: int
    slug: str
    detail: str
    headers: dict[str, str]
    document: dict[str, Any]


def problem_of(answer: bytes) -> Problem:
    """Read an answer that is one problem document and nothing else."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = dict(each.split(": ", 1) for each in fields)
    document = orjson.loads(body)
    status = int(line.split()[1])
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-length"] == str(len(body))
    assert headers["connection"] == "close"
    assert headers["pullback-version"]
    assert headers["x-request-id"] == document["request_id"]
    assert document["status"] == status
    assert document["errors"] == []
    return Problem(status, document["type"].removeprefix("/problems/"), document["detail"], headers, document)


@contextlib.contextmanager
def edge(
    limits: EdgeLimits | None,
    keep_alive_s: float = PATIENCE_S,
    host: str = HOST,
    loop: Literal["uvloop", "asyncio"] = "uvloop",
) -> Iterator[Edge]:
    """Run a server; without limits it is uvicorn's own protocol."""
    app = App()
    protocol = HttpToolsProtocol if limits is None else guarded(limits)
    options: Any = {"loop": loop, "http": protocol, "timeout_keep_alive": keep_alive_s, "host": host}
    config = Config(app, log_config=None, ws="none", lifespan="off", proxy_headers=False, **options)
    server = Server(config)
    listener = socket.create_server((HOST, 0), backlog=512)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    opened: list[socket.socket] = []
    try:
        until(lambda: server.started)
        running = Edge(listener.getsockname()[1], app, server, opened)
        # The first connection makes what all of them share.
        running.assert_well()
        until(lambda: running.connections == 0)
        yield running
    finally:
        for connection in opened:
            connection.close()
        app.gate.set()
        server.should_exit = server.force_exit = True
        thread.join(PATIENCE_S)
        listener.close()
        assert not thread.is_alive()
