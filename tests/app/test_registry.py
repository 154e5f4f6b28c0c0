"""Registered programs: kept, found, paged, renamed, deleted; across threads, processes and a server that is killed."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from app import registry as registry_module
from app.limits import THREAD_NAME
from app.main import create_app
from app.programs import ProgramLimits, infer, prepare
from app.registry import Registry, UnknownProgramError, name_fault
from app.settings import Settings
from app.stores import MemoryStore, NameConflictError, Policy, Program, SqliteStore, StoreUnavailableError
from app.stores.sqlite import FILE
from engine.errors import AutogradError, InvalidValueError, LimitExceededError, UnknownNameError
from engine.graph.ir import Graph
from engine.graph.limits import Limits
from tests.app.conftest import ROOT, Server, environment, start_server

MATYAS = "0.26*(x**2 + y**2) - 0.48*x*y"
LEAST_SQUARES = "mean((X @ w - t) ** 2)"
ROWS = {"X": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "t": [1.0, 2.0, 3.0]}
CACHE_BYTES = 1_000_000


@pytest.fixture
def registry() -> Registry:
    return Registry(MemoryStore(Policy()), ProgramLimits(), CACHE_BYTES)


def register(registry: Registry, expr: str, name: str | None = None, **more: Any) -> Program:
    given = {"declared": {}, "bound": {}, **more}
    return registry.register(("expr", expr), name=name, **given)[0]


def array(value: Any, dtype: str) -> dict[str, Any]:
    """A value as an array object."""
    data = np.asarray(value, dtype)
    return {"shape": list(data.shape), "dtype": dtype, "base64": base64.b64encode(data.tobytes()).decode()}


# From a request to a program and back


def test_a_program_comes_back_as_it_was(registry: Registry) -> None:
    kept = register(registry, MATYAS, "matyas")
    for key in (kept.id, "matyas"):
        result = prepare(("program", key), {"x": 1, "y": 2}, backward={}, limits=ProgramLimits(), find=registry.graph)
        direct = prepare(("expr", MATYAS), {"x": 1, "y": 2}, backward={}, limits=ProgramLimits())
        assert result.run() == direct.run()


def test_text_and_graph_and_name_are_one_program(registry: Registry) -> None:
    text = register(registry, "y = sin(x)", declared={"x": {"shape": [3]}})
    nodes = [{"id": "y", "op": "sin", "args": ["x"]}]
    declared = {"x": {"shape": [3]}}
    forms = [
        ({"nodes": nodes, "inputs": declared}, {}),
        ({"nodes": nodes}, declared),
        ({"nodes": nodes, "inputs": {"x": {}}}, declared),
        ({"nodes": nodes, "inputs": declared}, {"x": {"shape": None, "dtype": None}}),
    ]
    for graph, beside in forms:
        found, is_new = registry.register(("graph", graph), declared=beside, bound={})
        assert (found.id, is_new) == (text.id, False)
    assert registry.register(("program", text.id), declared={}, bound={}) == (text, False)


def test_a_registered_program_can_be_declared_and_bound_further(registry: Registry) -> None:
    register(registry, LEAST_SQUARES, "loss")
    step, _ = registry.register(("program", "loss"), declared={"w": {"shape": [2]}}, bound={"X": ROWS["X"]})
    both, _ = registry.register(("program", step.id), name="bound", declared={}, bound={"t": ROWS["t"]})
    assert both.id == register(registry, LEAST_SQUARES, declared={"w": {"shape": [2]}}, bound=ROWS).id
    assert list(both.bound) == ["X", "t"]
    assert [i.name for i in registry.graph("bound").inputs] == ["w"]
    with pytest.raises(InvalidValueError, match=r'"w" is declared already, as \{"shape": \[2\]\}'):
        registry.register(("program", "bound"), declared={"w": {"shape": [3]}}, bound={})
    with pytest.raises(InvalidValueError, match="bound already"):
        registry.register(("program", "bound"), declared={}, bound={"t": [0.0, 0.0, 0.0]})


BOUND = {
    "a number": 0.1,
    "a boolean": True,
    "float32": array([0.1, -0.0, np.nan], "float32"),
    "int64": array([2**53 + 1, -(2**63)], "int64"),
    "bool": array([[True], [False]], "bool"),
    "a matrix of float64": array([[1.5, -0.0], [np.inf, 5e-324]], "float64"),
    "an empty array": array(np.zeros((0, 3)), "float32"),
    "a scalar of float32": array(0.1, "float32"),
}


@pytest.mark.parametrize("value", BOUND.values(), ids=BOUND)
def test_bound_values_come_back_bit_for_bit(registry: Registry, value: Any, tmp_path: Path) -> None:
    stores = [MemoryStore(Policy()), SqliteStore(tmp_path, Policy())]
    for store in stores:
        kept = register(Registry(store, ProgramLimits(), 0), "stack([a, x], axis=0)", bound={"a": value})
        again = Registry(store, ProgramLimits(), 0).graph(kept.id).bound["a"]
        expected = prepare(("expr", "a"), {"a": value}, limits=ProgramLimits()).run().values["a"]
        assert type(again) is type(expected)
        found, wanted = np.asarray(again), np.asarray(expected)
        assert (found.dtype, found.shape, found.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
        store.close()


def test_bound_arrays_are_read_only(registry: Registry) -> None:
    kept = register(registry, LEAST_SQUARES, bound=ROWS)
    assert not registry.graph(kept.id).bound["X"].flags.writeable


WRONG: list[tuple[str, type[AutogradError], str, dict[str, Any]]] = [
    ("x + y", UnknownNameError, '"z".*it has x, y', {"bound": {"z": 1}}),
    ("x + y", InvalidValueError, "rectangular", {"bound": {"x": [1, [2]]}}),
    ("x + y", InvalidValueError, "names do not begin with p_", {"name": "p_x"}),
    ("x + y", InvalidValueError, 'give "name" too', {"replace": True}),
    ("x + ", InvalidValueError, "names do not begin with p_", {"name": "p_x"}),
    ("x + y", InvalidValueError, "shape", {"declared": {"x": {"shape": [2]}}, "bound": {"x": [1, 2, 3]}}),
    ("x + y", InvalidValueError, "float16", {"declared": {"x": {"dtype": "float16"}}}),
]


@pytest.mark.parametrize(("expr", "kind", "words", "more"), WRONG)
def test_what_is_wrong_is_refused(
    registry: Registry, expr: str, kind: type[AutogradError], words: str, more: dict[str, Any]
) -> None:
    with pytest.raises(kind, match=words):
        register(registry, expr, **more)
    assert registry.page(10).programs == []


def test_the_value_of_a_declared_input_takes_its_dtype(registry: Registry) -> None:
    kept = register(registry, "a * x", declared={"a": {"dtype": "float32"}}, bound={"a": [1, 2]})
    assert kept.bound["a"].dtype == "float32"


def test_too_many_nodes_are_not_kept() -> None:
    small = Registry(MemoryStore(Policy()), ProgramLimits(cost=Limits(max_nodes=3)), CACHE_BYTES)
    with pytest.raises(LimitExceededError, match="PULLBACK_MAX_NODES"):
        register(small, "sin(sin(sin(sin(x))))")


def test_limits_that_were_lowered_name_the_program() -> None:
    store = MemoryStore(Policy())
    register(Registry(store, ProgramLimits(), CACHE_BYTES), "sin(sin(sin(sin(x))))", "deep")
    small = Registry(store, ProgramLimits(cost=Limits(max_nodes=3)), CACHE_BYTES)
    with pytest.raises(LimitExceededError, match=r'program "deep": .*PULLBACK_MAX_NODES'):
        small.graph("deep")


# Names

NAMES = ["a", "_", "A_b-c.9", "posterior.v2", "P_1", "pi", "lambda", "n" * 200]
NO_NAMES = ["", "9a", "-a", ".a", "a b", "a/b", "a\n", "naïve", "p_", "p_1", "n" * 201]


@pytest.mark.parametrize("name", NAMES)
def test_names(registry: Registry, name: str) -> None:
    assert register(registry, "x", name).name == name
    assert registry.program(name).name == name


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_names(name: str) -> None:
    assert name_fault(name)


def test_a_program_has_all_names_that_it_was_given(registry: Registry) -> None:
    kept = register(registry, "sin(x)", "first")
    assert register(registry, "sin(x)", "second").name == "second"
    assert [registry.program(key).name for key in ("first", "second", kept.id)] == ["first", "second", "first"]
    assert [program.name for program in registry.page(10).programs] == ["first"]


def test_a_name_is_moved_only_when_told_to(registry: Registry) -> None:
    sine = register(registry, "sin(x)", "best")
    with pytest.raises(NameConflictError, match=f'"best" belongs to the program {sine.id}; "replace": true moves it'):
        register(registry, "cos(x)", "best")
    cosine = register(registry, "cos(x)", "best", replace=True)
    assert registry.program("best").id == cosine.id
    assert registry.program(sine.id).name is None


def test_what_is_not_there_is_told_with_what_is_near(registry: Registry) -> None:
    register(registry, "x", "posterior")
    with pytest.raises(UnknownProgramError, match='no program "posteriour"; nearest: posterior'):
        registry.graph("posteriour")
    with pytest.raises(UnknownProgramError, match=r'no program "p_0"$'):
        registry.delete("p_0")


# What is told of a program

COSTS: list[tuple[str, dict[str, Any], dict[str, int] | None]] = [
    ("sin(x)", {}, {"nodes": 1, "bytes": 16}),
    ("sin(x)", {"x": {"shape": [10]}}, {"nodes": 1, "bytes": 160}),
    ("sin(x)", {"x": {"shape": [-1, 10], "dtype": "float32"}}, {"nodes": 1, "bytes": 80}),
    ("x @ y", {"x": {"shape": [3, 2]}, "y": {"shape": [2, 4]}}, {"nodes": 1, "bytes": 8 * (6 + 8 + 12)}),
    ("x @ y", {}, None),
    ("broadcast_to(x, [100000, 100000])", {}, {"nodes": 1, "bytes": 8 * 10**10 + 8}),
]


@pytest.mark.parametrize(("expr", "declared", "expected"), COSTS)
def test_cost_as_far_as_it_is_known(
    registry: Registry, expr: str, declared: dict[str, Any], expected: dict[str, int] | None
) -> None:
    graph = registry.graph(register(registry, expr, declared=declared).id)
    cost = registry_module._summary(graph)["cost"]
    assert cost == expected if expected is None else expected.items() <= cost.items()


@pytest.mark.parametrize("expr", ["dropout(x, 0.5)", "mean((x @ w - t) ** 2)", "p, q = split(x, [1, 3]); p"])
def test_cost_is_that_of_inferring(registry: Registry, expr: str) -> None:
    shapes = {"x": {"shape": [4, 4]}}
    if "w" in expr:
        shapes |= {"w": {"shape": [4]}, "t": {"shape": [4]}}
    graph = registry.graph(register(registry, expr, declared=shapes).id)
    cost = infer(("expr", expr), shapes, limits=ProgramLimits()).cost
    assert registry_module._summary(graph)["cost"] == {"nodes": cost.nodes, "bytes": cost.bytes, "flops": cost.flops}


def test_pages(registry: Registry) -> None:
    kept = [register(registry, f"x + {i}").id for i in range(7)]
    seen, after, sizes = [], 0, []
    while True:
        page = registry.page(3, after)
        seen += [program.id for program in page.programs]
        sizes.append(len(page.programs))
        if page.next is None:
            break
        after = page.next
    assert (seen, sizes) == (kept, [3, 3, 1])
    assert registry.page(7).next is None


# Graphs that are ready to run


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Grows with every graph that is built from what is stored."""
    calls: list[int] = []
    build = registry_module.build

    def counted(*args: Any, **keywords: Any) -> Graph:
        calls.append(1)
        return build(*args, **keywords)

    monkeypatch.setattr(registry_module, "build", counted)
    return iter([calls])


