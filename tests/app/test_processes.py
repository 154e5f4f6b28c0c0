"""Worker processes: killed at the deadline and when the client has gone, replaced, and bounded in memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.assembly import new_store
from app.http.spool import Spool
from app.main import Pullback, create_app
from app.service import worker_service
from app.settings import Settings
from app.workers.pool import Processes
from tests.app.hot import Received, Sent, sent
from tests.app.hot import asked as answered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

THOROUGH = pytest.mark.thorough
#: Bounds what hangs.
PATIENCE_S = 60
#: Products of matrices for a minute, nearly all of it inside of BLAS.
BUSY: dict[str, Any] = {
    "expr": "\n".join(["a = broadcast_to(x, [900, 900])", *["a = tanh(a @ a)"] * 1500, "sum(a)"]),
    "inputs": {"x": 0.001},
}
#: Work for a minute where signals are looked at (tracing and compiling in Python) and where they are not.
_MATRIX = [[float(i == j) + 0.001 for j in range(60)] for i in range(60)]
WORK: dict[str, dict[str, Any]] = {
    "python": {"expr": "\n".join(["v = x", *["v = sin(v) + x"] * 60_000, "v"]), "inputs": {"x": 0.5}},
    "numpy": {
        "expr": "\n".join(["v = broadcast_to(x, [2000000])", *["v = tanh(v)"] * 3000, "sum(v)"]),
        "inputs": {"x": 0.5},
    },
    "blas": BUSY,
    "lapack": {
        "expr": "\n".join(["a = broadcast_to(x, [1000, 60, 60])", *["a = inv(a)"] * 1000, "sum(a)"]),
        "inputs": {"x": _MATRIX},
    },
}
KINDS = pytest.mark.parametrize("kind", ["blas", *(pytest.param(k, marks=THOROUGH) for k in WORK if k != "blas")])
_UNLIMITED: dict[str, Any] = {"max_elements": 10**12, "max_bytes": 10**15, "max_flops": 10**18, "max_nodes": 10**6}
QUICK: dict[str, Any] = {"expr": "x * 2.5", "inputs": {"x": 2.0}}


@asynccontextmanager
async def served(tmp_path: Path, **settings: Any) -> AsyncIterator[Pullback]:
    """An application with processes, open for requests."""
    found = Settings(isolation="processes", access_log=False, **_UNLIMITED, data_dir=tmp_path / "data", **settings)
    app = create_app(found)
    async with app.opened():
        yield app


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


def evaluate(app: Pullback, document: dict[str, Any]) -> asyncio.Task[Received]:
    return asyncio.ensure_future(answered(app, sent("/v1/evaluate", document)))


def processes(root: int | None = None) -> set[int]:
    """Ids of the processes below one, by default below this one, that are no zombies."""
    root = root or os.getpid()
    found = {root}
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.read_text().split(" ", 1)
        except OSError:
            continue
        state, parent = rest.rpartition(")")[2].split()[:2]
        if state != "Z":
            parents[int(pid)] = int(parent)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def cpu_s(pids: set[int]) -> float:
    """Processor time of processes, in seconds."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def started(before: set[int], count: int) -> list[int]:
    """Ids of so many new processes once they are there: the zygote, and workers."""
    await until(lambda: len(processes() - before) == count)
    return sorted(processes() - before)


async def at_work(pids: list[int]) -> int:
    """The first of these processes that computes for a while."""
    spent = {pid: cpu_s({pid}) for pid in pids}
    await until(lambda: any(cpu_s({pid}) - spent[pid] > 0.05 for pid in pids))
    return max(pids, key=lambda pid: cpu_s({pid}) - spent[pid])


@KINDS
def test_a_504_means_that_the_work_has_stopped(tmp_path: Path, kind: str) -> None:
    async def work() -> None:
        async with served(tmp_path, deadline_s=1.0) as app:
            assert (await evaluate(app, QUICK)).status == 200
            before = processes()
            found = await evaluate(app, WORK[kind])
            assert (found.status, found.document["detail"]) == (
                504,
                "the request took longer than 1 s (setting PULLBACK_DEADLINE_S); it was stopped",
            )
            await until(lambda: before - processes() != set())
            pids = processes()
            spent = cpu_s(pids)
            await asyncio.sleep(0.3)
            assert cpu_s(pids) - spent < 0.2
            assert (await evaluate(app, QUICK)).status == 200

    run(work)


