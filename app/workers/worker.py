"""A worker process: answers one call at a time, until the other end of its socket closes or somebody kills it."""

import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import Protocol

from app.http.messages import Answer, Call
from app.workers import frames
from app.workers.parent import end_with

_log = logging.getLogger("pullback")

#: Priority of workers, as `nice` counts it; that of long work is lower still.
NICE = 5
_PAGE = resource.getpagesize()
#: Where short of memory, the kernel takes a worker before the process that holds the connections.
_OOM_SCORE = "900"


class Service(Protocol):
    """Resources that a worker answers for."""

    def open(self) -> None:
        """Open the store; called after the fork, in which no connection may be shared."""

    def attempt(self, call: Call) -> Answer:
        """Return the answer to a call.

        Raises:
            MemoryError: there was not enough.
        """

    def no_memory(self, call: Call) -> Answer:
        """Return the answer to a call that needs more memory than a worker may take."""

    def no_disk(self, call: Call) -> Answer:
        """Return the answer to a call whose answer could not be written to its file."""


def run(sock: socket.socket, service: Service, parent: int, data_bytes: int) -> None:
    """Work in a process that was forked just now.

    Args:
        sock: where calls come from.
        service: answers them.
        parent: id of the process that forked this one: this one ends with it.
        data_bytes: memory that may be taken beyond what is there now.
    """
    end_with(parent, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN if number != signal.SIGCHLD else signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    # The process that holds the connections goes first.
    os.nice(NICE)
    service.open()
    own = _data_bytes()
    _limit(own + data_bytes)
    while (frame := frames.receive(sock)) is not None:
        start = time.thread_time()
        call, nbytes = frames.to_call(frame)
        answer = None if nbytes else _attempt(service, call)
        if answer is None:
            _limit(own + (nbytes or _granted(sock)))
            answer = _attempt(service, call) or service.no_memory(call)
        cpu_s = time.thread_time() - start
        is_written = False
        if len(answer.body) >= frames.OFFERED_BYTES:
            is_written = _write(sock, answer.content())
            answer = answer if is_written else service.no_disk(call)
        frames.send(sock, frames.of_answer(answer, cpu_s, is_written))


def _write(sock: socket.socket, body: bytes) -> bool:
    """Write a long body to a file, once there is room for it; return whether it could be written."""
    frames.send(sock, frames.Frame(frames.OFFER, (len(body),)))
    (path,) = _next(sock).about
    try:
        with Path(path).open("wb", buffering=0) as file:
            rest = memoryview(body)
            while rest:
                rest = rest[file.write(rest) :]
    except OSError as error:
        _log.error("a long answer cannot be written: %s", error)
        return False
    return True


def _attempt(service: Service, call: Call) -> Answer | None:
    """Return the answer to a call, None if there is not enough memory; what was made so far is freed."""
    try:
        return service.attempt(call)
    except MemoryError:
        return None


def _granted(sock: socket.socket) -> int:
    """Return the bytes that may be asked for, once the pool grants them."""
    gc.collect()
    frames.send(sock, frames.Frame(frames.WANT, ()))
    (nbytes,) = _next(sock).about
    return int(nbytes)


def _next(sock: socket.socket) -> frames.Frame:
    """Return the next frame; end the process if there is none."""
    frame = frames.receive(sock)
    if frame is None:
        os._exit(0)
    return frame


def _data_bytes() -> int:
    """Return the memory that the process has for data, as RLIMIT_DATA counts it."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * _PAGE


def _limit(nbytes: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (nbytes if hard < 0 else min(nbytes, hard), hard))
