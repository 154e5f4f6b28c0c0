"""A proxy between a client and a server: it counts what passes, and disturbs what it is told to disturb."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Self

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PATIENCE_S = 60
#: What a proxy may do with a request. `lose`, `late` and `hold` wait until the client has hung up: the first never
#: passes the request on, the second does it then, the third did it before.
FAULTS = ("drop_before", "drop_after", "delay", "duplicate", "truncate", "busy", "late")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nbusy"

#: What a server whose queue is full answers; the request is not passed on.
PROBLEM = (
    b'{"type":"/problems/overloaded","title":"Overloaded","status":503,"detail":"the queue is full","errors":[],'
    b'"request_id":"r1"}'
)
OVERLOADED = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 0\r\n"
    b"Pullback-Version: 0.1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(PROBLEM), PROBLEM)
)


@dataclass(slots=True)
class Message:
    """A request or an answer as it is on the wire."""

    head: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        return self.head + self.body

    @property
    def first_line(self) -> list[str]:
        return self.head.split(b"\r\n", 1)[0].decode().split(" ")


def read_message(stream: BinaryIO) -> Message | None:
    """The next message, None where the other side closed; one that is cut off is an OSError."""
    head = stream.readline()
    if not head:
        return None
    length = 0
    while (line := stream.readline()) != b"\r\n":
        if not line:
            raise OSError("cut off")
        name, _, value = line.partition(b":")
        assert name.lower() != b"transfer-encoding", "the proxy reads messages of a stated length only"
        if name.lower() == b"content-length":
            length = int(value)
        head += line
    body = stream.read(length)
    if len(body) < length:
        raise OSError("cut off")
    return Message(head + line, body)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that came, what was done with it, and the status that the client was sent."""

    method: str
    path: str
    sent_bytes: int
    fault: str | None
    status: int | None


class Proxy:
    """Listens on a free port for a server on another one.

    Args:
        port: of the server.
        choose: says by a request's number, from 0, what happens to it: FAULTS, `lose`, `hold`, `overloaded`; or None.
        change: makes another answer of the server's.
        seed: of what is left to chance: where an answer is cut, and which of two is sent.
    """

    def __init__(
        self,
        port: int,
        choose: Callable[[int], str | None] = lambda number: None,
        change: Callable[[Message], Message] = lambda answer: answer,
        seed: int = 0,
    ) -> None:
        self.choose, self.change = choose, change
        self.exchanges: list[Exchange] = []
        self.connections = 0
        #: Set while a request of `lose`, `late` or `hold` waits for its client to hang up.
        self.waiting = threading.Event()
        self._upstream = port
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._count = 0
        self._closing = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        port = free_port()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=200)
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for client in self._open:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    @property
    def count(self) -> int:
        """Requests so far."""
        return len(self.exchanges)

    @property
    def sent_bytes(self) -> int:
        """Bytes of the requests so far."""
        return sum(exchange.sent_bytes for exchange in self.exchanges)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(client)
                self.connections += 1
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with client, client.makefile("rb") as stream, contextlib.suppress(OSError):
                while (request := read_message(stream)) is not None and self._pass(client, request):
                    pass
        finally:
            with self._lock:
                self._open.discard(client)

    def _pass(self, client: socket.socket, request: Message) -> bool:
        """Does with a request what was chosen; whether the connection goes on."""
        with self._lock:
            fault = self.choose(self._count)
            self._count += 1
            chance = self._random.random()
        answer = self._answer(client, request, fault, chance)
        method, path, _ = request.first_line
        status = None if answer is None else int(Message(answer, b"").first_line[1])
        with self._lock:
            self.exchanges.append(Exchange(method, path, len(request.raw), fault, status))
        if answer is None:
            if chance < 0.5:  # a reset in place of an orderly end
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if fault == "truncate":
            client.sendall(answer[: int(chance * len(answer))])
            return False
        client.sendall(answer)
        return True

    def _answer(self, client: socket.socket, request: Message, fault: str | None, chance: float) -> bytes | None:
        match fault:
            case "busy":
                return BUSY
            case "overloaded":
                return OVERLOADED
            case "drop_before":
                return None
            case "drop_after":
                self._forward(request)
                return None
            case "delay":
                threading.Event().wait(0.02 * chance)
            case "duplicate":
                answers = self._twice(request)
                return answers[int(chance * len(answers))].raw
            case "lose":
                self._wait_for_the_end_of(client)
                return None
            case "late":
                self._wait_for_the_end_of(client)
                self._forward(request)
                return None
            case "hold":
                self._forward(request)
                self._wait_for_the_end_of(client)
                return None
            case _:
                assert fault in (None, "truncate"), fault
        return self._forward(request).raw

    def _forward(self, request: Message) -> Message:
        with (
            socket.create_connection(("127.0.0.1", self._upstream), timeout=PATIENCE_S) as server,
            server.makefile("rb") as stream,
        ):
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.sendall(request.raw)
            answer = read_message(stream)
        if answer is None:
            raise OSError("the server closed")
        return self.change(answer)

    def _twice(self, request: Message) -> list[Message]:
        """The answers to a request that is sent on two connections at once."""
        answers: list[Message] = []

        def forward() -> None:
            answers.append(self._forward(request))

        threads = [threading.Thread(target=forward) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def _wait_for_the_end_of(self, client: socket.socket) -> None:
        self.waiting.set()
        try:
            select.select([client], [], [], PATIENCE_S)
        finally:
            self.waiting.clear()
