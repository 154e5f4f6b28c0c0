"""One attack on one server: a process of its own attacks, honest clients ask beside it, memory is sampled."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from tests.app.conftest import Server, start_server
from tests.chaos import honest
from tests.chaos.attack import MARGIN_S, Attack
from tests.chaos.footprint import Footprint, disk_mb
from tests.chaos.honest import Call, Client, Times

ROOT = Path(__file__).resolve().parents[2]
ATTACKER = "127.0.0.1"
OTHER = "127.0.0.2"
#: Files that a server may have open, as most systems have it.
_OPEN_FILES = 1024
_CALM_S = 1.0
#: After the attack, all is as before when of so many hot requests one was slow at most, and memory is given back or
#: nobody works.
_HOT_CALLS, _SLOW_CALLS, _GROWN = 20, 1, 1.3
#: An attack that takes so much longer than it may is stopped.
_OVERTIME_S = 40.0


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of a trial.

    seconds: how long it lasts.
    is_same_address: whether honest clients ask from the attacker's own address.
    deadline_s: of the server, short so that runs are.
    margin_s: beyond it, for each request of the attack to be answered or cut.
    hot_s: how fast a known program is answered once all is as before.
    recovery_s: after so long without that it never will be.
    """

    seconds: float = 4.0
    is_same_address: bool = False
    deadline_s: float = 6.0
    margin_s: float = MARGIN_S
    hot_s: float = 0.02
    recovery_s: float = 6.0

    @property
    def answered_s(self) -> float:
        """Time within which a request of the attack is answered or cut."""
        return self.deadline_s + self.margin_s


@dataclass(slots=True)
class Result:
    """All that was seen of an attack.

    calls: of honest clients while it lasted, by kind.
    outcomes, longest_s: what the attack got, and how long it waited for it at most.
    idle_mb, peak_mb: memory of the server's processes before and at most.
    disk_mb: size of the data directory afterwards.
    normal_s: from the end of the attack until all was as before.
    lag_ms: how late the honest clients' own process was, 99 of 100 times.
    faults: what must never happen.
    """

    attack: Attack
    terms: Terms
    calls: dict[str, list[Call]] = field(default_factory=dict)
    sorts: dict[str, str] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    idle_mb: float = 0.0
    peak_mb: float = 0.0
    disk_mb: float = 0.0
    normal_s: float = 0.0
    lag_ms: float = 0.0
    faults: list[str] = field(default_factory=list)

    def of(self, name: str) -> Times:
        """Return the times of a kind of honest requests."""
        return Times.of(self.calls[name], self._lost(self.sorts[name]))

    def of_sort(self, sort: str) -> Times:
        """Return the times of all kinds of a sort."""
        calls = [call for name, found in self.calls.items() if self.sorts[name] == sort for call in found]
        return Times.of(calls, self._lost(sort))

    def _lost(self, sort: str) -> float:
        # An address that attacks may be refused; what is not refused is answered in time.
        return 1.0 if self.terms.is_same_address else self.attack.bounds.lost if sort == "small" else 0.0

    def failures(self) -> list[str]:
        """Return by what the server failed, in sentences."""
        return [*self.broken(), *self.slow()]

    def broken(self) -> list[str]:
        """Return what must not happen on any machine, however busy it is."""
        found, most_s = list(self.faults), self.terms.answered_s
        if self.peak_mb >= self.attack.bounds.pss_mb:
            found.append(f"{self.peak_mb:.0f} MB, not < {self.attack.bounds.pss_mb:g}")
        left = sum(count for outcome, count in self.outcomes.items() if outcome.endswith("left"))
        if left or self.longest_s > most_s:
            late = f"{left} were left alone" if left else f"one took {self.longest_s:.1f} s"
            found.append(f"attack not answered or cut within {most_s:g} s: {late}")
        bugs = {status: count for status, count in self.outcomes.items() if is_bug(status)}
        bugs |= {status: 1 for calls in self.calls.values() for call in calls if is_bug(status := call.status)}
        if bugs:
            found.append(f"answers that are bugs: {bugs}")
        if self.normal_s == inf:
            found.append(f"not as before within {self.terms.recovery_s:g} s after the attack")
        return found

    def slow(self) -> list[str]:
        """Return what took longer than it may."""
        bounds, found = self.attack.bounds, []
        for sort, most in (("healthz", bounds.healthz_ms), ("hot", bounds.hot_ms), ("small", bounds.small_ms)):
            times = self.of_sort(sort)
            if not times.p99 < most:
                found.append(f"{sort} p99 {times.p99:.0f} ms, not < {most:g} ({times.errors() or 'all answered'})")
        if bounds.normal_s < self.normal_s < inf:
            found.append(f"normal only after {self.normal_s:.1f} s, not {bounds.normal_s:g}")
        return found


