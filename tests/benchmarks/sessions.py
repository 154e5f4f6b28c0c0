"""What a run of a session's commands costs on each store, and how that grows: one call at a time, on one connection."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.app.conftest import Server, start_server
from tests.app.scripts import back, do, expr, op, var
from tests.benchmarks import inputs
from tests.benchmarks.load import Exchange, post
from tests.redis_process import PROGRAM, RedisProcess, start_redis

PACKAGE = "pullback-server"

#: Redis, or Valkey, only where one is installed.
STORES = ("memory", "sqlite", *(("redis",) if PROGRAM else ()))
JSON = "application/json"
QUICKSTART = [
    var("x", inputs.QUICKSTART_X),
    op("a", "square", "x"),
    op("b", "exp", "a"),
    op("y", "square", "b"),
    back("y"),
]
STEP = [
    do("call", id="m", args=["x"], out=["p"]),
    op("loss", "cross_entropy", "p", "t"),
    do("cleargrad", ids=["m"]),
    back("loss"),
    do("step", id="o"),
]
#: So many calls make one figure.
CALLS = 50
#: A page of a file, as a database writes it.
PAGE = b"\0" * 4096
#: As many operations a run, on the way to a long tape.
AT_ONCE = 1000


@contextmanager
def serving(store: str) -> Iterator[tuple[Server, RedisProcess | None]]:
    """A server on a store, and the Redis that it keeps sessions in, if it does."""
    settings = {"access_log": "false", "max_sessions": "20000", "max_sessions_per_client": "20000"}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(start_redis(folder)) if store == "redis" else None
        url = redis.url if redis else store
        yield stack.enter_context(start_server(folder, store=url, **settings)), redis


class Caller:
    """Makes sessions of a server, and calls them."""

    def __init__(self, server: Server, exchange: Exchange) -> None:
        self._server, self._exchange = server, exchange

    def new(self, *commands: dict[str, Any]) -> str:
        """The path of a new session that has done these."""
        path = f"/v1/sessions/{self._server.client.post('/v1/sessions', json={'seed': 1}).json()['id']}"
        self.run(path, *commands)
        return path

    def request(self, path: str, *commands: dict[str, Any], fetch: Sequence[str] = ()) -> bytes:
        return post(f"{path}/run", orjson.dumps({"commands": commands, "fetch": fetch}), JSON)

    def run(self, path: str, *commands: dict[str, Any]) -> Any:
        return orjson.loads(self._exchange.ask(self.request(path, *commands)))

    def seconds(self, request: bytes) -> float:
        """The median of some calls."""
        found = []
        for _ in range(CALLS):
            start = time.perf_counter()
            self._exchange.ask(request)
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    def bytes(self, path: str) -> int:
        return int(self._server.client.get(path).json()["bytes"])


def slow_evaluate() -> bytes:
    """The quickstart's request to /v1/evaluate; a header that stands twice is none for the short way."""
    document = {"expr": "square(exp(square(x)))", "inputs": {"x": inputs.QUICKSTART_X}, "backward": True}
    request = post("/v1/evaluate", orjson.dumps(document), JSON)
    return request.replace(b"Content-Type:", b"X-Twice: 1\r\nX-Twice: 2\r\nContent-Type:")


def one_fsync() -> float:
    """Seconds of an fsync, on the disk where the store's file is; the median of some."""
    found = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(CALLS):
            file.write(PAGE)
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            found.append(time.perf_counter() - start)
    return statistics.median(found)


def two_round_trips(redis: RedisProcess) -> float:
    """Seconds of a question to Redis, and of a page that is on its disk before it answers; the median of some."""
    found = []
    for _ in range(CALLS):
        start = time.perf_counter()
        redis.client.get("asked")
        redis.client.set("told", PAGE)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def training() -> list[dict[str, Any]]:
    x, labels = inputs.mlp_batch(inputs.SMALL_BATCH)
    return [
        var("x", x.tolist(), constant=True),
        var("t", labels.tolist(), constant=True),
        do("model", id="m", kind="mlp", config={"out_sizes": [128, 10], "activation": "tanh"}),
        do("optimizer", id="o", kind="sgd", params="m"),
        *STEP,
    ]


def runs(rounds: int) -> dict[str, dict[str, list[float]]]:
    """For each store the seconds of some runs, and of what they are measured by, round by round."""
    found = {}
    for store in STORES:
        with serving(store) as (server, redis), Exchange(int(server.base_url.rpartition(":")[2])) as exchange:
            caller = Caller(server, exchange)
            empty, quickstart, model = caller.new(), caller.new(*QUICKSTART), caller.new(*training())
            requests = {
                "slow": slow_evaluate(),
                "empty": caller.request(empty),
                "quickstart": caller.request(quickstart, *QUICKSTART, fetch=["x", "y"]),
                "MLP step": caller.request(model, *STEP, fetch=["loss"]),
            }
            every = []
            for _ in range(rounds):
                every.append({name: caller.seconds(request) for name, request in requests.items()})
                every[-1]["fsync"] = one_fsync()
                if redis:
                    every[-1]["round trips"] = two_round_trips(redis)
            found[store] = {name: [each[name] for each in every] for name in every[0]}
    return found


def growth(held: Sequence[int], tapes: Sequence[int]) -> dict[str, list[tuple[str, int, float, int]]]:
    """For each store rows of what there is and how much of it, the seconds of an empty run, and a session's bytes."""
    found: dict[str, list[tuple[str, int, float, int]]] = {}
    for store in STORES:
        rows = found[store] = []
        with serving(store) as (server, _), Exchange(int(server.base_url.rpartition(":")[2])) as exchange:
            caller = Caller(server, exchange)
            path, count = caller.new(*QUICKSTART), 1
            for number in held:
                while count < number:
                    caller.new(*QUICKSTART)
                    count += 1
                rows.append(("sessions held", number, caller.seconds(caller.request(path)), caller.bytes(path)))
            path, length = caller.new(var("x", 1.0)), 0
            for number in tapes:
                while length < number:
                    caller.run(path, *[expr("x", "sin(x)")] * min(number - length, AT_ONCE))
                    length += min(number - length, AT_ONCE)
                rows.append(
                    ("operations on the tape", number, caller.seconds(caller.request(path)), caller.bytes(path))
                )
    return found
