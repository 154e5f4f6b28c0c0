"""What our server makes of a machine: requests a second, large arrays, and many programs, beside bare servers.

Servers are processes on loopback with one worker on uvloop and httptools each, without access logs. They and the client
share the cores of the machine. A worker process holds this module, so that all have the same environment.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import orjson

from engine.programs import parse
from engine.programs.evaluate import Backward, prepare
from tests.app.conftest import start_server
from tests.benchmarks import inputs
from tests.benchmarks.load import Exchange, Load, Round, post
from tests.benchmarks.servers import by_hand

PACKAGE = "pullback-server"

CONNECTIONS = 16
JSON, MSGPACK = "application/json", "application/msgpack"
EVALUATE = "/v1/evaluate"
UVICORN = "uvicorn --loop uvloop --http httptools --lifespan off --no-access-log --log-level warning".split()
OURS, BARE = "Pullback", "bare ASGI, orjson"
#: Servers by name: a module of Python and its arguments.
SERVERS = {
    OURS: ("app.cli", "serve"),
    "FastAPI, pydantic in and out": (*UVICORN, "tests.benchmarks.servers:pydantic"),
    BARE: (*UVICORN, "tests.benchmarks.servers:bare"),
}
WAVES = "sum(sin(exp(tanh(x))))"


@contextmanager
def serving(name: str) -> Iterator[int]:
    """A server while the block lasts; its port."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start_server(Path(folder), SERVERS[name], access_log="false") as server,
    ):
        yield int(server.base_url.rpartition(":")[2])


def quickstart_request() -> bytes:
    document = {"expr": "square(exp(square(x)))", "inputs": {"x": inputs.QUICKSTART_X}, "backward": True}
    return post(EVALUATE, orjson.dumps(document), JSON)


def throughput(rounds: int, seconds: float) -> dict[str, list[Round]]:
    """Rounds of the quickstart with its gradient on each server, in turn."""
    request = quickstart_request()
    with ExitStack() as stack:
        loads = {}
        for name in SERVERS:
            port = stack.enter_context(serving(name))
            assert_right(port, request)
            loads[name] = stack.enter_context(Load(port, CONNECTIONS))
            loads[name].run(itertools.repeat(request), seconds)
        found = [
            {name: load.run(itertools.repeat(request), seconds) for name, load in loads.items()} for _ in range(rounds)
        ]
    return {name: [each[name] for each in found] for name in SERVERS}


def assert_right(port: int, request: bytes) -> None:
    """Refuse to time a server that does not compute the same."""
    with Exchange(port) as exchange:
        answer = orjson.loads(exchange.ask(request))
    value, gradient = by_hand(inputs.QUICKSTART_X)
    np.testing.assert_allclose([answer["values"]["out"], answer["grads"]["x"]], [value, gradient], rtol=1e-14)


def seconds_of(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def arrays(rounds: int) -> dict[str, list[float]]:
    """Seconds of the gradient at a large point over each encoding, and of what they are measured by."""
    x = inputs.elementwise_x()
    prepared = prepare(parse(WAVES), {"x": x}, backward=Backward())
    document: dict[str, Any] = {"expr": WAVES, "backward": True}
    packed = {"shape": [len(x)], "dtype": "float64", "data": x.tobytes()}
    binary = msgpack.packb({**document, "inputs": {"x": packed}, "encoding": "binary"})
    binary_request, echo_request = post(EVALUATE, binary, MSGPACK), post("/echo", binary, MSGPACK)
    text = orjson.dumps({**document, "inputs": {"x": x}}, option=orjson.OPT_SERIALIZE_NUMPY)
    text_request = post(EVALUATE, text, JSON)
    with serving(OURS) as ours, serving(BARE) as bare, Exchange(ours) as asking, Exchange(bare) as echoing:
        steps: dict[str, Callable[[], object]] = {
            "MessagePack": lambda: asking.ask(binary_request),
            "in process": prepared.run,
            "echo": lambda: echoing.ask(echo_request),
            "JSON": lambda: asking.ask(text_request),
            "codec": lambda: both_ways(text),
        }
        right = (prepared.run().grads or {})["x"]
        answer = msgpack.unpackb(steps["MessagePack"]())
        np.testing.assert_array_max_ulp(np.frombuffer(answer["grads"]["x"]["data"]), right, 4)
        np.testing.assert_array_max_ulp(np.array(orjson.loads(steps["JSON"]())["grads"]["x"]), right, 4)
        steps["echo"]()
        found = [{name: seconds_of(step) for name, step in steps.items()} for _ in range(rounds)]
    return {name: [each[name] for each in found] for name in steps}


def both_ways(text: bytes) -> bytes:
    """The JSON codec alone: a request to an array, an array of its size to an answer."""
    x = np.asarray(orjson.loads(text)["inputs"]["x"])
    return orjson.dumps({"values": {"out": 0.0}, "grads": {"x": x}}, option=orjson.OPT_SERIALIZE_NUMPY)


def cached(counts: Sequence[int], rounds: int, seconds: float) -> dict[int, list[float]]:
    """Seconds a request, round by round, where so many programs have been asked for and are asked for in turn.

    Each is asked for twice beforehand: the first time it is compiled, the second time its letters are learned.
    """
    documents = (
        {"expr": f"square(exp(square(x))) + {k}.0*x", "inputs": {"x": inputs.QUICKSTART_X}, "backward": True}
        for k in range(max(counts))
    )
    requests = [post(EVALUATE, orjson.dumps(document), JSON) for document in documents]
    found = {}
    with serving(OURS) as port, Load(port, CONNECTIONS) as load:
        warm = 0
        for count in counts:
            load.run(2 * requests[warm:count])
            warm = count
            turns = itertools.cycle(requests[:count])
            found[count] = [1 / load.run(turns, seconds).rate for _ in range(rounds)]
    return found
