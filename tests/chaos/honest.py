"""Honest clients: each asks at a modest rate, whether or not it has its answers, and looks whether they are right."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf

from tests.chaos.wire import Connection, request

#: An honest client waits so long, in seconds.
PATIENCE_S = 10.0
#: A request that waits for longer when its client stops has waited in vain.
_UNANSWERED_S = 0.5
#: How a server refuses clients: they know at once, and may come back.
REFUSALS = ("429", "503", "refused", "cut")


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one client.

    sort: "healthz", "hot" or "small", which have bounds of their own.
    every_s: between two requests.
    make: gives each request.
    right: what the body of a right answer contains.
    is_kept: whether its connection is kept open.
    """

    name: str
    sort: str
    every_s: float
    make: Callable[[], bytes]
    right: bytes
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """An honest request: when it was sent, how long it took (infinite: in vain), and its status or what went wrong."""

    at: float
    seconds: float
    status: str


@dataclass(slots=True)
class Client:
    """One honest client, and all its calls."""

    kind: Kind
    port: int
    source: str
    calls: list[Call] = field(default_factory=list)
    _free: list[Connection] = field(default_factory=list)
    _asking: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Ask until cancelled."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        try:
            while True:
                task = asyncio.ensure_future(self._ask())
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
                at = max(at + self.kind.every_s, loop.time())
                await asyncio.sleep(at - loop.time())
        finally:
            for task in self._asking:
                task.cancel()
            await asyncio.gather(*self._asking, return_exceptions=True)
            for connection in self._free:
                connection.close()

    async def _ask(self) -> None:
        start = time.monotonic()
        try:
            status = await self._status()
        except asyncio.CancelledError:
            if time.monotonic() - start > _UNANSWERED_S:
                self.calls.append(Call(start, inf, "unanswered"))
            raise
        took = time.monotonic() - start
        self.calls.append(Call(start, took if status == "200" else inf, status))

    async def _status(self) -> str:
        connection = self._free.pop() if self._free else None
        is_new, is_kept = connection is None, False
        try:
            async with asyncio.timeout(PATIENCE_S):
                connection = connection or await Connection.open(self.port, self.source)
                await connection.write(self.kind.make())
                head = await connection.head()
                body = await connection.body(head.length, keep=True)
            if self.kind.is_kept and head.keeps_open:
                self._free.append(connection)
                is_kept = True
            return str(head.status) if head.status != 200 or self.kind.right in body else "wrong"
        except TimeoutError:
            return "timeout"
        except ValueError:
            return "wrong"
        except (OSError, EOFError):
            if is_new:
                return "refused" if connection is None else "cut"
        finally:
            if connection is not None and not is_kept:
                connection.close()
        # A server may close a connection that is idle; its client opens another.
        return await self._status()

    def within(self, start: float, end: float) -> list[Call]:
        """Return the calls that were sent between two times."""
        return [call for call in self.calls if start <= call.at < end]


async def asked(port: int, source: str, path: str, document: object) -> dict[str, object]:
    """Return the answer to a request that has to succeed."""
    connection = await Connection.open(port, source)
    try:
        await connection.write(request(path, document))
        head = await connection.head()
        body = await connection.body(head.length, keep=True)
    finally:
        connection.close()
    assert head.status in (200, 201), body
    found: dict[str, object] = json.loads(body)
    return found


async def kinds(port: int, source: str) -> list[Kind]:
    """Register a program, make a session, and return what honest clients ask."""
    registered = "tanh(a * x) + exp(-x * x)"
    await asked(port, source, "/v1/programs", {"expr": registered, "name": "honest"})
    made = await asked(port, source, "/v1/sessions", {"seed": 1})
    run = f"/v1/sessions/{made['id']}/run"
    await asked(port, source, run, {"commands": [{"do": "variable", "id": "x", "value": 0.5}]})
    chance, numbers = random.Random(1), itertools.count()
    step = [
        {"do": "assign", "id": "x", "value": 0.5},
        {"do": "apply", "expr": "square(exp(square(x)))", "out": ["y"]},
        {"do": "cleargrad", "ids": ["x"]},
        {"do": "backward", "of": "y"},
    ]
    matrices = {name: [[round(chance.random(), 6) for _ in range(20)] for _ in range(20)] for name in "ab"}
    hot = request("/v1/evaluate", {"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": True})
    named = request("/v1/evaluate", {"program": "honest", "inputs": {"a": 2.0, "x": 0.0}, "backward": True})
    session = request(run, {"commands": step, "fetch": ["x"]})
    matrix = request("/v1/evaluate", {"expr": "sum(tanh(a @ b))", "inputs": matrices, "backward": True})
    right = b'"grads":{"x":3.297442541400256}'

    def fresh() -> bytes:
        return request("/v1/evaluate", {"expr": f"cos(x * {next(numbers)}.125) + x", "inputs": {"x": 0.0}})

    return [
        Kind("healthz", "healthz", 0.02, lambda: request("/healthz", method="GET"), b""),
        Kind("hot", "hot", 0.02, lambda: hot, right, is_kept=True),
        Kind("registered", "small", 0.1, lambda: named, b'"out":1.0'),
        Kind("session", "small", 0.1, lambda: session, b"3.297442541400256"),
        Kind("fresh", "small", 0.1, fresh, b'"out":1.0'),
        Kind("matrix", "small", 0.1, lambda: matrix, b'"grads"'),
    ]


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of the middle one, of the slowest but one in a hundred, and of the slowest; and all statuses."""

    p50: float
    p99: float
    worst: float
    statuses: Counter[str]

    @classmethod
    def of(cls, calls: Iterable[Call], lost: float = 0.0) -> Times:
        """Sum up calls; where no more than a share of `lost` was refused, those are not counted."""
        calls = list(calls)
        refused = [call for call in calls if call.status in REFUSALS]
        if len(refused) <= lost * len(calls):
            counted = sorted(call.seconds for call in calls if call.status not in REFUSALS)
        else:
            counted = sorted(call.seconds for call in calls)

        def at(share: float) -> float:
            return counted[min(int(len(counted) * share), len(counted) - 1)] * 1000 if counted else inf

        return cls(at(0.5), at(0.99), at(1.0), Counter(call.status for call in calls))

    def __str__(self) -> str:
        """Return the three, in milliseconds."""
        times = self.p50, self.p99, self.worst
        return " / ".join("∞" if ms == inf else f"{ms:.1f}" if ms < 10 else f"{ms:.0f}" for ms in times)

    def errors(self) -> str:
        """Return how many calls went wrong, and how."""
        wrong = {status: count for status, count in self.statuses.items() if status != "200"}
        return " ".join(f"{status}×{count}" for status, count in sorted(wrong.items()))
