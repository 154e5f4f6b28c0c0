"""The pool's side of the zygote, from which worker processes come, and of the sockets of its workers."""

import asyncio
import errno
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from app.errors import WorkerDiedError
from app.workers import frames

_log = logging.getLogger("pullback")

#: More threads of BLAS would spin against each other, and give other bits on other machines.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_LONGEST = 1 << 12
#: Time after which what failed is tried again, in seconds.
_AGAIN_S = 1.0
#: Time between two looks at a zygote that was asked for something; it is ended where it has not answered for so long,
#: or at its start for longer, since it has much to import.
_LOOK_S, _SILENT_S, _STARTING_S = 0.5, 5.0, 60.0
#: Errors of a socket whose other end has closed.
_ENDED = errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN
#: A stopping zygote is waited for so long, in seconds.
_STOP_S = 5.0


class Channel(asyncio.Protocol):
    """The pool's end of the socket of one worker."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader: frames.Reader | None = None
        self._on_end: Callable[[], None] = lambda: None
        self._has_ended = False

    def listen(self, on_frame: Callable[[frames.Frame], None], on_end: Callable[[], None]) -> None:
        """Say what happens with the frames of the worker, and when its process has ended."""
        self._reader = frames.Reader(on_frame)
        self._on_end = on_end
        if self._has_ended:
            on_end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Those of uvloop do not say that they are one.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a frame."""
        if self._reader is not None:
            self._reader.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end of the process."""
        self._has_ended = True
        self._on_end()

    def send(self, frame: frames.Frame) -> None:
        """Send a frame to the worker."""
        if self._transport is not None:
            self._transport.writelines(frame.parts())

    def close(self) -> None:
        """Close the socket; the end of the process is not reported any more."""
        self._on_end = lambda: None
        self._reader = None
        if self._transport is not None:
            self._transport.abort()


class Nursery:
    """Makes and kills worker processes.

    Args:
        factory: module and name of the function that makes a worker's service from `settings`.
        settings: the settings as JSON.
        data_bytes: memory that a worker may take beyond what it has at its start.
        log_format: "text" or "json".
    """

    def __init__(self, factory: str, settings: str, data_bytes: int, log_format: str) -> None:
        plan = {"factory": factory, "settings": settings, "data_bytes": data_bytes, "log_format": log_format}
        self._plan = json.dumps(plan).encode()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._on_worker: Callable[[int, Channel], None] = lambda pid, channel: None
        #: Sockets of workers that were asked for, in the order of the requests.
        self._asked: deque[socket.socket] = deque()
        #: Messages for which the zygote's socket has no room yet, those that ask for a worker with its end of a socket.
        self._unsent: deque[tuple[bytes, socket.socket | None]] = deque()
        #: Number of processes of which the zygote has not said yet that it killed them.
        self._unkilled = 0
        self._looks = 0
        self._looking: asyncio.TimerHandle | None = None
        self._has_forked = False
        self._first: asyncio.Future[None] | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._launched_at = 0.0
        #: Workers that were asked for while there was no zygote.
        self._wanted = 0

    async def start(self, on_worker: Callable[[int, Channel], None]) -> None:
        """Start the process that forks workers; each of them is given to `on_worker`."""
        self._on_worker = on_worker
        self._first = asyncio.get_running_loop().create_future()
        self._listen()

    def launch(self) -> None:
        """Start the process that forks workers, which takes a second, before there is an event loop."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "app.workers.zygote", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=os.environ | _ONE_THREAD)
        theirs.close()
        self._launched_at = time.monotonic()
        ours.setblocking(False)
        ours.send(self._plan)
        self._control = ours

    def _listen(self) -> None:
        if self._control is None:
            self.launch()
        assert self._control is not None
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._on_message)

    async def first_worker(self) -> None:
        """Wait until there is a worker.

        Raises:
            WorkerDiedError: there will not be one.
        """
        assert self._first is not None
        await self._first

    def fork(self, delay_s: float = 0.0) -> None:
        """Ask for one more worker, at once or later."""
        if self._is_closed:
            return
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self.fork)
            return
        if self._control is None:
            self._wanted += 1
            return
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            _log.error("no worker process can be made now: %s", error)
            self.fork(_AGAIN_S)
            return
        ours.setblocking(False)
        self._asked.append(ours)
        self._send(b"fork", theirs)

    def kill(self, pid: int) -> None:
        """Kill a worker, and all that it has started."""
        if self._control is not None:
            self._unkilled += 1
            self._send(b"kill %d" % pid, None)

    def _send(self, message: bytes, theirs: socket.socket | None) -> None:
        """Send a message to the zygote, after those that wait for room in its socket; it answers each."""
        self._unsent.append((message, theirs))
        if len(self._unsent) == 1:
            self._flush()
        if self._looking is None:
            self._looks = 0
            self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _flush(self) -> None:
        """Send what waits, as far as there is room."""
        assert self._control is not None
        loop = asyncio.get_running_loop()
        while self._unsent:
            message, theirs = self._unsent[0]
            try:
                if theirs is None:
                    self._control.send(message)
                else:
                    socket.send_fds(self._control, [message], [theirs.fileno()])
            except BlockingIOError:
                loop.add_writer(self._control.fileno(), self._flush)
                return
            except OSError as error:
                loop.remove_writer(self._control.fileno())
                if error.errno in _ENDED:
                    # Its end is heard of soon, and all workers are asked for again.
                    return
                _log.error("the process that forks workers cannot be reached now: %s", error)
                loop.call_later(_AGAIN_S, self._flush_again, self._control)
                return
            self._unsent.popleft()
            if theirs is not None:
                theirs.close()
        loop.remove_writer(self._control.fileno())

    def _flush_again(self, control: socket.socket) -> None:
        if self._control is control:
            self._flush()

    def _look(self) -> None:
        """Look whether the zygote answers; end it where it has not for long: it forks and kills nobody.

        All workers end with it, those too that were to be killed.

        Looks are counted, not seconds: while this process stood still, nothing could be heard.
        """
        self._looking = None
        if not (self._asked or self._unkilled) or self._process is None:
            return
        self._looks += 1
        if self._looks * _LOOK_S >= (_SILENT_S if self._has_forked else _STARTING_S):
            _log.error("the process that forks workers does not answer; it is ended")
            self._process.kill()
        else:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _on_message(self) -> None:
        assert self._control is not None
        try:
            message = self._control.recv(_LONGEST)
        except BlockingIOError:
            return
        except ConnectionResetError:
            message = b""
        if not message:
            self._on_end()
            return
        self._looks, self._has_forked = 0, True
        done, pid = message.split()
        if done == b"killed":
            self._unkilled -= 1
            return
        task = asyncio.ensure_future(self._connect(int(pid), self._asked.popleft()))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, pid: int, sock: socket.socket) -> None:
        channel = Channel()
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=sock)
        self._on_worker(pid, channel)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    def _on_end(self) -> None:
        """Notice that the zygote has ended: start another one, for the workers have ended with it."""
        self._let_go()
        if self._first is not None and not self._first.done():
            self._first.set_exception(
                WorkerDiedError("the process that forks workers did not start; see its log above")
            )
        elif not self._is_closed:
            _log.error("the process that forks workers has ended; starting another one")
            asked = len(self._asked)
            for sock in self._asked:
                sock.close()
            self._asked.clear()
            lived_s = time.monotonic() - self._launched_at
            asyncio.get_running_loop().call_later(0.0 if lived_s > _AGAIN_S else _AGAIN_S, self._restart, asked)

    def _restart(self, asked: int) -> None:
        """Start the zygote again, and ask for workers that the last one did not make."""
        if self._is_closed:
            return
        try:
            self._listen()
        except OSError as error:
            _log.error("the process that forks workers cannot be started now: %s", error)
            asyncio.get_running_loop().call_later(_AGAIN_S, self._restart, asked)
            return
        for _ in range(asked + self._wanted):
            self.fork()
        self._wanted = 0

    def _let_go(self) -> None:
        for _, theirs in self._unsent:
            if theirs is not None:
                theirs.close()
        self._unsent.clear()
        self._unkilled = 0
        self._has_forked = False
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._control is not None:
            if self._first is not None:
                asyncio.get_running_loop().remove_reader(self._control.fileno())
                asyncio.get_running_loop().remove_writer(self._control.fileno())
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def close(self) -> None:
        """End all processes."""
        self._is_closed = True
        self._let_go()
        for sock in self._asked:
            sock.close()
        self._asked.clear()
