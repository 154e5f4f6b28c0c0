"""A server whose processes are killed and stopped at random moments while clients use it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.app.conftest import REQUEST_S, ROOT, Server, environment, stop, wait_until_ready
from tests.app.test_processes import processes
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Between two looks at what is waited for.
PAUSE_S = 0.01
#: Answers between two faults, at most.
MOST_BETWEEN = 12
#: Statuses of a run that may be sent again with its number, whether it was done or not.
AGAIN = (502, 503, 504)
#: Shorter than a user's, so that a process that hangs is soon ended.
DEADLINE_S = 3.0


class Unsteady:
    """A server, as a user starts it, on one port.

    Args:
        folder: for its data and its log.
        rng: chooses the moments and the processes.
        edges: number of processes that hold connections (`--workers`).
        settings: more of them.

    answers: statuses and broken connections that clients saw. faults: what was done, by kind.
    """

    def __init__(self, folder: Path, rng: random.Random, edges: int = 1, **settings: str) -> None:
        self.port = free_port()
        self.answers: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._edges = edges
        self._folder, self._rng = folder, rng
        given = {"data_dir": str(folder / "data"), "deadline_s": str(DEADLINE_S), **settings}
        self._env = environment(**given, workers=str(edges))
        self._lock = threading.Lock()
        self._process = self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _start(self) -> subprocess.Popen[bytes]:
        log = self._folder / "server.log"
        command = [sys.executable, "-m", "app.cli", "serve", "--port", str(self.port)]
        with log.open("ab") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=self._env, stdout=output, stderr=subprocess.STDOUT)
        with httpx.Client(base_url=self.url, timeout=REQUEST_S, trust_env=False) as client:
            wait_until_ready(Server(self.url, process, client), log)
        return process

    def stop(self) -> None:
        stop(self._process)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=REQUEST_S, trust_env=False)

    def post(self, client: httpx.Client, path: str, body: Any, **headers: str) -> httpx.Response:
        """The answer to a call that is repeated until there is one."""
        while True:
            try:
                answer = client.post(path, json=body, headers=headers)
            except httpx.TransportError:
                self._count("broken off")
            else:
                self._count(str(answer.status_code))
                if answer.status_code not in AGAIN:
                    return answer
            time.sleep(PAUSE_S)

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.answers[outcome] += 1

    def disturb(self, plan: Mapping[str, int], check: Callable[[], None]) -> None:
        """Do the faults of a plan in random order, each after some more answers and somewhere in the work for the next.

        check: called while answers are waited for; raises where there will not be any.
        """
        order = [kind for kind, times in plan.items() for _ in range(times)]
        self._rng.shuffle(order)
        for kind in order:
            self._wait(self._rng.randint(1, MOST_BETWEEN), check)
            time.sleep(self._rng.uniform(0.0, PAUSE_S))
            if kind == "server":
                self._kill_server()
            elif kind in ("pause", "hang"):
                self._hold(kind, check)
            else:
                self._send(kind, signal.SIGKILL)
            self.faults[kind] += 1

    def _wait(self, count: int, check: Callable[[], None], until: Callable[[], bool] = lambda: False) -> None:
        """Wait for so many more runs that are done, or for something else."""
        target = self.answers["200"] + count
        while self.answers["200"] < target and not until():
            check()
            time.sleep(self._rng.uniform(0.0, PAUSE_S))

    def _kill_server(self) -> None:
        """Kill the process that was started, and start it again once all that it had made have ended of themselves."""
        family = processes(self._process.pid)
        self._process.kill()
        self._process.wait()
        while any(_is_alive(pid) for pid in family):
            time.sleep(PAUSE_S)
        self._process = self._start()

    def _hold(self, kind: str, check: Callable[[], None]) -> None:
        """Stop a worker, for a few answers of others ("pause") or for many ("hang"), or until the pool ends it."""
        pid = self._send("worker", signal.SIGSTOP)
        # One that has no call to answer is not missed.
        count = MOST_BETWEEN if kind == "pause" else 50 * MOST_BETWEEN
        self._wait(count, check, until=lambda: not _is_alive(pid))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _send(self, role: str, number: int) -> int:
        """Send a signal to a process of this role, once there is one; return its id."""
        while True:
            with contextlib.suppress(ProcessLookupError, IndexError):
                pid = self._rng.choice(self._of_role(role))
                os.kill(pid, number)
                return pid
            time.sleep(PAUSE_S)

    def _of_role(self, role: str) -> list[int]:
        """Ids of the processes of this server that have a role."""
        zygotes, workers, edges = [], [], []
        for pid in sorted(processes(self._process.pid)):
            if "app.workers.zygote" in _command(pid):
                # A fork has the command of the process that made it.
                forked = "app.workers.zygote" in _command(_parent(pid))
                (workers if forked else zygotes).append(pid)
            elif "spawn_main" in _command(pid):
                edges.append(pid)
        return {"zygote": zygotes, "worker": workers, "edge": edges}[role]


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(_stat(pid)[1])
    return 0


def _is_alive(pid: int) -> bool:
    """Return whether there is such a process, and it is no zombie."""
    with contextlib.suppress(OSError):
        return _stat(pid)[0] != "Z"
    return False


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
