"""Offer a server three times what it can do: `python -m tests.benchmarks.overload [--seconds N]`.

The requests are for programs that are new each time, so that none is known. The server has one processor, and the
clients have another. A dozen clients that wait for their answers measure what the server can do, before and after each
round of overload. In these, requests come at three times that rate, whether or not others were answered: from one
address, and from a thousand clients with a key each, of which ten ask twenty times as often as the others. In others
two hundred clients wait for their answers, and as long as Retry-After says.
"""

import argparse
import asyncio
import itertools
import logging
import os
import random
import statistics
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.assembly import new_store
from app.keys.admin import KeyAdmin
from app.settings import Settings
from app.stores.keys import Rates
from app.stores.owners import Allowance
from tests.app.conftest import start_server
from tests.chaos.wire import Connection, request

#: Clients that wait for their answers.
_CLOSED = 12
#: Connections of all others: a server takes 256 from one address.
_CONNECTIONS = 240
OVERLOAD = 3
#: Clients that obey: the queue holds 64.
OBEDIENT = 200
GREEDY, TIMES = 10, 20
_NUMBERS = itertools.count()


@dataclass(slots=True)
class Seen:
    """Answers: their number by status, seconds of the good ones, and what refusals say of when to come again."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    retry_after: Counter[str] = field(default_factory=Counter)
    served: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Seen") -> None:
        """Add what was seen at another time."""
        self.statuses += other.statuses
        self.seconds += other.seconds
        self.retry_after += other.retry_after
        self.served += other.served

    def quantile_ms(self, share: float) -> float:
        """Return a quantile of the times of good answers."""
        ordered = sorted(self.seconds)
        return 1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("inf")


def new_program(key: str = "") -> bytes:
    """Return a request that no server has seen."""
    number = next(_NUMBERS)
    document = {"expr": f"sum(tanh(x * {number}.25) @ cos(x)) + {number}", "inputs": {"x": [[0.1, 0.2], [0.3, 0.4]]}}
    headers = [("Authorization", f"Bearer {key}")] if key else []
    return request("/v1/evaluate", document | {"backward": True}, *headers)


async def ask(connection: Connection, data: bytes, client: int, seen: Seen, due: float | None = None) -> str:
    """Ask once, and note the answer; return what it says of when to come again, empty if it is good.

    due: when the request should have been sent, if that is not now.
    """
    start = time.perf_counter() if due is None else due
    await connection.write(data)
    lines = (await connection.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if line)
    await connection.body(int(fields["content-length"]))
    status = lines[0].split(" ")[1]
    seen.statuses[status] += 1
    if status == "200":
        seen.seconds.append(time.perf_counter() - start)
        seen.served[client] += 1
        return ""
    said = fields.get("retry-after", "none")
    seen.retry_after[said] += 1
    return said


async def closed(port: int, seconds: float, key: str = "", clients: int = _CLOSED) -> Seen:
    """Let clients ask that wait for their answers, and as long as a refusal says."""
    seen, until = Seen(), time.perf_counter() + seconds

    async def one(client: int) -> None:
        connection = await Connection.open(port, "127.0.0.1")
        while (left := until - time.perf_counter()) > 0:
            said = await ask(connection, new_program(key), client, seen)
            if said:
                await asyncio.sleep(min(float(said) * random.uniform(1.0, 1.5), left))
        connection.close()

    await asyncio.gather(*(one(client) for client in range(clients)))
    return seen


async def opened(port: int, seconds: float, rate: float, keys: list[str]) -> Seen:
    """Offer requests at a rate; one for which no connection is free is counted as not sent."""
    seen, chance, asking = Seen(), random.Random(1), set()
    free = deque([await Connection.open(port, "127.0.0.1") for _ in range(_CONNECTIONS)])
    weights = [TIMES if k < GREEDY else 1 for k in range(len(keys))]
    start = time.perf_counter()

    async def one(connection: Connection, client: int, due: float) -> None:
        await ask(connection, new_program(keys[client]), client, seen, due)
        free.append(connection)

    for sent in itertools.count():
        due = start + sent / rate
        if due > start + seconds:
            break
        if (early := due - time.perf_counter()) > 0.001:
            await asyncio.sleep(early)
        if not free:
            seen.statuses["not sent"] += 1
            # Others come to their turn.
            await asyncio.sleep(0)
            continue
        (client,) = chance.choices(range(len(keys)), weights)
        task = asyncio.ensure_future(one(free.popleft(), client, due))
        asking.add(task)
        task.add_done_callback(asking.discard)
    await asyncio.gather(*asking)
    for connection in free:
        connection.close()
    return seen


def fairness(counts: list[int]) -> float:
    """Return Jain's index: 1 where all have the same, 1/n where one has all."""
    return sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts) or 1)


