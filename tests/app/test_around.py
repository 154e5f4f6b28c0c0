"""Surroundings of requests: CORS, a full queue, deadlines, draining, the last resort."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from app import programs
from app.errors import DeadlineExceededError, OverloadedError
from app.http.messages import Answer, Call
from app.http.spool import Spool
from app.main import Pullback, create_app
from app.service import Service
from app.settings import Settings
from app.workers.threads import Threads
from tests import virtual_time
from tests.app.hot import Sent, Timer, asked, sent

QUICKSTART = {"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}}
ORIGIN = "https://sheet.example"


def talk(app: Pullback, conversation: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
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


STOPPED = {"expr": "gate * 2", "inputs": {"gate": 1.0}}


class Gate:
    """An application whose workers stop at requests that name a gate until it is opened; all others take no time."""

    def __init__(self, **settings: Any) -> None:
        self.opened = threading.Event()
        self.reached = threading.Semaphore(0)
        self.app = create_app(Settings(store="memory", **settings), new_pool=self._new_pool)
        self.app.inline.timer = Timer()

    def _new_pool(self, service: Service, settings: Settings, spool: Spool) -> Threads:
        def answer(call: Call) -> Answer:
            if b"gate" in call.body:
                self.reached.release()
                self.opened.wait()
            found = service.answer(call)
            return found._replace(measure=found.measure and found.measure._replace(cpu_s=0.0, cold_s=0.0))

        return Threads(answer, settings.max_concurrency, settings.max_queue, settings.deadline_s)

    async def status(self, path: str, document: Any) -> int:
        """The status of an answer."""
        return (await asked(self.app, sent(path, document))).status

    @contextlib.asynccontextmanager
    async def stopping(self, calls: int = 1) -> AsyncIterator[None]:
        """Send so many requests of which each keeps a worker busy; let them go in the end."""
        tasks = [asyncio.create_task(self.status("/v1/evaluate", STOPPED)) for _ in range(calls)]
        for _ in tasks:
            await asyncio.to_thread(self.reached.acquire)
        try:
            yield
        finally:
            self.opened.set()
        assert await asyncio.gather(*tasks) == [200] * calls


def test_a_full_queue_answers_503_at_once_and_cheap_requests_pass() -> None:
    gate = Gate(max_concurrency=1, max_queue=0)
    large = {"expr": "x @ x", "inputs": {"x": [[1.0] * 60] * 60}}

    async def conversation() -> None:
        for _ in range(3):
            assert await gate.status("/v1/evaluate", QUICKSTART) == 200
        async with gate.stopping():
            refused = await asked(gate.app, sent("/v1/evaluate", large))
            assert await gate.status("/v1/evaluate", QUICKSTART) == 200
        assert (refused.status, refused.document["type"]) == (503, "/problems/overloaded")
        assert "PULLBACK_MAX_QUEUE" in refused.document["detail"]
        assert int(dict(refused.headers)[b"retry-after"]) >= 1
        while (later := await gate.status("/v1/evaluate", large)) == 503:
            await asyncio.sleep(0)
        assert later == 200

    asyncio.run(conversation())


@pytest.mark.parametrize(("threads", "queue"), [(1, 0), (1, 2), (3, 0), (2, 3)])
def test_threads_and_places_in_the_queue_are_bounded(threads: int, queue: int) -> None:
    gate = Gate(max_concurrency=threads, max_queue=queue)

    async def conversation() -> None:
        async with gate.stopping(threads):
            waiting = [asyncio.create_task(gate.status("/v1/evaluate", QUICKSTART)) for _ in range(queue)]
            await asyncio.sleep(0)
            assert await gate.status("/v1/infer", QUICKSTART) == 503
            assert not any(task.done() for task in waiting)
            # What is no work needs no thread.
            for path in ("/healthz", "/v1", "/v1/ops", "/v1/ops/sin"):
                assert (await asked(gate.app, Sent(path, b"", method="GET"))).status == 200
        assert await asyncio.gather(*waiting) == [200] * queue

    asyncio.run(conversation())


@pytest.mark.parametrize(
    ("path", "is_learned"),
    [("evaluate", True), ("vjp", True), ("jvp", True), ("jacobian", True), ("hessian", True), ("check", False)],
)
def test_only_what_is_known_needs_no_thread(path: str, is_learned: bool) -> None:
    gate = Gate(max_concurrency=1, max_queue=0)
    request = QUICKSTART | {"vjp": {"cotangents": {"out": 1}}, "jvp": {"tangents": {"x": 1}}}.get(path, {})

    async def conversation() -> None:
        assert [await gate.status(f"/v1/{path}", request) for _ in range(2)] == [200, 200]
        async with gate.stopping():
            assert await gate.status(f"/v1/{path}", request) == (200 if is_learned else 503)
            assert await gate.status(f"/v1/{path}", request | {"expr": "sin(x)"}) == 503

    asyncio.run(conversation())


def call(body: bytes) -> Call:
    return Call("POST", "/v1/evaluate", b"", [], "", "id", body)


async def nothing() -> Any:
    raise AssertionError("nobody asks whether the client is there")


def test_work_past_its_deadline_keeps_its_place_until_it_ends() -> None:
    done, answered = threading.Event(), []

    def work(call: Call) -> Answer:
        answered.append(call.body)
        done.wait()
        return Answer(200, [], call.body)

    threads = Threads(work, threads=1, queue=1, deadline_s=0.01)

    async def run() -> bytes:
        with pytest.raises(DeadlineExceededError, match="PULLBACK_DEADLINE_S"):
            await threads.answer(call(b"long"), "", nothing)
        # There is a place to wait, and it is free again after each that has waited for too long.
        for _ in range(3):
            with pytest.raises(DeadlineExceededError, match="PULLBACK_DEADLINE_S"):
                await threads.answer(call(b"waits"), "", nothing)
        threads._deadline_s = 60.0
        waiting = asyncio.create_task(threads.answer(call(b"last"), "", nothing))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="PULLBACK_MAX_QUEUE"):
            await threads.answer(call(b"too much"), "", nothing)
        done.set()
        return (await waiting).body

    assert asyncio.run(run()) == b"last"
    assert answered == [b"long", b"last"]
    threads.close()


def test_threads_that_are_closed_take_nothing_more() -> None:
    threads = Threads(lambda call: Answer(200, [], b""), threads=1, queue=0, deadline_s=60.0)

    async def run() -> None:
        for _ in range(3):
            with pytest.raises(OverloadedError, match="stopping"):
                await threads.answer(call(b""), "", nothing)

    threads.close()
    asyncio.run(run())


def test_a_deadline_in_a_worker_is_a_504() -> None:
    gate = Gate(deadline_s=30.0)
    answer = virtual_time.run(asked(gate.app, sent("/v1/evaluate", STOPPED)))
    gate.opened.set()
    assert (answer.status, answer.document["type"]) == (504, "/problems/deadline-exceeded")
    assert "longer than 30 s (setting PULLBACK_DEADLINE_S)" in answer.document["detail"]
    assert dict(answer.headers)[b"x-request-id"] == b"same"


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
