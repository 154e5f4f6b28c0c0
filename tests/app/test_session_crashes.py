"""Sessions on several processes, which are killed, stopped and asked at once: nothing is lost, doubled or mixed."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest

from app.settings import Settings
from tests.app.calls import received
from tests.app.clocked import CLOCKED, SharedClock
from tests.app.conftest import REQUEST_S, UVICORN, Server, start_server
from tests.app.local import Local
from tests.app.scripts import do, expr, op, training, var
from tests.app.test_session_scripts import bits
from tests.app.unsteady import Unsteady
from tests.redis_process import needs_redis, start_redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


pytestmark = pytest.mark.thorough

#: Faults of the short form, by kind; where there are two edges, one of them may be killed alone.
FEW = {"server": 1, "worker": 3, "zygote": 1, "pause": 1}
FEW_OF_TWO = {"edge": 1, "worker": 3, "zygote": 1, "pause": 1}
#: Sessions that are trained at once, more than there are workers of one edge.
TRAINING = 4
#: Part of the runs that are sent once more though they were answered.
ASKED_AGAIN = 0.1
#: Part of the runs that are sent by another connection at the same time.
SENT_TWICE = 0.2
REPLAY = "idempotent-replay"
DEADLINE_S = Settings.model_fields["deadline_s"].default
MAKE, STEP = training(
    "mlp", {"out_sizes": [8, 1], "activation": "tanh"}, "adam", hooks=[{"kind": "clip_grad", "max": 1.0}]
)[:2]
#: Every step also draws random numbers, and counts.
MAKE = [*MAKE, var("n", 0.0), expr("noise", "dropout(x, 0.5)")]
STEP = [*STEP, expr("noise", "dropout(x, 0.5)"), expr("n", "n + 1.0"), do("unchain", id="n")]
#: Looked at after each run.
FETCHED = ["n", "noise"]


class Trained(NamedTuple):
    """Figures of a training while processes were killed.

    runs: of all sessions. replays: those that were answered again. late: repeated when their session had gone on.
    """

    runs: int
    replays: int
    late: int
    server: Unsteady


class Client:
    """A client that trains in a session of its own, as the SDK does: with numbers, and again after a fault.

    Some runs are also sent by a second connection, as by a network that repeats, and nobody waits for the answer: where
    its worker stands still meanwhile, it comes back to a session that has gone on.

    seen: bits of the answer to each run, as the client got it. replays: answers that came from the store.
    late: number of repeated runs that came when the session had gone on.
    """

    def __init__(self, server: Unsteady, seed: int) -> None:
        self._server, self._seed = server, seed
        self._rng = random.Random(seed)
        self._strays: list[tuple[int, Future[httpx.Response]]] = []
        self.seen: list[Any] = []
        self.replays = self.late = 0

    def train(self, is_over: threading.Event) -> None:
        """Run steps until it is over, and compare with the engine."""
        with self._server.client() as http, self._server.client() as other, ThreadPoolExecutor(1) as stray:
            key = {"Idempotency-Key": f"training-{self._seed}"}
            made = self._server.post(http, "/v1/sessions", {"seed": self._seed}, **key)
            assert made.status_code in (200, 201), made.text
            path = f"/v1/sessions/{made.json()['id']}"
            while not (self.seen and is_over.is_set()):
                body = {"seq": len(self.seen) + 1, "commands": STEP if self.seen else MAKE}
                body |= {"fetch": FETCHED, "encoding": "base64"}
                if self._rng.random() < SENT_TWICE:
                    self._strays.append((len(self.seen), stray.submit(self._server.post, other, f"{path}/run", body)))
                self._run(http, path, body)
            self._check_strays()
            assert http.get(path).json()["seq"] == len(self.seen)
            everything = self._compare_steps()
            last = {"seq": len(self.seen) + 1, "fetch": list(everything), "encoding": "base64"}
            assert bits(_fetched(self._server.post(http, f"{path}/run", last))) == bits(everything)

    def _run(self, http: httpx.Client, path: str, body: dict[str, Any]) -> None:
        answer = self._server.post(http, f"{path}/run", body)
        self.seen.append(bits(_fetched(answer)))
        assert answer.json()["seq"] == len(self.seen)
        self.replays += REPLAY in answer.headers
        if self._rng.random() < ASKED_AGAIN:
            again = self._server.post(http, f"{path}/run", body)
            assert REPLAY in again.headers
            assert again.content == answer.content

    def _check_strays(self) -> None:
        """Compare the answers to repeated runs with the first ones, but for those that came too late for one."""
        for n, future in self._strays:
            answer = future.result()
            if answer.status_code == 409:
                assert answer.json()["type"] == "/problems/sequence-conflict"
                self.late += 1
            else:
                assert bits(_fetched(answer)) == self.seen[n], f"run {n + 1}"

    def _compare_steps(self) -> Any:
        """Compare each answer with the engine's; return all that the engine has at the end."""
        local = Local(self._seed)
        for n, seen in enumerate(self.seen):
            for command in STEP if n else MAKE:
                local.do(command)
            expected = local.seen()
            assert seen == bits({name: expected[name] for name in FETCHED}), f"run {n + 1}"
        return local.seen()