def test_workers_share_a_store_in_memory(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path, store="memory") as app:
            made = await answered(app, sent("/v1/programs", {"expr": "x * 7.0", "name": "seven"}))
            assert made.status == 201
            # Also with the process that holds the connections, which looks up registered programs.
            assert app.service.store.resolve_program("seven") == made.document["id"]
            folder = Path(app.service.store.address.place)
            assert folder.exists()
        assert not folder.exists()
        assert not any(tmp_path.iterdir())

    run(work)


def test_long_work_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path, deadline_s=20.0, max_concurrency=1, max_long_workers=2) as app:
            busy = [evaluate(app, {**BUSY, "inputs": {"x": 0.001 + k}}) for k in range(4)]
            for k in range(20):
                found = await evaluate(app, {"expr": f"x * {k}.5", "inputs": {"x": 2.0}})
                assert found.document["values"] == {"out": 2 * k + 1.0}
            assert not any(task.done() for task in busy)
            for task in busy:
                task.cancel()

    run(work)


@pytest.mark.parametrize("kind", ["blas", pytest.param("python", marks=THOROUGH)])
def test_work_whose_client_has_gone_is_stopped(tmp_path: Path, kind: str) -> None:
    async def work() -> None:
        start = processes()
        async with served(tmp_path) as app:
            await until(lambda: len(processes() - start) == 4)
            before = processes()
            gone = asyncio.Event()
            task = asyncio.ensure_future(answered(app, sent("/v1/evaluate", WORK[kind]), gone))
            # It is at work, and long: another one was forked in its place.
            await until(lambda: processes() - before != set())
            gone.set()
            await task
            await until(lambda: before - processes() != set())
            assert (await evaluate(app, QUICK)).status == 200

    run(work)


@pytest.mark.parametrize("which", ["worker", "zygote"])
def test_a_process_that_is_killed_is_replaced(tmp_path: Path, which: str) -> None:
    async def work() -> None:
        before = processes()
        async with served(tmp_path, max_concurrency=1) as app:
            zygote, *workers = await started(before, 3)
            # Whatever may be done twice is tried again, for the kernel takes a process where memory is short.
            expr = "\n".join(["a = broadcast_to(x, [900, 900])", *["a = tanh(a @ a)"] * 9, "sum(a)"])
            task = evaluate(app, {"expr": expr, "inputs": {"x": 0.0}})
            worker = await at_work(workers)
            os.kill(worker if which == "worker" else zygote, signal.SIGKILL)
            assert (await task).document["values"] == {"out": 0.0}
            assert (await evaluate(app, QUICK)).status == 200
            await until(lambda: worker not in processes())

    run(work)


def test_a_run_of_a_session_is_not_tried_again(tmp_path: Path) -> None:
    async def work() -> None:
        before = processes()
        async with served(tmp_path, max_concurrency=1, max_session_bytes=10**12) as app:
            _, *workers = await started(before, 3)
            made = (await answered(app, sent("/v1/sessions", {"seed": 3}))).document
            path = f"/v1/sessions/{made['id']}/run"
            commands = [
                {"do": "variable", "id": "x", "value": 0.001},
                {"do": "apply", "expr": BUSY["expr"], "out": ["y"]},
            ]
            task = asyncio.ensure_future(answered(app, sent(path, {"commands": commands})))
            os.kill(await at_work(workers), signal.SIGKILL)
            found = await task
            assert (found.status, found.document["type"]) == (503, "/problems/unavailable")
            found = await answered(app, sent(path, {"seq": 1, "commands": commands[:1]}))
            assert found.document["seq"] == 1

    run(work)


