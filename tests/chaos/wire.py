"""HTTP/1.1 over sockets of which an attack has every byte in its hand, with the source address that it chooses."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
JSON = "application/json"
MSGPACK = "application/msgpack"
_PIECE = 1 << 18
_CRLF2 = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """The first lines of an answer; `length` is -1 where the answer ends with its connection."""

    status: int
    length: int
    keeps_open: bool


def request(path: str, document: Any = None, *headers: tuple[str, str], method: str = "POST") -> bytes:
    """Return a request as bytes; a document that is bytes is sent as it is, and no document has no body."""
    body = document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
    own = () if document is None else (("Content-Type", JSON),)
    return head(path, (*own, ("Content-Length", str(len(body))), *headers), method) + body


def head(path: str, headers: Iterable[tuple[str, str]] = (), method: str = "POST", version: str = "1.1") -> bytes:
    """Return a request's line and headers; of two with one name the last is taken."""
    lines = {name.lower(): f"{name}: {value}\r\n" for name, value in headers}
    return f"{method} {path} HTTP/{version}\r\nHost: {HOST}\r\n{''.join(lines.values())}\r\n".encode()


class Connection:
    """A connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, source: str, receive_bytes: int = 0) -> Connection:
        """Connect from an address, with a receive buffer of that size where one is given."""
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            sock.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(sock, (HOST, port))
            return cls(*await asyncio.open_connection(sock=sock, limit=receive_bytes or _PIECE))
        except BaseException:
            sock.close()
            raise

    async def write(self, data: bytes) -> None:
        """Send bytes and wait until there is room for more."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Head:
        """Read the first lines of an answer.

        Raises:
            EOFError: the connection ends before.
        """
        lines = (await self.reader.readuntil(_CRLF2)).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        closes = fields.get("connection") == "close" or lines[0].startswith("http/1.0")
        return Head(int(lines[0].split(" ")[1]), int(fields.get("content-length", -1)), not closes)

    async def body(self, length: int, keep: bool = False) -> bytes:
        """Read a body and return it, or nothing if it is not to be kept.

        Raises:
            EOFError: the connection ends before.
        """
        if keep:
            return await (self.reader.readexactly(length) if length >= 0 else self.reader.read())
        while length:
            piece = await self.reader.read(_PIECE if length < 0 else min(length, _PIECE))
            if not piece:
                if length < 0:
                    return b""
                raise EOFError("the body ends early")
            length -= len(piece) if length > 0 else 0
        return b""

    def close(self) -> None:
        """Drop the connection at once."""
        self.writer.transport.abort()
