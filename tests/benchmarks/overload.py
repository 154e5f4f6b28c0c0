"""Offer a server three times what it can do: `python -m tests.benchmarks.overload [--seconds N]`.

The requests are for programs that are new each time, so that none is known. The server has one processor, and the
clients have another. First clients that wait for their answers measure what the server can do; then requests come at
three times that rate, whether or not others were answered, from one address, and from a thousand clients with a key
each, of which ten ask twenty times as often as the others.
"""

import argparse
import asyncio
import itertools
import logging
import os
import random
import tempfile
import time
from collections import Counter, deque
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
GREEDY, TIMES = 10, 20
_NUMBERS = itertools.count()


@dataclass(slots=True)
class Seen:
    """Answers: their number by status, seconds of the good ones, and what refusals say of when to come again."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    retry_after: Counter[str] = field(default_factory=Counter)
    served: Counter[int] = field(default_factory=Counter)

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


async def ask(connection: Connection, data: bytes, client: int, seen: Seen) -> None:
    """Ask once, and note the answer."""
    start = time.perf_counter()
    await connection.write(data)
    lines = (await connection.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if line)
    await connection.body(int(fields["content-length"]))
    status = lines[0].split(" ")[1]
    seen.statuses[status] += 1
    if status == "200":
        seen.seconds.append(time.perf_counter() - start)
        seen.served[client] += 1
    else:
        seen.retry_after[fields.get("retry-after", "none")] += 1


async def closed(port: int, seconds: float) -> float:
    """Return how many requests a second are answered where clients wait."""
    seen, until = Seen(), time.perf_counter() + seconds

    async def one() -> None:
        connection = await Connection.open(port, "127.0.0.1")
        while time.perf_counter() < until:
            await ask(connection, new_program(), 0, seen)
        connection.close()

    await asyncio.gather(*(one() for _ in range(_CLOSED)))
    return seen.statuses["200"] / seconds


async def opened(port: int, seconds: float, rate: float, keys: list[str]) -> Seen:
    """Offer requests at a rate; one for which no connection is free is counted as not sent."""
    seen, chance, asking = Seen(), random.Random(1), set()
    free = deque([await Connection.open(port, "127.0.0.1") for _ in range(_CONNECTIONS)])
    weights = [TIMES if k < GREEDY else 1 for k in range(len(keys))]
    start = time.perf_counter()

    async def one(connection: Connection, client: int) -> None:
        await ask(connection, new_program(keys[client]), client, seen)
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
        task = asyncio.ensure_future(one(free.popleft(), client))
        asking.add(task)
        task.add_done_callback(asking.discard)
    await asyncio.gather(*asking)
    for connection in free:
        connection.close()
    return seen


def fairness(counts: list[int]) -> float:
    """Return Jain's index: 1 where all have the same, 1/n where one has all."""
    return sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts) or 1)


def show(name: str, seen: Seen, capacity: float, seconds: float) -> None:
    """Print what was seen."""
    good = seen.statuses["200"] / seconds
    print(
        f"{name}: {good:.0f} a second answered, {good / capacity:.2f} of capacity; ms p50 {seen.quantile_ms(0.5):.0f}, "
        f"p99 {seen.quantile_ms(0.99):.0f}; {dict(seen.statuses)}; Retry-After {dict(seen.retry_after)}"
    )


def on(processor: int) -> None:
    """Keep this process, and those that it starts from now on, to a processor."""
    allowed = sorted(os.sched_getaffinity(os.getppid()))
    os.sched_setaffinity(0, {allowed[processor % len(allowed)]})


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
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each part takes (8)")
    parser.add_argument("--clients", type=int, default=1000, help="clients with keys (1,000)")
    options = parser.parse_args()
    seconds, clients = options.seconds, options.clients
    with tempfile.TemporaryDirectory() as folder:
        on(0)
        with start_server(Path(folder), ("app.cli", "serve")) as server:
            on(1)
            port = int(server.base_url.rpartition(":")[2])
            asyncio.run(closed(port, 2.0))
            capacity = asyncio.run(closed(port, seconds))
            print(f"capacity: {capacity:.0f} new programs a second")
            show("one address", asyncio.run(opened(port, seconds, OVERLOAD * capacity, [""])), capacity, seconds)
    with tempfile.TemporaryDirectory() as folder:
        keys = keyed(Path(folder), clients)
        on(0)
        with start_server(Path(folder), ("app.cli", "serve")) as server:
            on(1)
            port = int(server.base_url.rpartition(":")[2])
            seen = asyncio.run(opened(port, 2 * seconds, OVERLOAD * capacity, keys))
            show(f"{clients:,} keys", seen, capacity, 2 * seconds)
            modest = [seen.served[k] for k in range(GREEDY, clients)]
            greedy = [seen.served[k] for k in range(GREEDY)]
            print(
                f"fairness of {len(modest)} modest clients {fairness(modest):.2f}, "
                f"{sum(modest) / len(modest):.1f} each; greedy ones {sum(greedy) / GREEDY:.1f} each"
            )


if __name__ == "__main__":
    main()
