"""/v1/programs: registering, reading, paging and deleting; what was answered outlives a server that is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.main import Pullback, create_app
from app.settings import Settings
from app.stores import StoreUnavailableError
from app.stores.sqlite import FILE
from app.workers.threads import THREAD_NAME
from tests.app.conftest import ROOT, Server, environment, start_server

MATYAS = "0.26*(x**2 + y**2) - 0.48*x*y"
LEAST_SQUARES = "mean((X @ w - t) ** 2)"
ROWS = {"X": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "t": [1.0, 2.0, 3.0]}


def talk(app: Pullback, conversation: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
            return await conversation(client)

    try:
        return asyncio.run(run())
    finally:
        app.state.registry.store.close()


def test_the_life_of_a_program(server: Server) -> None:
    body = {"expr": f"life = {LEAST_SQUARES}", "inputs": {"w": {"shape": [2]}}, "bind": ROWS, "name": "life"}
    first = server.client.post("/v1/programs", json=body)
    assert first.status_code == 201
    kept = first.json()
    assert kept == {
        "id": kept["id"],
        "name": "life",
        "inputs": {"w": {"shape": [2], "dtype": None}},
        "outputs": ["life"],
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
    programs = ({"expr": MATYAS}, {"program": kept["id"]}, {"program": "answers"})
    direct, by_id, by_name = (server.ask(path, **program, inputs={"x": [1.0, 2.0], "y": 0.5}) for program in programs)
    assert direct == by_id == by_name


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
    app.state.registry.register(("expr", "x + 1"), name="n", declared={}, bound={})
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


@pytest.mark.thorough
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


@pytest.mark.thorough
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


@pytest.mark.sampled(one_in=8, each=["command", "spoilt"])
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
    ended = subprocess.run([sys.executable, *command], env=env, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode not in (0, None)
    lines = [line for line in ended.stderr.splitlines() if "PULLBACK_DATA_DIR" in line]
    assert len([line for line in lines if words in line]) == 1
    assert "Traceback" not in ended.stderr


def test_a_memory_is_refused_for_several_workers() -> None:
    env = environment(store="memory", workers="2")
    ended = subprocess.run([sys.executable, *SERVE], env=env, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert 'PULLBACK_STORE is "memory"' in line
    assert "2 workers" in line


def test_a_server_that_stops_closes_its_store(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path))

    told: list[str] = []

    async def receive() -> Any:
        if told:
            assert (tmp_path / FILE).is_file()
            assert app.state.registry.page(1).programs == []
        return {"type": "lifespan.shutdown" if told else "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(StoreUnavailableError):
        app.state.registry.page(1)


def test_a_server_that_fails_closes_its_store(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path))

    async def run() -> None:
        async with app.opened():
            raise KeyError("what it was opened for")

    with pytest.raises(KeyError, match="what it was opened for"):
        asyncio.run(run())
    with pytest.raises(StoreUnavailableError):
        app.state.registry.page(1)
    assert app.state.draining
