"""One way of a request through the server: the order of refusals, who answers, and paths below that of a proxy."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import ClientDisconnect

from app.api import ops
from app.errors import OverloadedError
from app.http.exchange import REFUSAL_S
from tests import virtual_time
from tests.app.hot import Received, Sent, ask, ask_all, asked, new_app, sent

if TYPE_CHECKING:
    from starlette.types import Receive

    from app.http.messages import Answer, Call
    from app.main import Pullback

JSON_TYPE = (b"content-type", b"application/json")
TEXT_TYPE = (b"content-type", b"text/plain")
NO_TEXT = (b"accept", b"text/html")
HUGE = (b"content-length", b"9" * 12)
ID = (b"x-request-id", b"same")
UNKNOWN = b'{"program": "nobody", "inputs": 3}'
WRONG = b'{"expr": "x", "input": 3}'


@pytest.fixture(scope="module")
def app() -> Pullback:
    return new_app()


def request(method: str, path: str, body: bytes = b"", *headers: tuple[bytes, bytes]) -> Sent:
    return Sent(path, body, (*headers, ID), method)


def slug(answer: Received) -> str:
    found: str = answer.document["type"].removeprefix("/problems/")
    return found


# The order of refusals


@pytest.mark.parametrize(
    ("given", "status", "kind"),
    [
        (request("POST", "/nowhere", b"{", HUGE, TEXT_TYPE, NO_TEXT), 404, "unknown-path"),
        (request("POST", "/v1/evaluate/", WRONG, JSON_TYPE), 404, "unknown-path"),
        (request("PUT", "/v1/evaluate", b"{", HUGE, TEXT_TYPE, NO_TEXT), 405, "method-not-allowed"),
        (request("PUT", "/healthz", b"{", HUGE), 405, "method-not-allowed"),
        (request("DELETE", "/v1/programs", b"{", HUGE), 405, "method-not-allowed"),
        (request("HEAD", "/v1/evaluate"), 405, "method-not-allowed"),
        (request("OPTIONS", "/v1/evaluate"), 405, "method-not-allowed"),
        (request("OPTIONS", "/nowhere"), 404, "unknown-path"),
        (request("HEAD", "/nowhere"), 404, "unknown-path"),
        (request("POST", "/v1/evaluate", b"{", HUGE, TEXT_TYPE, NO_TEXT), 413, "body-too-large"),
        (request("POST", "/v1/programs", b"{", HUGE, TEXT_TYPE, NO_TEXT), 413, "body-too-large"),
        (request("POST", "/v1/sessions/s_1/run", b"{", HUGE, TEXT_TYPE, NO_TEXT), 413, "body-too-large"),
        (request("POST", "/v1/evaluate", b"{", TEXT_TYPE, NO_TEXT), 415, "unsupported-media-type"),
        (request("POST", "/v1/programs", b"{", TEXT_TYPE, NO_TEXT), 415, "unsupported-media-type"),
        (request("POST", "/v1/evaluate", b"{", JSON_TYPE, NO_TEXT), 406, "not-acceptable"),
        (request("POST", "/v1/infer", b"{", JSON_TYPE, NO_TEXT), 406, "not-acceptable"),
        (request("GET", "/v1/programs/nobody", b"", NO_TEXT), 406, "not-acceptable"),
        (request("POST", "/v1/evaluate", b"{", JSON_TYPE), 400, "malformed-body"),
        (request("POST", "/v1/evaluate", UNKNOWN, JSON_TYPE), 404, "unknown-program"),
        (request("POST", "/v1/evaluate", WRONG, JSON_TYPE), 422, "invalid-request"),
    ],
    ids=lambda given: f"{given.method} {given.path}" if isinstance(given, Sent) else str(given),
)
def test_the_first_fault_in_the_order_of_the_contract_answers(
    app: Pullback, given: Sent, status: int, kind: str
) -> None:
    before = len(app.pool.calls)
    answer = ask(app, given)
    assert (answer.status, slug(answer)) == (status, kind)
    headers = dict(answer.headers)
    assert headers[b"x-request-id"] == b"same" and b"pullback-version" in headers
    assert int(headers[b"content-length"]) == len(answer.body)
    # What no route wants, and what is too long, is no work.
    assert (len(app.pool.calls) > before) == (kind not in ("unknown-path", "method-not-allowed", "body-too-large"))
    assert headers.get(b"connection") == (b"close" if kind == "body-too-large" else None)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/evaluate", b"POST"),
        ("HEAD", "/v1/evaluate", b"POST"),
        ("OPTIONS", "/v1/programs", b"GET, POST"),
        ("PUT", "/v1/programs/f", b"DELETE, GET"),
        ("POST", "/v1/sessions/s_1", b"DELETE, GET, PATCH"),
        ("POST", "/v1/sessions/s_1/state/m", b"GET, PUT"),
        ("POST", "/healthz", b"GET"),
        ("DELETE", "/v1/ops/sin", b"GET"),
    ],
)
def test_methods_that_are_allowed_are_named(app: Pullback, method: str, path: str, allowed: bytes) -> None:
    answer = ask(app, request(method, path))
    assert answer.status == 405
    assert dict(answer.headers)[b"allow"] == allowed


PREFLIGHT = ((b"origin", b"https://a.example"), (b"access-control-request-method", b"POST"))


@pytest.mark.parametrize(
    ("origins", "headers", "status"),
    [
        ((), PREFLIGHT, 405),
        (("https://a.example",), PREFLIGHT, 204),
        (("*",), PREFLIGHT, 204),
        (("https://b.example",), PREFLIGHT, 405),
        (("https://a.example",), PREFLIGHT[:1], 405),
        (("https://a.example",), PREFLIGHT[1:], 405),
    ],
)
@pytest.mark.parametrize("path", ["/v1/evaluate", "/v1/programs"])
def test_preflights_are_for_origins_that_may_call(
    origins: tuple[str, ...], headers: tuple[tuple[bytes, bytes], ...], status: int, path: str
) -> None:
    app = new_app(cors_origins=origins)
    answer = ask(app, request("OPTIONS", path, b"", *headers))
    assert answer.status == status and not app.pool.calls
    assert (b"access-control-allow-methods" in dict(answer.headers)) == (status == 204)
    # A browser that has asked may call; what it is answered has the headers that let it see the answer.
    call = ask(app, sent("/v1/evaluate", {"expr": "x", "inputs": {"x": 1}}, "application/json", PREFLIGHT[0]))
    may_see = {"*", "https://a.example"} & set(origins)
    assert call.status == 200 and (b"access-control-allow-origin" in dict(call.headers)) == bool(may_see)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1", "/v1/ops", "/v1/ops/sin", "/v1/programs", "/docs"])
def test_head_is_get_without_its_body(app: Pullback, path: str) -> None:
    """A server leaves out the body that an application gives it."""
    got, headed = ask_all(app, [request("GET", path), request("HEAD", path)])
    assert got.status == 200 and got == headed


# Who answers


@pytest.mark.parametrize(
    ("method", "path", "is_work"),
    [
        ("GET", "/healthz", False),
        ("GET", "/readyz", False),
        ("GET", "/v1", False),
        ("GET", "/v1/ops", False),
        ("GET", "/v1/ops/sin", False),
        ("GET", "/docs", False),
        ("GET", "/openapi.json", False),
        ("GET", "/problems/cycle", False),
        ("GET", "/nowhere", False),
        ("POST", "/v1/infer", True),
        ("POST", "/v1/check", True),
        ("GET", "/v1/programs", True),
        ("GET", "/v1/programs/f", True),
        ("DELETE", "/v1/programs/f", True),
        ("GET", "/v1/programs/f/dot", True),
        ("POST", "/v1/sessions", True),
        ("GET", "/v1/sessions/s_1", True),
        ("DELETE", "/v1/sessions/s_1", True),
        ("PATCH", "/v1/sessions/s_1", True),
        ("POST", "/v1/sessions/s_1/run", True),
    ],
)
def test_work_is_for_workers(app: Pullback, method: str, path: str, is_work: bool) -> None:
    before = len(app.pool.calls)
    ask(app, request(method, path, b"{}" if method in ("POST", "PATCH") else b"", JSON_TYPE))
    assert len(app.pool.calls) - before == is_work


def test_a_call_has_all_that_the_request_had(app: Pullback) -> None:
    ask(
        app,
        request("PATCH", "/v1/sessions/s_1", b'{"nograd": true}', JSON_TYPE, (b"x-twice", b"1"), (b"x-twice", b"2")),
    )
    call = app.pool.calls[-1]
    assert (call.method, call.path, call.query, call.client) == ("PATCH", "/v1/sessions/s_1", b"", "127.0.0.1")
    assert (call.request_id, call.body) == ("same", b'{"nograd": true}')
    assert call.values(b"x-twice") == ["1", "2"] and call.value(b"x-twice") == "1,2"
    assert call.values(b"x-never") == [] and call.value(b"x-never") == ""


def test_work_of_one_kind_and_calls_of_one_session_are_known_by_their_kind(app: Pullback) -> None:
    kinds: list[Any] = []
    answer = app.pool.answer

    async def noting(call: Any, kind: Any, receive: Any, waited_s: float = 0.0) -> Any:
        kinds.append(kind)
        return await answer(call, kind, receive)

    app.pool.answer = noting
    try:
        bodies = [
            json.dumps({"expr": f"x * {n}", "inputs": {"x": [0.5] * size}}) for n, size in ((1, 9), (1, 9), (2, 9))
        ]
        for body in [*bodies, bodies[0].ljust(5000)]:
            ask(app, request("POST", "/v1/check", body.encode(), JSON_TYPE))
        for path in ("/v1/sessions/a/run", "/v1/sessions/a/variables", "/v1/sessions/b", "/v1/sessions"):
            ask(app, request("POST" if path != "/v1/sessions/b" else "GET", path, b"{}", JSON_TYPE))
    finally:
        app.pool.answer = answer
    assert kinds[0] == kinds[1] and len(set(kinds[1:4])) == 3
    assert kinds[4:7] == ["a", "a", "b"] and kinds[7] not in ("", *kinds[:7])
    hash(tuple(kinds))


def test_a_bug_in_what_is_no_work_is_a_500_too(
    app: Pullback, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise KeyError("the secret of the house")

    monkeypatch.setattr(ops, "describe_all", broken)
    answer = ask(app, request("GET", "/v1/ops"))
    assert (answer.status, slug(answer)) == (500, "internal-error")
    assert answer.document["request_id"] == "same"
    assert b"secret" not in answer.body and "the secret of the house" in caplog.text


# Below a path of a proxy


@pytest.mark.parametrize("root", ["", "/api", "/a/b"])
def test_a_server_below_a_path_answers_the_same(root: str) -> None:
    app, reference = new_app(), new_app()
    requests = [
        *[sent("/v1/evaluate", {"expr": "x * x", "inputs": {"x": 3}})] * 3,
        sent("/v1/programs", {"expr": "x * 7", "name": "seven"}),
        sent("/v1/evaluate", {"program": "seven", "inputs": {"x": 3}}),
        request("GET", "/v1/programs/seven"),
        request("GET", "/v1/ops/sin"),
        request("GET", "/nowhere"),
        request("PUT", "/v1/evaluate"),
        request("GET", "/v1/sessions/s_1"),
        request("HEAD", "/healthz"),
    ]
    below = [Sent(each.path, each.body, each.headers, each.method, root_path=root) for each in requests]
    answers, expected = ask_all(app, below), ask_all(reference, requests)
    assert [answer.status for answer in answers] == [200, 200, 200, 201, 200, 200, 200, 404, 405, 404, 200]
    for found, right in zip(answers, expected, strict=True):
        if b"created_at" not in right.body:
            assert found == right


@pytest.mark.parametrize("root", ["", "/api"])
def test_pages_for_browsers_know_where_they_are(root: str) -> None:
    app = new_app()
    docs, described = (Sent(path, b"", (ID,), "GET", root_path=root) for path in ("/docs", "/openapi.json"))
    assert f"'{root}/openapi.json'".encode() in ask(app, docs).body
    document = json.loads(ask(app, described).body)
    assert [server["url"] for server in document.get("servers", [])] == ([root] if root else [])


# The log


def test_the_log_has_requests_as_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app()
    noted: list[tuple[str, bytes, int, str]] = []

    def note(scope: Any, answer: Answer, start: float, request_id: str) -> None:
        noted.append((scope["method"], scope["raw_path"], answer.status, request_id))

    monkeypatch.setattr(app.envelope, "note", note)
    ask(app, Sent("/healthz", b"", (ID,), "HEAD", root_path="/api"))
    ask_all(app, [sent("/v1/evaluate", {"expr": "x", "inputs": {"x": 1}})] * 3)
    ask(app, request("POST", "/v1/evaluate", b"{", HUGE))
    assert noted == [
        ("HEAD", b"/api/healthz", 200, "same"),
        *[("POST", b"/v1/evaluate", 200, "same")] * 3,
        ("POST", b"/v1/evaluate", 413, "same"),
    ]


def test_a_client_that_leaves_while_a_worker_works_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app()
    statuses: list[int] = []
    monkeypatch.setattr(app.envelope, "note", lambda scope, answer, start, request_id: statuses.append(answer.status))

    async def left(*given: Any) -> Any:
        raise ClientDisconnect

    app.pool.answer = left

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there")

    given = sent("/v1/check", {"expr": "x", "inputs": {"x": 1.0}})

    async def receive() -> Any:
        return {"type": "http.request", "body": given.body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": given.path, "headers": given.all_headers, "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert statuses == [499] and app.exchange.reservations.held == 0


# Refusals for want of workers


def test_refusals_are_held_back_and_sent_together() -> None:
    async def work() -> None:
        app, loop = new_app(), asyncio.get_running_loop()
        given = sent("/v1/check", {"expr": "x", "inputs": {"x": 1.0}})

        async def full(*given: Any) -> Any:
            raise OverloadedError("the queue is full", 7.0)

        app.pool.answer = full

        async def refused(after_s: float) -> float:
            await asyncio.sleep(after_s)
            answer = await asked(app, given)
            assert (answer.status, slug(answer), dict(answer.headers)[b"retry-after"]) == (503, "overloaded", b"7")
            return loop.time()

        times = await asyncio.gather(*(refused(REFUSAL_S * k / 4) for k in range(4)))
        assert times == [pytest.approx(REFUSAL_S)] * 4
        # The next one waits anew, and one that is given up holds no others back.
        first, second = asyncio.ensure_future(refused(0.0)), asyncio.ensure_future(refused(0.01))
        await asyncio.sleep(0.02)
        first.cancel()
        assert await second == pytest.approx(REFUSAL_S + 0.02)
        assert await refused(0.0) == pytest.approx(2 * REFUSAL_S + 0.02)

    virtual_time.run(work())


def test_waiting_for_a_session_counts_towards_the_deadline() -> None:
    async def work() -> None:
        app, waits = new_app(), []

        async def slow(call: Call, kind: object, receive: Receive, waited_s: float = 0.0) -> Answer:
            waits.append(waited_s)
            await asyncio.sleep(12.0)
            return app.service.answer(call)

        app.pool.answer = slow
        given = Sent("/v1/sessions/s_1", b"", (ID,), "GET")
        answers = await asyncio.gather(*(asked(app, given) for _ in range(3)))
        assert [answer.status for answer in answers] == [404] * 3
        assert waits == [pytest.approx(wait) for wait in (0.0, 12.0, 24.0)]

    virtual_time.run(work())
