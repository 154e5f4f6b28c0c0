"""What the Python SDK costs: beside httpx with the same bytes, and beside the engine in this process."""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import engine
import pullback
from pullback.remote.documents import MSGPACK, encode
from tests.app.conftest import start_server
from tests.benchmarks import inputs

PACKAGE = "pullback"

WAVES = "sum(sin(exp(tanh(x))))"
QUICKSTART = "square(exp(square(x)))"
ELEMENTS = 1_000_000
#: So many calls make one figure, of small ones and of those of large arrays; so many operations are recorded for one.
CALLS, LARGE_CALLS, RECORDED = 200, 10, 900


def seconds(call: Callable[[], Any], number: int) -> float:
    """The median of some calls."""
    found = []
    for _ in range(number):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def calls(rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """For each call the seconds of the SDK and of httpx, round by round."""
    large = np.random.default_rng(0).random(ELEMENTS)
    cases = {
        "evaluate, the quickstart and its gradient": (QUICKSTART, inputs.QUICKSTART_X, CALLS),
        f"evaluate, {ELEMENTS:,} float64 up and the gradient down": (WAVES, large, LARGE_CALLS),
    }
    headers = {"Content-Type": MSGPACK, "Accept": MSGPACK, "Accept-Encoding": "identity"}
    found: dict[str, tuple[list[float], list[float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(start_server(folder, store="memory", access_log="false"))
        client = stack.enter_context(pullback.Client(server.base_url))
        bare = stack.enter_context(httpx.Client(base_url=server.base_url, headers=headers, timeout=60))
        for title, (expr, x, number) in cases.items():
            document = {"expr": expr, "inputs": {"x": x}, "backward": True, "encoding": "binary"}
            body = encode(document, MSGPACK)
            sides: list[Callable[[], Any]] = [
                lambda expr=expr, x=x: client.evaluate(expr, {"x": x}, backward=True),
                lambda body=body: bare.post("/v1/evaluate", content=body).content,
            ]
            for side in sides:
                seconds(side, 3)
            pairs = [[seconds(side, number) for side in sides] for _ in range(rounds)]
            found[title] = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return found


def recorded(rounds: int) -> list[float]:
    """Seconds of an operation that is recorded and not sent, round by round."""
    found = []
    with pullback.connect("local") as connection:
        for _ in range(rounds):
            x = pullback.Variable(1.0)
            connection.flush()
            start = time.perf_counter()
            for _ in range(RECORDED):
                x = pullback.functions.sin(x)
            found.append((time.perf_counter() - start) / RECORDED)
            connection.flush()
    return found


def training(library: Any) -> Callable[[], float]:
    """A step of training the MLP 64-128-10 with a batch of 32 and Adam; the loss is looked at."""
    x, labels = inputs.mlp_batch(inputs.SMALL_BATCH)
    model = library.models.MLP([128, 10], activation="tanh", rng=0)
    optimizer = library.optimizers.Adam(model)

    def step() -> float:
        loss = library.functions.cross_entropy(model(x), labels)
        model.cleargrads()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def steps(rounds: int) -> dict[str, list[float]]:
    """Seconds of a training step in the engine, with the server in this process, and over a socket, round by round."""
    found: dict[str, list[float]] = {"engine": [], "embedded": [], "socket": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(start_server(folder, store="memory", access_log="false"))
        sides = {"engine": training(engine)}
        for name, url in (("embedded", "local"), ("socket", server.base_url)):
            connection = stack.enter_context(pullback.connect(url))
            with connection.active():
                sides[name] = training(pullback)
                sides[name]()
        for _ in range(rounds):
            for name, step in sides.items():
                found[name].append(seconds(step, LARGE_CALLS))
    return found
