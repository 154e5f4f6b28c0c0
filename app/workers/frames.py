"""Frames between the event loop and a worker process: calls one way, answers the other, and requests for memory.

A frame is a kind, the lengths of its two parts, a tuple in Python's `marshal` format, and bytes. Both ends are
processes of one server, of the same version.
"""

import marshal
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from app.http.messages import Answer, Call, Measure
from app.http.spool import FileBody
from app.stores.owners import Allowance, Caller

_HEAD = struct.Struct("<BIQ")
#: Kinds. A worker that ran out of memory sends WANT and gets GRANT, with the bytes that it may ask for. One that has a
#: long answer sends OFFER, with its length, and gets TAKE once there is room for it, with the path of the file that it
#: writes the body to.
CALL, ANSWER, WANT, GRANT, OFFER, TAKE = range(6)
#: Answers from this length on are offered.
OFFERED_BYTES = 2**20


class Frame(NamedTuple):
    """One message; `about` is what marshal takes."""

    kind: int
    about: tuple[Any, ...]
    body: bytes = b""

    def parts(self) -> list[bytes]:
        """Return the bytes of the frame, in pieces that need not be joined."""
        about = marshal.dumps(self.about)
        return [_HEAD.pack(self.kind, len(about), len(self.body)) + about, self.body]


def of_call(call: Call, data_bytes: int) -> Frame:
    """Return a call as a frame, with the memory that the worker may ask for; 0 if as much as usual."""
    owner, is_admin, allowance = call.caller
    caller = owner, is_admin, tuple(allowance)
    about = call.method, call.path, call.query, list(call.headers), call.client, call.request_id, caller, data_bytes
    return Frame(CALL, about, call.body)


def to_call(frame: Frame) -> tuple[Call, int]:
    """Return the call of a frame, and the memory that may be asked for."""
    method, path, query, headers, client, request_id, (owner, is_admin, allowance), data_bytes = frame.about
    caller = Caller(owner, is_admin, Allowance(*allowance))
    return Call(method, path, query, headers, client, request_id, frame.body, caller), data_bytes


def of_answer(answer: Answer, cpu_s: float, is_in_file: bool) -> Frame:
    """Return an answer as a frame, with the processor time that all of it took.

    is_in_file: whether its body was written to the file that was given for it.
    """
    measure = None if answer.measure is None else tuple(answer.measure)
    about = answer.status, answer.headers, measure, cpu_s, is_in_file
    return Frame(ANSWER, about, b"" if is_in_file else answer.content())


def to_answer(frame: Frame, file: FileBody | None) -> tuple[Answer, float]:
    """Return the answer of a frame, whose body may be in a file, and its processor time in seconds."""
    status, headers, measure, cpu_s, is_in_file = frame.about
    body = file if is_in_file and file is not None else frame.body
    return Answer(status, headers, body, None if measure is None else Measure(*measure)), cpu_s


def send(sock: socket.socket, frame: Frame) -> None:
    """Send a frame on a blocking socket."""
    head, body = frame.parts()
    if len(body) < 1 << 16:
        sock.sendall(head + body)
    else:
        sock.sendall(head)
        sock.sendall(body)


def receive(sock: socket.socket) -> Frame | None:
    """Return the next frame of a blocking socket, None after its end."""
    head = _exactly(sock, _HEAD.size)
    if not head:
        return None
    kind, about, body = _HEAD.unpack(head)
    return Frame(kind, marshal.loads(_exactly(sock, about)), _exactly(sock, body))


def _exactly(sock: socket.socket, nbytes: int) -> bytes:
    """Return the next bytes, or nothing if the other end has closed."""
    found = sock.recv(nbytes, socket.MSG_WAITALL) if nbytes else b""
    if 0 < len(found) < nbytes:
        rest = [found]
        left = nbytes - len(found)
        while left and (piece := sock.recv(left, socket.MSG_WAITALL)):
            rest.append(piece)
            left -= len(piece)
        found = b"".join(rest) if not left else b""
    return found


class Reader:
    """Puts frames together from the pieces in which they arrive; calls `on_frame` with each."""

    def __init__(self, on_frame: Callable[[Frame], None]) -> None:
        self._on_frame = on_frame
        self._waiting = bytearray()
        self._needed = _HEAD.size

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        waiting = self._waiting
        waiting += piece
        while len(waiting) >= self._needed:
            kind, about, body = _HEAD.unpack_from(waiting)
            start, end = _HEAD.size + about, _HEAD.size + about + body
            if len(waiting) < end:
                self._needed = end
                return
            with memoryview(waiting) as view:
                frame = Frame(kind, marshal.loads(view[_HEAD.size : start]), bytes(view[start:end]))
            del waiting[:end]
            self._needed = _HEAD.size
            self._on_frame(frame)