def test_a_graph_is_built_once(registry: Registry, built: Iterator[list[int]]) -> None:
    calls = next(built)
    kept = register(registry, MATYAS, "matyas")
    assert registry.graph("matyas") is registry.graph(kept.id)
    assert len(calls) == 1


def test_graphs_give_way_when_there_is_no_room(built: Iterator[list[int]]) -> None:
    calls = next(built)
    registry = Registry(MemoryStore(Policy()), ProgramLimits(), 50_000)
    for i in range(3):
        register(registry, "sum(a * x)", f"n{i}", bound={"a": [float(i)] * 2000})
    for key in ("n0", "n1", "n0", "n1", "n2", "n1", "n0"):
        registry.graph(key)
    # Two of three have room: n2 drives out n0, which then has to be built again.
    assert len(calls) == 4
    assert len(registry._ready._kept) == 2
    register(registry, "sum(a * x)", "large", bound={"a": [1.0] * 20_000})
    for _ in range(2):
        registry.graph("large")
    assert len(calls) == 6


def test_what_another_process_does_is_seen(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path, Policy()) for _ in range(2)]
    one, other = (Registry(store, ProgramLimits(), CACHE_BYTES) for store in stores)
    sine = register(one, "sin(x)", "best")
    assert other.graph("best").nodes[0].attrs == one.graph("best").nodes[0].attrs
    cosine = register(other, "cos(x)", "best", replace=True)
    assert one.program("best").id == cosine.id
    other.delete(sine.id)
    with pytest.raises(UnknownProgramError):
        one.graph(sine.id)
    for store in stores:
        store.close()