def _fetched(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return received(answer.json()["fetched"])


def trained_while_disturbed(
    folder: Path, plan: Mapping[str, int], seed: int, edges: int = 1, **settings: str
) -> Trained:
    """Train in several sessions until all faults of a plan have happened, and compare with the engine."""
    server = Unsteady(folder, random.Random(seed), edges, **settings)
    clients = [Client(server, 100 * seed + n) for n in range(TRAINING)]
    is_over = threading.Event()
    try:
        with ThreadPoolExecutor(TRAINING) as pool:
            futures = [pool.submit(client.train, is_over) for client in clients]

            def check() -> None:
                for future in futures:
                    if future.done():
                        future.result()

            try:
                server.disturb(plan, check)
            finally:
                is_over.set()
            for future in futures:
                future.result()
    finally:
        server.stop()
    assert server.faults == plan
    return Trained(
        sum(len(c.seen) for c in clients), sum(c.replays for c in clients), sum(c.late for c in clients), server
    )


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def store(request: pytest.FixtureRequest) -> str:
    """Value of PULLBACK_STORE."""
    return str(request.getfixturevalue("redis_server").url) if request.param == "redis" else "sqlite"


@pytest.mark.parametrize(
    ("store", "edges", "plan"),
    [("sqlite", 1, FEW), pytest.param("redis", 2, FEW_OF_TWO, marks=needs_redis)],
    indirect=["store"],
)
def test_training_survives_kills(tmp_path: Path, store: str, edges: int, plan: dict[str, int]) -> None:
    trained = trained_while_disturbed(tmp_path, plan, seed=3, edges=edges, store=store)
    assert trained.runs >= sum(plan.values())


@contextlib.contextmanager
def two_servers(folder: Path, module: Sequence[str] = UVICORN, **settings: str) -> Iterator[tuple[Server, Server]]:
    """Two processes on one store."""
    (folder / "first").mkdir()
    (folder / "second").mkdir()
    shared = {"data_dir": str(folder / "shared"), **settings}
    with (
        start_server(folder / "first", module, **shared) as first,
        start_server(folder / "second", module, **shared) as second,
    ):
        yield first, second


SESSIONS, CLIENTS, RUNS = 50, 16, 6


def test_two_processes_many_sessions_many_clients(tmp_path: Path, store: str) -> None:
    """Each request on a new connection, to either process; a session's clients are served in turn."""
    with two_servers(tmp_path, store=store) as servers:
        urls = [server.base_url for server in servers]

        def post(n: int, path: str, body: Any) -> Any:
            # Certificates are of no use here, and to read them takes longer than the rest.
            answer = httpx.post(f"{urls[n % 2]}{path}", json=body, trust_env=False, timeout=REQUEST_S, verify=False)
            assert answer.status_code in (200, 201), answer.text
            return answer.json()

        def begin(n: int) -> str:
            path = f"/v1/sessions/{post(n, '/v1/sessions', {'seed': n})['id']}"
            post(n + 1, f"{path}/run", {"commands": [var("x", float(n)), var("k", 0.0)]})
            return path

        def use(job: tuple[int, str, int]) -> None:
            n, path, k = job
            # Two clients use each session at once: each run is whole, whoever comes first.
            commands = [expr("x", "x * 2.0 + k"), expr("k", "k + 1.0"), do("unchain", id="x"), do("unchain", id="k")]
            seen = post(n + k, f"{path}/run", {"commands": commands, "fetch": ["x", "k"]})["fetched"]
            assert seen["x"]["value"] == expected(n, int(seen["k"]["value"]))

        with ThreadPoolExecutor(CLIENTS) as pool:
            paths = list(pool.map(begin, range(SESSIONS)))
            jobs = [(n, path, k) for k in range(RUNS) for n, path in enumerate(paths)]
            jobs.sort(key=lambda job: job[0] // 8)
            list(pool.map(use, jobs))
        for n, path in enumerate(paths):
            seen = post(n, f"{path}/run", {"fetch": ["x", "k"]})
            assert seen["seq"] == 2 + RUNS
            assert [seen["fetched"][name]["value"] for name in "xk"] == [expected(n, RUNS), RUNS]


def expected(n: int, runs: int) -> float:
    x = float(n)
    for k in range(runs):
        x = x * 2.0 + k
    return x


def test_a_process_that_was_stopped_for_too_long_writes_nothing(tmp_path: Path, store: str) -> None:
    clock = SharedClock.made(tmp_path / "clock")
    with two_servers(tmp_path, CLOCKED, store=store, test_clock=str(clock.folder)) as (stopped, other):
        path = f"/v1/sessions/{stopped.client.post('/v1/sessions', json={}).json()['id']}"
        assert stopped.client.post(f"{path}/run", json={"commands": [var("x", 1.0)]}).status_code == 200
        late = [do("assign", id="x", value=99.0), op("y", "hold", "x"), expr("y", "y + 1.0")]
        with ThreadPoolExecutor(1) as pool:
            with clock.closed_gate():
                call = pool.submit(stopped.client.post, f"{path}/run", json={"commands": late})
                clock.wait_until_held()
                stopped.process.send_signal(signal.SIGSTOP)
                try:
                    answer = other.client.post(f"{path}/run", json={"commands": [expr("x", "x + 1.0")], "fetch": ["x"]})
                    assert answer.json()["fetched"]["x"]["value"] == 2.0
                    clock.advance(DEADLINE_S + 1.0)
                finally:
                    stopped.process.send_signal(signal.SIGCONT)
            assert call.result().status_code == 504
        for server in (stopped, other):
            seen = server.client.post(f"{path}/run", json={"fetch": ["x"]}).json()
            assert seen["fetched"]["x"]["value"] == 2.0
        assert seen["seq"] == 4


def main() -> None:
    """Kill and stop processes for longer; `make soak` runs it."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for kind, edges in itertools.product(sys.argv[2:] or ("sqlite", "redis"), (1, 2)):
        # Where there are two, a server that is killed is mostly one of them, and at times both.
        servers = {"server": kills} if edges == 1 else {"server": kills // 5, "edge": kills - kills // 5}
        others = {"worker": kills, "zygote": kills // 5, "pause": kills // 5, "hang": kills // 20}
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            store = stack.enter_context(start_redis(folder)).url if kind == "redis" else kind
            begun = time.monotonic()
            found = trained_while_disturbed(folder, servers | others, seed=1, edges=edges, store=store)
            took = time.monotonic() - begun
        faults = ", ".join(f"{count} {fault}" for fault, count in sorted(found.server.faults.items()))
        answers = ", ".join(f"{count} {outcome}" for outcome, count in sorted(found.server.answers.items()))
        print(f"{kind}, --workers {edges}: {faults} in {took:.0f} s", flush=True)
        counts = f"{found.runs} runs of {TRAINING} sessions, {found.replays} answered again"
        print(f"    {counts}, {found.late} repeated too late; answers: {answers}")
        print("    each run applied once, the same bits as undisturbed", flush=True)


if __name__ == "__main__":
    main()
