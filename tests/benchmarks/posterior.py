"""Times gradients of a logistic posterior on a server that keeps the data, and on one that is sent it each time.

`python -m tests.benchmarks.posterior [--requests N] [--sent N]` starts a server with default settings on loopback and
asks it over one connection that is kept alive. Beside it: the same arithmetic in NumPy, and the steps that a request
takes on the server, run here. Nothing is asserted about time.
"""

import argparse
import base64
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from app.programs import ProgramLimits
from app.programs.registry import Registry
from app.stores import Policy, SqliteStore
from app.wire.document import parse
from app.wire.schemas import EvaluateRequest, check
from app.wire.values import dumps, encode_all
from engine.programs.evaluate import Backward, prepare
from tests.app.conftest import start_server

Array = npt.NDArray[np.float64]
Document = dict[str, Any]

ROWS, COLUMNS = 50_000, 10
POSTERIOR = "z = X @ theta; logp = sum(t*z - softplus(z)) - 0.5*sum(square(theta))"
NAME = "posterior"
REQUEST_S = 60
CACHE_BYTES = 2**28
RTOL = 1e-10


@dataclass(frozen=True, slots=True)
class Timing:
    """A line of the table: how many bytes each request had, and how many seconds each took."""

    title: str
    size: int | None
    seconds: list[float]

    def row(self) -> str:
        """The line in Markdown, its times in milliseconds."""
        times = " | ".join(f"{1e3 * s:.2f}" for s in np.quantile(self.seconds, [0, 0.5, 0.95]))
        size = "" if self.size is None else f"{self.size:,}"
        return f"| {self.title} | {len(self.seconds):,} | {size} | {times} |"


#: From a point to the size of the request, if it is one, and the gradient.
Way = Callable[[Array], tuple[int | None, Array]]


def observations() -> tuple[Array, Array]:
    """Rows of features, and a label for each."""
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, COLUMNS))
    chances = 1 / (1 + np.exp(-x @ random.normal(size=COLUMNS)))
    return x, (random.random(ROWS) < chances).astype(float)


def by_hand(x: Array, t: Array, theta: Array) -> tuple[float, Array]:
    """The log density and its gradient in NumPy, for any size of x @ theta."""
    z = x @ theta
    e = np.exp(-np.abs(z))
    value = np.sum(t * z - np.maximum(z, 0) - np.log1p(e)) - theta @ theta / 2
    return float(value), x.T @ (t - np.where(z > 0, 1, e) / (1 + e)) - theta


def timed(title: str, way: Way, thetas: Sequence[Array], data: tuple[Array, Array]) -> Timing:
    """Times a way to the gradient at each of these points; the gradients have to be right."""
    size, seconds = None, []
    for theta in thetas:
        start = time.perf_counter()
        size, gradient = way(theta)
        seconds.append(time.perf_counter() - start)
        np.testing.assert_allclose(gradient, by_hand(*data, theta)[1], rtol=RTOL, atol=RTOL)
    return Timing(title, size, seconds)


def over_http(thetas: Sequence[Array], sent: int, data: tuple[Array, Array]) -> list[Timing]:
    """Requests to a server that keeps the data, and requests that bring it."""
    x, t = data
    with (
        tempfile.TemporaryDirectory() as folder,
        start_server(Path(folder)) as server,
        httpx.Client(base_url=server.base_url, timeout=REQUEST_S, trust_env=False) as client,
    ):

        def posting(request: Document, **inputs: Any) -> Way:
            def post(theta: Array) -> tuple[int, Array]:
                body = {**request, "inputs": {"theta": theta.tolist(), **inputs}, "backward": {"wrt": ["theta"]}}
                response = client.post("/v1/evaluate", json=body).raise_for_status()
                return len(response.request.content), np.array(response.json()["grads"]["theta"])

            return post

        packed = {"X": array(x), "t": array(t)}
        registration = {"expr": POSTERIOR, "bind": packed, "name": NAME}
        client.post("/v1/programs", json=registration).raise_for_status()
        bound, bringing = posting({"program": NAME}), {"expr": POSTERIOR}
        return [
            timed("data bound, the first request", bound, thetas[:1], data),
            timed("data bound", bound, thetas, data),
            timed("data sent as base64", posting(bringing, **packed), thetas[:sent], data),
            timed("data sent as JSON numbers", posting(bringing, X=x.tolist(), t=t.tolist()), thetas[:sent], data),
        ]


def by_steps(thetas: Sequence[Array], data: tuple[Array, Array]) -> list[Timing]:
    """What a server does between a request with bound data and its answer, step by step, in this process."""
    limits = ProgramLimits()
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder), Policy())
        registry = Registry(store, limits, CACHE_BYTES)
        bound = {"X": array(data[0]), "t": array(data[1])}
        registry.register(("expr", POSTERIOR), name=NAME, declared={}, bound=bound)
        rows = []
        for theta in thetas:
            body = dumps({"program": NAME, "inputs": {"theta": theta.tolist()}, "backward": {"wrt": ["theta"]}})
            marks = [time.perf_counter()]
            check(EvaluateRequest, parse(body, limits.max_depth))
            marks.append(time.perf_counter())
            graph = registry.graph(NAME)
            marks.append(time.perf_counter())
            prepared = prepare(graph, {"theta": theta}, backward=Backward(wrt=("theta",)))
            marks.append(time.perf_counter())
            found = prepared.run()
            marks.append(time.perf_counter())
            dumps(encode_all(found.grads or {}, "nested"))
            marks.append(time.perf_counter())
            rows.append(np.diff(marks))
        store.close()
    steps = ("read the body", "find the program", "check and trace", "run", "write the answer")
    return [
        Timing(f"server: {step}", None, list(seconds))
        for step, seconds in zip(steps, zip(*rows, strict=True), strict=True)
    ]


def array(x: Array) -> Document:
    """An array object of the wire contract."""
    return {"shape": list(x.shape), "dtype": "float64", "base64": base64.b64encode(x.tobytes()).decode()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="requests to bound data (default 1000)")
    parser.add_argument("--sent", type=int, default=50, help="requests that bring the data (default 50)")
    options = parser.parse_args()
    data = observations()
    thetas = list(np.random.default_rng(1).normal(size=(options.requests, COLUMNS)))
    lines = [
        *over_http(thetas, options.sent, data),
        timed("NumPy by hand, in process", lambda theta: (None, by_hand(*data, theta)[1]), thetas, data),
        *by_steps(thetas, data),
    ]
    print(f"Gradients of a logistic posterior over {ROWS:,} x {COLUMNS} rows.")
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "not set")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, OPENBLAS_NUM_THREADS {threads}.\n")
    print("| way | requests | bytes each | fastest ms | median ms | p95 ms |\n|---|--:|--:|--:|--:|--:|")
    print("\n".join(line.row() for line in lines))


if __name__ == "__main__":
    main()
