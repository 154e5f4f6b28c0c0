"""A process that has everything imported, has one thread, and forks workers: `python -m app.workers.zygote FD`.

FD is a socket of the pool's process. Messages are words; with "fork" comes the socket of the new worker.

    pool: {"factory": .., "settings": .., "data_bytes": .., "log_format": ..}
    pool: fork                                  zygote: forked PID
    pool: kill PID                              zygote: killed PID
"""

import contextlib
import gc
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from app import logs
from app.workers import worker

_log = logging.getLogger("pullback")

_LONGEST = 1 << 20
#: A fork that failed is tried once more after this time, in seconds; then the process gives up, and another is started.
_AGAIN_S = 1.0


class Zygote:
    """Forks workers, and reaps them.

    Args:
        control: the socket of the pool's process.
        service: what workers answer for.
        data_bytes: memory that a worker may take beyond what it has at its start.
    """

    def __init__(self, control: socket.socket, service: Any, data_bytes: int) -> None:
        self._control = control
        self._service = service
        self._data_bytes = data_bytes
        self._children: set[int] = set()
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        self._wake = wake
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def run(self) -> None:
        """Serve the pool until its process closes the socket or ends."""
        while True:
            ready, _, _ = select.select([self._control.fileno(), self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._control.fileno() in ready:
                message, fds, _, _ = socket.recv_fds(self._control, _LONGEST, 1)
                if not message:
                    break
                self._obey(message.split(), fds)
        for pid in self._children:
            self._kill(pid)

    def _obey(self, words: list[bytes], fds: list[int]) -> None:
        if words[0] == b"fork":
            self._fork(socket.socket(fileno=fds[0]))
            return
        pid = int(words[1])
        if pid in self._children:
            # It was not reaped yet, so that nobody else has its number.
            self._kill(pid)
        self._control.send(b"killed %d" % pid)

    def _fork(self, sock: socket.socket) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            _log.error("no worker process can be forked now: %s", error)
            time.sleep(_AGAIN_S)
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self._control.close()
                os.close(self._woken)
                os.close(self._wake)
                os.setpgid(0, 0)
                worker.run(sock, self._service, parent, self._data_bytes)
                code = 0
            except (BrokenPipeError, ConnectionResetError):
                # The pool's process has gone.
                pass
            except Exception:  # noqa: BLE001 - the process ends, and another one is forked
                _log.exception("a worker process ends")
            finally:
                os._exit(code)
        sock.close()
        # A group of its own, with the programs that it starts. Both processes say so, whoever is first.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._children.add(pid)
        self._control.send(b"forked %d" % pid)

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while self._children:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)


def main() -> None:
    """Import the service, and serve the pool at the other end of the socket."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # They go to all processes of a terminal; the pool's process decides.
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    given = json.loads(control.recv(_LONGEST))
    module, _, name = given["factory"].partition(":")
    logs.configure(given["log_format"] == "json")
    service = getattr(importlib.import_module(module), name)(given["settings"])
    gc.collect()
    gc.freeze()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        Zygote(control, service, given["data_bytes"]).run()


if __name__ == "__main__":
    main()