def test_a_run_that_was_stored_before_its_worker_was_killed_is_answered_again_by_its_seq(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long answer waits for room when its session is stored already: between the two, the worker ends."""

    async def work() -> None:
        before = processes()
        async with served(tmp_path, max_concurrency=1) as app:
            _, *workers = await started(before, 3)
            assert isinstance(app.pool, Processes)
            path = f"/v1/sessions/{(await answered(app, sent('/v1/sessions', {'seed': 3}))).document['id']}/run"
            await answered(app, sent(path, {"commands": [{"do": "variable", "id": "n", "value": 1.0}]}))
            grown = {"do": "apply", "expr": "n + broadcast_to(1.0, [1000, 300])", "out": ["n"]}
            body = {"seq": 2, "commands": [grown], "fetch": ["n"]}
            with monkeypatch.context() as patched:
                patched.setattr(Spool, "has_room", lambda spool, nbytes, client: False)
                task = asyncio.ensure_future(answered(app, sent(path, body)))
                await until(lambda: bool(app.pool._offers._waiting))
                ((worker, _),) = app.pool._offers._waiting
                assert worker.pid in workers
                os.kill(worker.pid, signal.SIGKILL)
                found = await task
                assert (found.status, found.document["type"]) == (503, "/problems/unavailable")
            for _ in range(2):
                found = await answered(app, sent(path, body))
                assert (found.status, dict(found.headers)[b"idempotent-replay"]) == (200, b"true")
                assert found.document["seq"] == 2
                assert found.document["fetched"]["n"]["value"] == [[2.0] * 300] * 1000

    run(work)


def test_nothing_is_left_when_it_closes(tmp_path: Path) -> None:
    async def work() -> None:
        before = processes()
        async with served(tmp_path) as app:
            task = evaluate(app, BUSY)
            await until(lambda: len(processes() - before) > 2)
        assert (await task).status == 503
        await until(lambda: processes() <= before)

    run(work)


def test_what_needs_more_memory_gets_all_of_it_or_a_413(tmp_path: Path) -> None:
    def needing(megabytes: int) -> dict[str, Any]:
        # One array, which no operation can be spared.
        return {"expr": f"max(cumulative_sum(broadcast_to(x, [{megabytes}, 131072])))", "inputs": {"x": 1.0}}

    async def work() -> None:
        async with served(tmp_path) as app:
            assert (await evaluate(app, needing(10))).status == 200
            assert (await evaluate(app, needing(100))).status == 200
            found = await evaluate(app, needing(600))
            assert found.status == 413
            assert "PULLBACK_MAX_WORKER_BYTES" in found.document["detail"]
            both = await asyncio.gather(evaluate(app, needing(120)), evaluate(app, needing(121)))
            assert [each.status for each in both] == [200, 200]

    run(work)


@pytest.mark.parametrize("item", [1, 0.12345678901, [2], {"shape": [], "data": [3]}, "NaN"], ids=str)
def test_a_body_that_needs_more_memory_gets_it_or_is_a_413(tmp_path: Path, item: Any) -> None:
    async def work() -> None:
        async with served(tmp_path, worker_bytes=2**25, max_worker_bytes=2**26) as app:
            counts = [10, *(2**k for k in range(12, 21, 2)), 1_500_000, 10]
            found = [(await evaluate(app, {"expr": "max(x)", "inputs": {"x": [item] * count}})) for count in counts]
            statuses = [each.status for each in found]
            wrong = 422 if isinstance(item, dict) else 200
            assert statuses[:3] == [wrong] * 3 and statuses[-1] == wrong, [each.document for each in found]
            assert set(statuses) <= {wrong, 413}

    run(work)


@pytest.mark.parametrize("encoding", ["nested", "flat", "base64"])
def test_an_answer_that_needs_more_memory_gets_it_or_is_a_413(tmp_path: Path, encoding: str) -> None:
    def long(rows: int) -> dict[str, Any]:
        return {"expr": "broadcast_to(sin(x), [rows, 1000])".replace("rows", str(rows)), "encoding": encoding}

    async def work() -> None:
        async with served(tmp_path, worker_bytes=2**23, max_worker_bytes=2**25) as app:
            for rows, status in ((1, 200), (700, 200), (700, 200), (6000, 413), (1, 200)):
                found = await evaluate(app, long(rows) | {"inputs": {"x": 0.1}})
                assert found.status == status, found.document

    run(work)


def test_sessions_are_the_same_in_all_processes(tmp_path: Path) -> None:
    async def ask(app: Pullback, request: Sent) -> Any:
        return (await answered(app, request)).document

    async def work() -> None:
        async with served(tmp_path) as app:
            made = await ask(app, sent("/v1/sessions", {"seed": 3}))
            path = f"/v1/sessions/{made['id']}/run"
            await ask(app, sent(path, {"commands": [{"do": "variable", "id": "x", "value": 0.0}]}))
            step = {"commands": [{"do": "apply", "op": "add", "args": ["x", 1.0], "out": ["x"]}]}
            await asyncio.gather(*(ask(app, sent(path, step)) for _ in range(30)))
            found = await ask(app, sent(path, {"commands": [], "fetch": ["x"]}))
            assert found["seq"] == 32
            assert found["fetched"]["x"]["value"] == 30.0

    run(work)


def test_workers_are_forked_from_a_process_that_has_answered_before(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, access_log=False)
    given = json.dumps({"settings": settings.model_dump(mode="json"), "store": new_store(settings).address})
    service = worker_service(given)
    # Their first answers would otherwise take longer than those of known programs may.
    assert len(service.preparations.kept) > 10
    assert not any(tmp_path.iterdir())