def measured(
    name: str, port: int, seconds: float, rounds: int, offer: Callable[[float], Awaitable[Seen]], key: str = ""
) -> Seen:
    """Print what rounds of overload give beside what the server can do, and return what was seen in them.

    Args:
        name: of the overload.
        port: of the server.
        seconds: of each round, and of each measurement of the server between them.
        rounds: their number.
        offer: makes a round; takes what the server can do, in answers a second.
        key: for the measurements.
    """

    async def capacity() -> float:
        return (await closed(port, seconds, key)).statuses["200"] / seconds

    async def all_rounds() -> tuple[Seen, list[float], list[float]]:
        total, shares, capacities = Seen(), [], [await capacity()]
        for _ in range(rounds):
            seen = await offer(capacities[-1])
            capacities.append(await capacity())
            shares.append(seen.statuses["200"] / seconds / statistics.mean(capacities[-2:]))
            total.add(seen)
        return total, shares, capacities

    total, shares, capacities = asyncio.run(all_rounds())
    print(
        f"{name}: {statistics.median(shares):.2f} [{min(shares):.2f}, {max(shares):.2f}] of capacity, which is "
        f"{statistics.median(capacities):.0f} [{min(capacities):.0f}, {max(capacities):.0f}] a second; ms p50 "
        f"{total.quantile_ms(0.5):.0f}, p99 {total.quantile_ms(0.99):.0f}; {dict(total.statuses)}; "
        f"Retry-After {dict(total.retry_after)}"
    )
    return total


def on(processor: int) -> None:
    """Keep this process, and those that it starts from now on, to a processor."""
    allowed = sorted(os.sched_getaffinity(os.getppid()))
    os.sched_setaffinity(0, {allowed[processor % len(allowed)]})


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """Start a server on one processor, and keep this process to the other; give its port."""
    on(0)
    with start_server(folder, ("app.cli", "serve")) as server:
        on(1)
        yield int(server.base_url.rpartition(":")[2])


def keyed(folder: Path, clients: int) -> list[str]:
    """Make the keys."""
    store = new_store(Settings(data_dir=folder / "data"))
    store.open()
    admin = KeyAdmin(store.keys)
    logging.disable()  # a line for each key
    keys = [admin.create(f"client {k}", ("evaluate",), Rates(), Allowance()) for k in range(clients)]
    store.close()
    logging.disable(logging.NOTSET)
    return keys


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each part of a round takes (3)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (5)")
    parser.add_argument("--clients", type=int, default=1000, help="clients with keys (1,000)")
    options = parser.parse_args()
    seconds, rounds, clients = options.seconds, options.rounds, options.clients
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as port:
        asyncio.run(closed(port, 2.0))
        measured("one address", port, seconds, rounds, lambda able: opened(port, seconds, OVERLOAD * able, [""]))
        measured("obedient", port, seconds, rounds, lambda able: closed(port, seconds, clients=OBEDIENT))
    with tempfile.TemporaryDirectory() as folder:
        own, *keys = keyed(Path(folder), clients + 1)
        with served(Path(folder)) as port:
            asyncio.run(closed(port, 2.0, own))
            name = f"{clients:,} keys"
            seen = measured(name, port, seconds, rounds, lambda able: opened(port, seconds, OVERLOAD * able, keys), own)
        modest = [seen.served[k] for k in range(GREEDY, clients)]
        greedy = [seen.served[k] for k in range(GREEDY)]
        print(
            f"fairness of {len(modest)} modest clients {fairness(modest):.2f}, "
            f"{sum(modest) / len(modest):.1f} each; greedy ones {sum(greedy) / GREEDY:.1f} each"
        )


if __name__ == "__main__":
    main()