def is_bug(status: str) -> bool:
    """Return whether an answer must never be given."""
    return status == "wrong" or (status[:1] == "5" and status[:3] not in ("503", "504", "505"))


class Lag:
    """Measure the lateness of a task that wakes every 10 ms: the part of all times that is the clients' own."""

    def __init__(self) -> None:
        self.found: list[float] = []

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            start = time.monotonic()
            await asyncio.sleep(0.01)
            self.found.append(time.monotonic() - start - 0.01)

    def p99_ms(self) -> float:
        """Return the lag, 99 of 100 times."""
        found = sorted(self.found)
        return found[int(len(found) * 0.99)] * 1000 if found else 0.0


def try_attack(attack: Attack, folder: Path, terms: Terms) -> Result:
    """Start a server in a folder, attack it and return what was seen."""
    result = Result(attack, terms)
    with start_server(folder, ("app.cli", "serve"), deadline_s=f"{terms.deadline_s:g}") as server:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (min(_OPEN_FILES, hard), hard))
        server.client.close()
        footprint = Footprint(server.pid)
        footprint.start()
        try:
            asyncio.run(_observe(server, footprint, result))
        finally:
            footprint.stop()
            code = server.process.poll()
            # Whatever was left is no longer of interest, and a calm end of it would take its time.
            server.process.kill()
    if code is not None:
        result.faults.append(f"the server has ended with {code}")
    result.disk_mb = disk_mb(folder / "data")
    log = (folder / "server.log").read_text(errors="replace")
    if tracebacks := log.count("Traceback (most recent call last)"):
        result.faults.append(f"{tracebacks} tracebacks in the log, the first: {_first_error(log)}")
    if died := log.count("ended while it answered"):
        killed = "killed" in result.outcomes
        if not killed:
            result.faults.append(f"{died} times a worker process died by itself")
    return result


def _first_error(log: str) -> str:
    """Return the last line of the first traceback."""
    after = log.partition("Traceback (most recent call last)")[2].splitlines()[1:]
    return next((line for line in after if line and not line.startswith(" ")), "?")


async def _observe(server: Server, footprint: Footprint, result: Result) -> None:
    port = int(server.base_url.rpartition(":")[2])
    source = ATTACKER if result.terms.is_same_address else OTHER
    kinds = await honest.kinds(port, source)
    clients = [Client(kind, port, source) for kind in kinds]
    lag = Lag()
    running = [asyncio.ensure_future(run()) for run in (*(client.run for client in clients), lag.run)]
    try:
        await asyncio.sleep(_CALM_S)
        result.idle_mb = footprint.samples[-1].pss_mb if footprint.samples else 0.0
        start = time.monotonic()
        await _attack(result, port, server.pid)
        end = time.monotonic()
        result.normal_s = await _recovery_s(clients[1], footprint, result, end)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    # One turn for what the clients' requests note when they are cancelled.
    await asyncio.sleep(0)
    result.lag_ms = lag.p99_ms()
    result.peak_mb = footprint.peak_mb(start)
    result.calls = {client.kind.name: client.within(start, end) for client in clients}
    result.sorts = {kind.name: kind.sort for kind in kinds}


async def _attack(result: Result, port: int, pid: int) -> None:
    terms = result.terms
    numbers = port, ATTACKER, terms.seconds, terms.deadline_s, terms.margin_s, pid
    arguments = [result.attack.name, *map(str, numbers)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.attacker",
        *arguments,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(terms.seconds + 2 * terms.answered_s + _OVERTIME_S):
            out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        result.faults.append("the attack did not come to an end")
        return
    if process.returncode:
        result.faults.append(f"the attack itself failed: {errors.decode(errors='replace')[-500:]}")
        return
    found = json.loads(out)
    result.outcomes = Counter(found["outcomes"])
    result.longest_s = found["longest_s"]


async def _recovery_s(hot: Client, footprint: Footprint, result: Result, end: float) -> float:
    """Wait until all is as before, and return how long that took, infinite if it took too long."""
    while time.monotonic() < end + result.terms.recovery_s:
        await asyncio.sleep(0.05)
        calls = [call for call in hot.calls if call.at > end][-_HOT_CALLS:]
        slow = sum(call.seconds > result.terms.hot_s for call in calls)
        last = footprint.samples[-1] if footprint.samples else None
        if len(calls) < _HOT_CALLS or slow > _SLOW_CALLS or last is None or last.at < end:
            continue
        if last.busy == 0 or last.pss_mb < _GROWN * result.idle_mb:
            return min(calls[0].at, last.at) - end
    return inf