def test_a_program_that_is_deleted_while_it_is_used(registry: Registry) -> None:
    register(registry, MATYAS, "matyas")
    prepared = prepare(("program", "matyas"), {"x": 1, "y": 1}, limits=ProgramLimits(), find=registry.graph)
    registry.delete("matyas")
    assert prepared.run().values["out"] == pytest.approx(0.04)
    with pytest.raises(UnknownProgramError):
        registry.graph("matyas")


def test_threads_that_register_the_same_program(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, Policy())
    registry = Registry(store, ProgramLimits(), CACHE_BYTES)
    barrier = threading.Barrier(32)

    def work(_: int) -> tuple[Program, bool]:
        barrier.wait()
        return registry.register(("expr", LEAST_SQUARES), name="loss", declared={}, bound=ROWS)

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(work, range(32)))
    assert len({program.id for program, _ in found}) == 1
    assert sum(is_new for _, is_new in found) == 1
    assert len(registry.page(100).programs) == 1
    store.close()


# Over HTTP


def talk(app: FastAPI, conversation: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
            return await conversation(client)

    try:
        return asyncio.run(run())
    finally:
        app.state.registry.store.close()


def test_the_life_of_a_program(server: Server) -> None:
    body = {"expr": LEAST_SQUARES, "inputs": {"w": {"shape": [2]}}, "bind": ROWS, "name": "life"}
    first = server.client.post("/v1/programs", json=body)
    assert first.status_code == 201
    kept = first.json()
    assert kept == {
        "id": kept["id"],
        "name": "life",
        "inputs": {"w": {"shape": [2], "dtype": None}},
        "outputs": ["out"],
        "nodes": 4,
        "cost": kept["cost"],
    }
    assert kept["cost"]["nodes"] == 4
    assert first.headers["location"] == f"/v1/programs/{kept['id']}"
    again = server.client.post("/v1/programs", json=body)
    assert (again.status_code, again.json()) == (200, kept)

    details = server.client.get("/v1/programs/life").json()
    assert details == server.client.get(first.headers["location"]).json()
    assert kept.items() <= details.items()
    assert details["bound"] == {"X": {"shape": [3, 2], "dtype": "float64"}, "t": {"shape": [3], "dtype": "float64"}}
    assert details["created_at"].endswith("+00:00")
    for form in ({"expr": details["expr"], "inputs": details["inputs"]}, {"graph": details["graph"]}):
        assert server.client.post("/v1/programs", json={**form, "bind": ROWS}).json()["id"] == kept["id"]

    taken = server.client.post("/v1/programs", json={"expr": "x", "name": "life"})
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/name-conflict")
    assert server.client.delete("/v1/programs/life").status_code == 204
    for response in (server.client.delete("/v1/programs/life"), server.client.get(first.headers["location"])):
        assert (response.status_code, response.json()["type"]) == (404, "/problems/unknown-program")


@pytest.mark.parametrize("path", ["/v1/evaluate", "/v1/infer"])
def test_a_registered_program_answers_as_its_text(server: Server, path: str) -> None:
    kept = server.client.post("/v1/programs", json={"expr": MATYAS, "name": "answers"}).json()
    inputs = {"x": [1.0, 2.0], "y": 0.5}
    nodes = {}
    for program in ({"expr": MATYAS}, {"program": kept["id"]}, {"program": "answers"}):
        answer = server.ask(path, **program, inputs=inputs)
        nodes[str(program)] = answer
    assert len({str(answer) for answer in nodes.values()}) == 1


def test_pages_over_http(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path))

    async def conversation(client: httpx.AsyncClient) -> tuple[list[str], list[str]]:
        kept = [(await client.post("/v1/programs", json={"expr": f"x + {i}"})).json()["id"] for i in range(45)]
        assert len((await client.get("/v1/programs")).json()["programs"]) == 20
        seen, after = [], ""
        while after is not None:
            page = (await client.get("/v1/programs", params={"limit": 10, "after": after})).json()
            seen += [program["id"] for program in page["programs"]]
            after = page["next"]
        return kept, seen

    kept, seen = talk(app, conversation)
    assert kept == seen


