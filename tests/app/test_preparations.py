"""What is kept ready to run: made once, within its bounds, and never mixed up."""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app import programs
from tests.app.conftest import start_server
from tests.app.hot import AtOnce, ask, ask_all, new_app, sent
from tests.app.test_memory import memory_kb
from tests.app.test_restart import LINUX, workers_of

if TYPE_CHECKING:
    from app.main import Pullback

THREADS, PROGRAMS = 32, 50
MIB = 1024


def test_one_prepares_while_the_others_who_ask_the_same_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app(tiny_bytes=0, max_concurrency=8)
    prepare, calls = programs.prepare, []
    everybody = threading.Barrier(8)

    def slow_prepare(*args: Any, **options: Any) -> Any:
        calls.append(threading.get_ident())
        return prepare(*args, **options)

    monkeypatch.setattr(programs, "prepare", slow_prepare)

    def one(x: float) -> Any:
        everybody.wait()
        return ask(app, sent("/v1/evaluate", {"expr": "x * 2", "inputs": {"x": x}})).document["values"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, [float(x) for x in range(8)]))
    assert found == [{"out": 2.0 * x} for x in range(8)]
    assert len(calls) == 1


def test_errors_reach_each_and_are_not_kept() -> None:
    app = new_app(tiny_bytes=0, max_concurrency=4)
    wrong = sent("/v1/evaluate", {"expr": "sine(x)", "inputs": {"x": 1}})
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(app, wrong), range(8)))
    assert {answer.document["type"] for answer in answers} == {"/problems/unknown-op"}
    assert not len(app.service.preparations.kept)


def test_threads_over_many_programs_get_their_own_results() -> None:
    app = new_app(max_queue=10_000)

    def many(seed: int) -> None:
        random_ = random.Random(seed)
        for _ in range(40):
            k, x, rows = random_.randrange(PROGRAMS), random_.uniform(-2, 2), random_.choice([None, 1, 3])
            value: Any = x if rows is None else [x + i for i in range(rows)]
            document = {"expr": f"sum({k} * x ** 2)", "inputs": {"x": value}, "backward": True}
            answer = ask(app, sent("/v1/evaluate", document)).document
            xs = [x] if rows is None else value
            grads = [2 * k * each for each in xs]
            assert answer["values"]["out"] == pytest.approx(sum(k * each**2 for each in xs), rel=1e-12)
            assert answer["grads"]["x"] == pytest.approx(grads[0] if rows is None else grads, rel=1e-12)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(many, range(THREADS)))
    assert app.inline.answered > THREADS * 20
    assert len(app.service.preparations.kept) <= PROGRAMS * 2


def ask_random(app: Pullback, random_: random.Random, count: int) -> None:
    """Sends requests with programs that are nearly all new, some of them wrong."""
    requests = []
    for _ in range(count):
        terms = [f"{random_.choice(['sin', 'exp', 'tanh', 'sine'])}(x * {random_.random():.9f})" for _ in range(2)]
        value: Any = random_.choice([0.5, [0.5, 1.5], [[1.0, 2.0]]])
        requests.append(sent("/v1/evaluate", {"expr": " + ".join(terms), "inputs": {"x": value}}))
    statuses = {answer.status for answer in ask_all(app, requests)}
    assert statuses <= {200, 422}


@pytest.mark.parametrize("bounds", [{"prepared_requests": 20}, {"prepared_bytes": 100_000}], ids=str)
def test_what_is_kept_stays_within_its_bounds(bounds: dict[str, int]) -> None:
    app = new_app(**bounds)
    ask_random(app, random.Random(0), 200)
    kept = app.service.preparations.kept
    assert 0 < len(kept) <= bounds.get("prepared_requests", 10_000)
    assert 0 < kept.nbytes <= bounds.get("prepared_bytes", 2**28)


def test_one_question_is_kept_ready_for_a_bounded_number_of_forms() -> None:
    app = new_app()
    requests = [sent("/v1/evaluate", {"expr": "sum(x)", "inputs": {"x": [1.0] * n}}) for n in range(1, 201)]
    assert [answer.document["values"]["out"] for answer in ask_all(app, requests)] == [float(n) for n in range(1, 201)]
    [(known, _)] = app.service.preparations.kept._kept.values()
    assert len(known.entries) == 64


def many(k: int) -> list[float]:
    return [k + i / 1000 for i in range(2000)]


PRODUCT = {"op": "mul", "args": ["x", "c"]}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "program",
    [
        lambda k: {"expr": f"x * {k}"},
        lambda k: {"expr": f"sum(x * {many(k)})"},
        lambda k: {"graph": {"nodes": [{"id": "c", "value": many(k)}, {"id": "y", **PRODUCT}]}},
        lambda k: {"expr": " + ".join(f"sin(x * {number})" for number in many(k)[:50])},
    ],
    ids=["small", "text", "graph", "nodes"],
)
def test_what_is_kept_counts_for_what_it_takes(program: Callable[[int], dict[str, Any]]) -> None:
    app = new_app()

    def kept(numbers: range) -> int:
        for k in numbers:
            assert ask(app, sent("/v1/evaluate", {**program(k), "inputs": {"x": 0.5}})).status == 200
        assert isinstance(app.pool, AtOnce)
        app.pool.calls.clear()
        counted: int = app.service.preparations.kept.nbytes + app.inline._records.nbytes
        return counted

    before = kept(range(5))
    tracemalloc.start()
    counted = kept(range(5, 25)) - before
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < taken < 1.5 * counted


@pytest.mark.thorough
@pytest.mark.skipif(not LINUX, reason="memory is read from /proc")
def test_memory_is_flat_once_the_caches_are_full() -> None:
    app = new_app(prepared_requests=50)
    random_ = random.Random(1)
    ask_random(app, random_, 1500)
    before = memory_kb(threading.get_native_id(), "VmRSS")
    ask_random(app, random_, 1500)
    assert memory_kb(threading.get_native_id(), "VmRSS") - before < 16 * MIB


@pytest.mark.skipif(not LINUX, reason="what a process has loaded is read from /proc")
@pytest.mark.parametrize(
    "module",
    [
        ("app.cli", "serve"),
        pytest.param(("app.cli", "serve", "--workers", "2"), marks=pytest.mark.thorough),
        pytest.param(("uvicorn", "app.main:app"), marks=pytest.mark.thorough),
    ],
    ids=str,
)
def test_servers_run_on_uvloop_and_httptools(tmp_path: Path, module: tuple[str, ...]) -> None:
    with start_server(tmp_path, module) as server:
        for _ in range(20):
            server.assert_well()
        for pid in workers_of(server.pid) or [server.pid]:
            loaded = Path(f"/proc/{pid}/maps").read_text()
            assert "/uvloop/" in loaded and "/httptools/" in loaded
    log = (tmp_path / "server.log").read_text()
    assert "running on uvloop" in log
    assert log.count(" INFO POST /v1/evaluate 200 ") == 20
