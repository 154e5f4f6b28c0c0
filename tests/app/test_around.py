"""What surrounds requests: CORS, a full queue, deadlines, draining, the last resort."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app import programs
from app.errors import DeadlineExceededError, OverloadedError
from app.http.turns import Turns
from app.main import create_app
from app.settings import Settings
from tests import virtual_time

QUICKSTART = {"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}}
ORIGIN = "https://sheet.example"


def talk(app: FastAPI, conversation: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
            return await conversation(client)

    return asyncio.run(run())


@pytest.mark.parametrize("document", [QUICKSTART, {"expr": "sine(x)", "inputs": {"x": 1}}, {"expr": "x +"}])
def test_allowed_origins_see_answers_and_errors(document: dict[str, Any]) -> None:
    app = create_app(Settings(cors_origins=(ORIGIN,)))
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://other.example", None)):
        answer = talk(app, lambda c, o=origin: c.post("/v1/evaluate", json=document, headers={"Origin": o}))
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert answer.headers["vary"] == "Origin"
    exposed = talk(app, lambda c: c.get("/nowhere", headers={"Origin": ORIGIN})).headers[
        "access-control-expose-headers"
    ]
    assert set(exposed.split(", ")) == {"X-Request-ID", "Retry-After", "Idempotent-Replay", "Pullback-Version"}


def test_preflight() -> None:
    app = create_app(Settings(cors_origins=(ORIGIN,)))
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    answer = talk(app, lambda c: c.options("/v1/evaluate", headers=headers))
    assert answer.status_code == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Content-Type" in answer.headers["access-control-allow-headers"]
    without = talk(create_app(Settings()), lambda c: c.options("/v1/evaluate", headers=headers))
    assert without.status_code == 405
    assert "access-control-allow-origin" not in without.headers


def test_a_full_queue_answers_503_at_once_and_tiny_requests_pass() -> None:
    app = create_app(Settings(max_concurrency=1, max_queue=0))
    done = threading.Event()
    large = {"expr": "x @ x", "inputs": {"x": [[1.0] * 60] * 60}}

    async def conversation(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        running = asyncio.create_task(app.state.workers.run(done.wait))
        await asyncio.sleep(0)
        refused = await client.post("/v1/evaluate", json=large)
        tiny = await client.post("/v1/evaluate", json=QUICKSTART)
        done.set()
        await running
        while (later := await client.post("/v1/evaluate", json=large)).status_code == 503:
            await asyncio.sleep(0)
        return refused, tiny, later

    refused, tiny, later = talk(app, conversation)
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert (tiny.status_code, later.status_code) == (200, 200)


@pytest.mark.parametrize(
    ("path", "is_tiny"),
    [("evaluate", True), ("vjp", True), ("jvp", True), ("jacobian", False), ("hessian", False), ("check", False)],
)
def test_what_is_short_and_heavy_is_left_to_a_thread(path: str, is_tiny: bool) -> None:
    app = create_app(Settings(max_concurrency=1, max_queue=0))
    request = QUICKSTART | {"vjp": {"cotangents": {"out": 1}}, "jvp": {"tangents": {"x": 1}}}.get(path, {})
    done = threading.Event()

    async def conversation(client: httpx.AsyncClient) -> httpx.Response:
        running = asyncio.create_task(app.state.workers.run(done.wait))
        await asyncio.sleep(0)
        answer = await client.post(f"/v1/{path}", json=request)
        done.set()
        await running
        return answer

    # No thread is free: only what needs none is answered.
    assert talk(app, conversation).status_code == (200 if is_tiny else 503)


def test_work_past_its_deadline_keeps_its_place_until_it_ends() -> None:
    workers = Workers(threads=1, queue=0, deadline_s=0.01)
    done = threading.Event()

    async def run() -> str:
        with pytest.raises(DeadlineExceededError, match="PULLBACK_DEADLINE_S"):
            await workers.run(done.wait)
        with pytest.raises(OverloadedError, match="PULLBACK_MAX_QUEUE"):
            await workers.run(lambda: "")
        done.set()
        workers._deadline_s = 60.0
        while True:
            try:
                return await workers.run(lambda: "answer")
            except OverloadedError:
                await asyncio.sleep(0)

    assert asyncio.run(run()) == "answer"


def test_a_deadline_is_a_504() -> None:
    app = create_app(Settings(deadline_s=1e-9))
    large = {"expr": "x @ x @ x", "inputs": {"x": [[1.0] * 100] * 100}}
    answer = talk(app, lambda c: c.post("/v1/evaluate", json=large))
    assert (answer.status_code, answer.json()["type"]) == (504, "/problems/deadline-exceeded")


def test_a_body_that_does_not_arrive_is_a_504() -> None:
    app = create_app(Settings(deadline_s=0.01))

    async def endless() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    answer = talk(
        app, lambda c: c.post("/v1/evaluate", content=endless(), headers={"Content-Type": "application/json"})
    )
    assert (answer.status_code, answer.json()["type"]) == (504, "/problems/deadline-exceeded")
    assert "did not arrive" in answer.json()["detail"]


def test_readyz_says_503_while_draining() -> None:
    app = create_app(Settings(store="memory"))
    assert talk(app, lambda c: c.get("/readyz")).status_code == 200
    app.state.draining = True
    answer = talk(app, lambda c: c.get("/readyz"))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert talk(app, lambda c: c.get("/healthz")).status_code == 200


def test_a_bug_is_a_500_that_leaks_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*args: Any, **keywords: Any) -> Any:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(programs, "prepare", broken)
    headers = {"X-Request-ID": "bug-1"}
    answer = talk(create_app(Settings()), lambda c: c.post("/v1/evaluate", json=QUICKSTART, headers=headers))
    assert (answer.status_code, answer.json()["request_id"]) == (500, "bug-1")
    assert "secret" not in answer.text
    assert "the secret of the house" in caplog.text
    assert "bug-1" in caplog.text


def test_calls_of_one_session_wait_for_each_other_but_not_for_ever() -> None:
    async def conversation() -> None:
        turns, order = Turns(queue=1, deadline_s=30.0), []
        leave = asyncio.Event()

        async def use(n: int, key: str = "s") -> None:
            async with turns.turn(key):
                order.append(n)
                if n < 2:
                    await leave.wait()

        first, second = asyncio.create_task(use(0)), asyncio.create_task(use(1))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 calls use the same session"):
            await use(2)
        await use(3, "another")
        with pytest.raises(DeadlineExceededError, match=r"other calls used the session for longer than 30 s"):
            await second
        third = asyncio.create_task(use(4))
        leave.set()
        await asyncio.gather(first, third)
        assert order == [0, 3, 4]
        assert not turns._locks

    virtual_time.run(conversation())