def test_a_full_store_is_a_413(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, max_programs=1))

    async def conversation(client: httpx.AsyncClient) -> httpx.Response:
        await client.post("/v1/programs", json={"expr": "x"})
        return await client.post("/v1/programs", json={"expr": "y"})

    answer = talk(app, conversation)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/limit-exceeded")
    assert "PULLBACK_MAX_PROGRAMS" in answer.json()["detail"]


def test_a_store_that_does_not_answer_is_a_503(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path))
    app.state.registry.store.close()
    answer = talk(app, lambda client: client.get("/v1/programs"))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    "body", [b'{"program": "n", "inputs": {"x": 1}}', b'{"\\u0070rogram": "n", "inputs": {"x": 1}}']
)
def test_the_store_is_never_asked_on_the_event_loop(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    app = create_app(Settings(store="memory"))
    register(app.state.registry, "x + 1", "n")
    store, threads = app.state.registry.store, []

    def watch(method: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **keywords: Any) -> Any:
            threads.append(threading.current_thread().name)
            return method(*args, **keywords)

        return watched

    for name in ("resolve_program", "load_program", "list_programs", "delete_program", "add_program"):
        monkeypatch.setattr(store, name, watch(getattr(store, name)))

    async def conversation(client: httpx.AsyncClient) -> list[int]:
        json = {"Content-Type": "application/json"}
        answers = [
            await client.post("/v1/evaluate", content=body, headers=json),
            await client.post("/v1/infer", content=body, headers=json),
            await client.post("/v1/programs", json={"expr": "x"}),
            await client.get("/v1/programs"),
            await client.get("/v1/programs/n"),
            await client.delete("/v1/programs/n"),
        ]
        return [answer.status_code for answer in answers]

    assert talk(app, conversation) == [200, 200, 201, 200, 200, 204]
    assert len(threads) >= 7
    assert all(name.startswith(THREAD_NAME) for name in threads)


# Servers


def test_a_killed_server_has_kept_what_it_answered(tmp_path: Path) -> None:
    with start_server(tmp_path) as running:
        kept = running.client.post("/v1/programs", json={"expr": MATYAS, "name": "matyas"}).json()
        bound = {"expr": LEAST_SQUARES, "bind": ROWS, "name": "loss"}
        assert running.client.post("/v1/programs", json=bound).status_code == 201
        expected = running.evaluate(program="matyas", inputs={"x": 1, "y": 1}, backward=True)
        before = [running.client.get(f"/v1/programs/{name}").json() for name in ("matyas", "loss")]
        running.process.kill()
        running.process.wait()
    with start_server(tmp_path) as running:
        for key in (kept["id"], "matyas"):
            assert running.evaluate(program=key, inputs={"x": 1, "y": 1}, backward=True) == expected
        assert [running.client.get(f"/v1/programs/{name}").json() for name in ("matyas", "loss")] == before
        assert running.client.post("/v1/programs", json=bound).status_code == 200
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log


def test_servers_that_share_a_directory(tmp_path: Path) -> None:
    with start_server(tmp_path) as one, start_server(tmp_path) as other:
        kept = one.client.post("/v1/programs", json={"expr": "sin(x)", "name": "best"}).json()
        assert other.evaluate(program="best", inputs={"x": 0})["values"] == {"out": 0}
        other.client.post("/v1/programs", json={"expr": "cos(x)", "name": "best", "replace": True})
        assert one.evaluate(program="best", inputs={"x": 0})["values"] == {"out": 1}
        assert other.client.delete(f"/v1/programs/{kept['id']}").status_code == 204
        body = {"program": kept["id"], "inputs": {"x": 0}}
        assert one.client.post("/v1/evaluate", json=body).status_code == 404


def test_a_server_in_memory_makes_no_files(tmp_path: Path) -> None:
    with start_server(tmp_path, store="memory") as running:
        assert running.client.post("/v1/programs", json={"expr": "x + 1", "name": "n"}).status_code == 201
        assert running.evaluate(program="n", inputs={"x": 1})["values"] == {"out": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["server.log"]


UVICORN = ["-m", "uvicorn", "app.main:app", "--port", "0"]
SERVE = ["-m", "app.cli", "serve", "--port", "0"]


@pytest.mark.parametrize("command", [UVICORN, SERVE], ids=["uvicorn", "serve"])
@pytest.mark.parametrize("spoilt", ["a foreign file", "no directory"])
def test_a_store_that_cannot_be_used_is_one_line_at_the_start(tmp_path: Path, command: list[str], spoilt: str) -> None:
    if spoilt == "a foreign file":
        (tmp_path / FILE).write_bytes(b"this is no database " * 1000)
        directory, words = tmp_path, "file is not a database"
    else:
        (tmp_path / "file").write_text("")
        directory, words = tmp_path / "file", "cannot be made"
    env = environment(data_dir=str(directory))
    ended = subprocess.run([sys.executable, *command], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode not in (0, None)
    lines = [line for line in ended.stderr.splitlines() if "PULLBACK_DATA_DIR" in line]
    assert len([line for line in lines if words in line]) == 1
    assert "Traceback" not in ended.stderr


def test_a_memory_is_refused_for_several_workers() -> None:
    env = environment(store="memory", workers="2")
    ended = subprocess.run([sys.executable, *SERVE], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert 'PULLBACK_STORE is "memory"' in line
    assert "2 workers" in line


def test_a_server_that_stops_closes_its_store(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path))

    async def run() -> None:
        async with app.router.lifespan_context(app):
            assert (tmp_path / FILE).is_file()
        with pytest.raises(StoreUnavailableError):
            app.state.registry.page(1)

    asyncio.run(run())
