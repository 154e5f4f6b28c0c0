"""Sessions on several processes, which are killed, stopped and asked at once: nothing is lost, doubled or mixed."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from app.settings import Settings
from tests.app.calls import received
from tests.app.clocked import CLOCKED, SharedClock
from tests.app.conftest import REQUEST_S, ROOT, UVICORN, Server, environment, start_server, stop, wait_until_ready
from tests.app.local import Local
from tests.app.scripts import do, expr, op, training, var
from tests.app.test_session_scripts import bits
from tests.ports import free_port
from tests.redis_process import needs_redis, start_redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


pytestmark = pytest.mark.thorough

KILLS = 5
#: Between two looks at what is waited for.
PAUSE_S = 0.01
DEADLINE_S = Settings.model_fields["deadline_s"].default
MAKE, STEP = training(
    "mlp", {"out_sizes": [8, 1], "activation": "tanh"}, "adam", hooks=[{"kind": "clip_grad", "max": 1.0}]
)[:2]
#: Every step also draws random numbers.
STEP = [*STEP, expr("noise", "dropout(x, 0.5)")]


class Unsteady:
    """A server on one port that is killed again and again while somebody uses it."""

    def __init__(self, folder: Path, rng: random.Random, **settings: str) -> None:
        self.port = free_port()
        self._folder, self._rng = folder, rng
        self._env = environment(data_dir=str(folder / "data"), **settings)
        self._process = self._start()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=REQUEST_S, trust_env=False)
        self.kills = self.answers = 0

    def _start(self) -> subprocess.Popen[bytes]:
        log = self._folder / "server.log"
        command = [sys.executable, "-m", *UVICORN, "--port", str(self.port)]
        with log.open("ab") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=self._env, stdout=output, stderr=subprocess.STDOUT)
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False) as client:
            wait_until_ready(Server(str(client.base_url), process, client), log)
        return process

    def kill(self, times: int) -> None:
        """Kills it so often, each time after some more answers, and somewhere in the work for the next one."""
        for _ in range(times):
            target = self.answers + self._rng.randint(3, 20)
            while self.answers < target:
                time.sleep(self._rng.uniform(0.0, PAUSE_S))
            self._process.kill()
            self._process.wait()
            self.kills += 1
            self._process = self._start()

    def stop(self) -> None:
        self._client.close()
        stop(self._process)

    def post(self, path: str, body: Any) -> httpx.Response:
        """The answer to a call that is repeated until there is one."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = self._client.post(path, json=body)
                if answer.status_code != 503:
                    self.answers += 1
                    return answer
            time.sleep(PAUSE_S)


def trained_while_killed(folder: Path, kills: int, seed: int, **settings: str) -> tuple[int, int]:
    """Trains until the server was killed so often, and compares with the engine; how many steps and repeats it took."""
    server = Unsteady(folder, random.Random(seed), **settings)
    try:
        found = httpx.post(f"http://127.0.0.1:{server.port}/v1/sessions", json={"seed": seed}, trust_env=False).json()
        path = f"/v1/sessions/{found['id']}/run"
        killer = threading.Thread(target=server.kill, args=(kills,))
        killer.start()
        seq = replays = 0
        while seq == 0 or killer.is_alive():
            seq += 1
            answer = server.post(path, {"seq": seq, "commands": MAKE if seq == 1 else STEP})
            assert answer.status_code == 200, answer.text
            replays += "idempotent-replay" in answer.headers
        killer.join()
        assert server.kills == kills
        local = Local(seed)
        for n in range(seq):
            for command in MAKE if n == 0 else STEP:
                local.do(command)
        expected = local.seen()
        answer = server.post(path, {"seq": seq + 1, "fetch": list(expected), "encoding": "base64"})
        assert answer.status_code == 200, answer.text
        assert bits(received(answer.json()["fetched"])) == bits(expected)
        return seq, replays
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def store(request: pytest.FixtureRequest) -> str:
    """What PULLBACK_STORE is."""
    return str(request.getfixturevalue("redis_server").url) if request.param == "redis" else "sqlite"


def test_training_survives_kills(tmp_path: Path, store: str) -> None:
    steps, _ = trained_while_killed(tmp_path, KILLS, seed=3, store=store)
    assert steps >= 3 * KILLS


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


SESSIONS, CLIENTS, RUNS = 200, 16, 6


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
    """The long form: `make soak` runs it."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for kind in ("sqlite", "redis"):
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            store = stack.enter_context(start_redis(folder)).url if kind == "redis" else kind
            begun = time.monotonic()
            steps, replays = trained_while_killed(folder, kills, seed=1, store=store)
            took = time.monotonic() - begun
        outcome = f"{steps} steps, {replays} of them answered again, the same bits as undisturbed"
        print(f"{kind}: {kills} kills in {took:.0f} s: {outcome}", flush=True)


if __name__ == "__main__":
    main()
