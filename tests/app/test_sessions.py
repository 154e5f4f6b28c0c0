"""Lives of sessions: making, looking, changing flags, repeating calls, quotas, expiry, the end."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from safetensors import numpy as safetensors

from app.cli import main
from app.errors import DeadlineExceededError
from app.handles import digest_of, handle_of
from app.main import create_app
from app.sessions.errors import ExpiredSessionError, SequenceConflictError, UnknownSessionError
from app.sessions.manager import Sessions
from app.sessions.runs import execute, read
from app.sessions.session import Quotas, Session
from app.settings import Settings
from app.stores import Policy, SessionPolicy, SqliteStore, StoreUnavailableError, TooManySessionsError
from app.stores.errors import DamagedError
from app.stores.redis import RedisStore
from app.stores.sqlite.sessions import SqliteSessions
from app.wire import examples
from tests.app.conftest import Server, start_server
from tests.app.scripts import back, do, expr, var
from tests.redis_process import needs_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def made(server: Server, **request: Any) -> str:
    """The path of a new session."""
    response = server.client.post("/v1/sessions", json=request)
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/v1/sessions/{response.json()['id']}"
    return response.headers["location"]


def run(server: Server, path: str, *commands: dict[str, Any], **more: Any) -> Any:
    response = server.client.post(f"{path}/run", json={"commands": commands} | more)
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: httpx.Response, status: int, slug: str, *words: str) -> Any:
    problem = response.json()
    assert (response.status_code, problem["type"]) == (status, f"/problems/{slug}"), problem
    for word in words:
        assert word in problem["detail"]
    return problem


def test_a_session_is_made_looked_at_and_deleted(server: Server) -> None:
    path = made(server, seed=7, ttl_s=60, name="mine")
    assert re.fullmatch(r"/v1/sessions/s_[0-9a-f]{32}", path)
    found = server.client.get(path).json()
    assert (found["seed"], found["ttl_s"], found["name"], found["seq"]) == (7, 60.0, "mine", 0)
    assert (found["nograd"], found["train"]) == (False, True)
    assert server.client.delete(path).status_code == 204
    assert server.client.delete(path).status_code == 204
    refused(server.client.get(path), 404, "unknown-session")
    refused(server.client.post(f"{path}/run", json={}), 404, "unknown-session")


def test_without_a_body_there_is_a_seed_that_is_told(server: Server) -> None:
    first, second = (server.client.post("/v1/sessions", json={}).json() for _ in range(2))
    assert first["seed"] != second["seed"] and first["id"] != second["id"]
    assert 0 <= first["seed"] < 2**53


def test_a_session_made_twice_under_one_key_is_one(server: Server) -> None:
    calls = [
        server.client.post("/v1/sessions", json={"seed": 1}, headers={"Idempotency-Key": key})
        for key in ("a", "a", "b")
    ]
    assert [call.status_code for call in calls] == [201, 200, 201]
    ids = [call.json()["id"] for call in calls]
    assert ids[0] == ids[1] != ids[2]


def test_a_call_may_be_repeated(server: Server) -> None:
    path = made(server)
    body = {"seq": 1, "commands": [var("x", 2.0), expr("x", "x * x")], "fetch": ["x"]}
    first, again = (server.client.post(f"{path}/run", json=body) for _ in range(2))
    assert first.json() == again.json() == {"seq": 1, "made": [], "fetched": {"x": {"value": 4.0, "grad": None}}}
    assert "idempotent-replay" not in first.headers and again.headers["idempotent-replay"] == "true"
    other = server.client.post(f"{path}/run", json={**body, "fetch": []})
    assert refused(other, 409, "sequence-conflict", "expected 2")["expected"] == 2
    refused(server.client.post(f"{path}/run", json={**body, "seq": 3}), 409, "sequence-conflict")
    assert run(server, path, expr("x", "x + 1"), seq=2, fetch=["x"])["fetched"]["x"]["value"] == 5.0
    refused(server.client.post(f"{path}/run", json=body), 409, "sequence-conflict")


def test_a_refused_call_takes_no_number(server: Server) -> None:
    path = made(server)
    run(server, path, var("x", 2.0))
    wrong = {"seq": 2, "commands": [do("assign", id="x", value=5.0), back("y")]}
    problem = refused(server.client.post(f"{path}/run", json=wrong), 404, "unknown-variable", "command 1", '"y"')
    assert problem["errors"][0]["loc"] == ["commands", 1, "of"]
    assert run(server, path, seq=2, fetch=["x"])["fetched"]["x"]["value"] == 2.0
    refused(server.client.post(f"{path}/run", json={"fetch": ["x", "z"]}), 404, "unknown-variable")
    assert server.client.get(path).json()["seq"] == 2


def test_flags_are_the_sessions_own(server: Server) -> None:
    path, other = made(server), made(server)
    assert server.client.patch(path, json={"seq": 1, "nograd": True}).json()["nograd"] is True
    for place, creator in ((path, None), (other, "mul")):
        seen = run(server, place, var("x", 2.0), expr("y", "x * x"), fetch=[{"id": "y", "what": ["creator"]}])
        assert seen["fetched"]["y"]["creator"] == creator
    assert server.client.get(path).json()["nograd"] is True
    refused(server.client.patch(path, json={"nogard": True}), 422, "invalid-request", "nearest: nograd")
    refused(server.client.patch(path, json={"ttl_s": 1e-6}), 422, "invalid-request", "ttl_s is 1e-06", "at least 0.1")
    refused(server.client.patch(path, json={"ttl_s": 10**9}), 422, "invalid-request", "PULLBACK_MAX_SESSION_TTL_S")
    assert server.client.patch(path, json={"ttl_s": 5}).status_code == 200
    assert server.client.get(path).json()["ttl_s"] == 5.0


def test_single_calls(server: Server) -> None:
    path = made(server)

    def post(call: str, status: int, **body: Any) -> Any:
        response = server.client.post(f"{path}/{call}", json=body)
        assert response.status_code == status, response.text
        return response.json()

    assert post("variables", 201, id="x", value=3.0) == {"seq": 1, "id": "x", "value": 3.0, "grad": None}
    assert post("apply", 201, op="square", args=["x"]) == {"seq": 2, "id": "v1", "value": 9.0, "grad": None}
    assert post("backward", 200, of="v1")["id"] == "v1"
    seen = server.client.get(f"{path}/variables/x").json()
    assert (seen["grad"], seen["creator"], seen["generation"]) == (6.0, None, 0)
    assert [v["id"] for v in server.client.get(f"{path}/variables").json()["variables"]] == ["x", "v1"]
    dot = server.client.get(f"{path}/dot", params={"of": "v1"}).text
    assert dot.startswith("digraph g {") and '[label="x",' in dot
    assert "9.0" in server.client.get(f"{path}/dot", params={"of": "v1", "verbose": "true"}).text
    assert post("cleargrad", 200, ids=["x"])["seq"] == 4
    assert post("apply", 201, op="split", args=[[1, 2]], attrs={"sizes": 2})["variables"][1]["value"] == [2.0]
    assert post("variables", 201, do="variable", id="z", value=1.0, seq=6, encoding="flat")["value"]["data"] == [1.0]
    wrong = server.client.post(f"{path}/cleargrad", json={"do": "delete", "ids": ["x"]})
    refused(wrong, 422, "invalid-request", 'do is "delete"; expected "cleargrad"')
    problem = refused(
        server.client.post(f"{path}/apply", json={"op": "add", "args": ["x", "q"]}), 404, "unknown-variable"
    )
    assert problem["errors"][0]["loc"] == ["args", 1]
    refused(server.client.get(f"{path}/variables/q"), 404, "unknown-variable")
    refused(server.client.get(f"{path}/dot"), 422, "invalid-request", '"of" is missing')


FILE = {"Content-Type": "application/safetensors", "Accept": "application/json"}


def test_weights_come_down_and_go_up_as_values_and_as_files(server: Server) -> None:
    client = server.client
    made_by = [do("model", id="m", kind="mlp", config={"out_sizes": [3, 1]})]
    use = [do("call", id="m", args=[[[1.0, 2.0]]], out=["y"])]
    step = [back("y"), do("optimizer", id="o", kind="adam", params="m"), do("step", id="o")]
    path, other = made(server, seed=1), made(server, seed=2)
    run(server, path, *made_by, *use, *step, *use)
    run(server, other, *made_by)
    wanted = client.get(f"{path}/state/m").json()
    assert sorted(wanted["state"]) == ["linear[0].b", "linear[0].w", "linear[1].b", "linear[1].w"]
    assert client.put(f"{other}/state/m", json={"seq": 2, "state": wanted["state"]}).json() == {"seq": 2}
    assert client.get(f"{other}/state/m").json() == wanted
    again = [client.put(f"{other}/state/m?seq=3", json={"state": wanted["state"]}) for _ in range(2)]
    assert [answer.headers.get("idempotent-replay") for answer in again] == [None, "true"]
    for query, words in (("seq=4", "seq is 4 in the query and another in the body"), ("seq=false", "seq is")):
        twice = client.put(f"{other}/state/m?{query}", json={"seq": 3, "state": wanted["state"]})
        refused(twice, 422, "invalid-request", words)
    third = made(server, seed=3)
    run(server, third, *made_by, do("optimizer", id="o", kind="adam", params="m"))
    for held in ("m", "o"):
        file = client.get(f"{path}/state/{held}", headers={"Accept": "application/safetensors"})
        assert file.headers["content-type"] == "application/safetensors"
        arrays = safetensors.load(file.content)
        state = client.get(f"{path}/state/{held}").json()["state"]
        assert {name: array.tolist() for name, array in arrays.items()} == state
        place = f"{third}/state/{held}?seq={2 + (held == 'o')}"
        sent = [client.put(place, content=file.content, headers=FILE) for _ in range(2)]
        assert [answer.status_code for answer in sent] == [200, 200], sent[0].text
        assert "idempotent-replay" in sent[1].headers
        assert client.get(f"{third}/state/{held}").json()["state"] == state
    results = [run(server, place, *use, fetch=["y"])["fetched"]["y"]["value"] for place in (path, other, third)]
    assert results[0] == results[1] == results[2]
    cut = client.put(f"{third}/state/m", content=file.content[:-9], headers=FILE)
    refused(cut, 422, "invalid-request", "no safetensors file")
    refused(client.put(f"{third}/state/m", content=file.content, headers=FILE), 422, "unknown-name", "missing")
    refused(client.put(f"{third}/state/m", json={"state": {"w": 1}}), 422, "unknown-name", "missing")
    refused(client.put(f"{third}/state/m", json={}), 422, "invalid-request", '"state" is missing')
    refused(client.put(f"{third}/state/q", json={"state": {}}), 404, "unknown-variable")
    refused(client.get(f"{third}/state/q"), 404, "unknown-variable")
    refused(client.get(f"{path}/state/y"), 422, "invalid-request", "expected a layer or a model")


def test_a_number_by_itself_is_float64(server: Server) -> None:
    path = made(server)
    what = [{"id": name, "what": ["value", "dtype"]} for name in ("a", "b", "c")]
    commands = [expr("a", "7"), expr("b", "2 * 3"), expr("c", "1 < 2")]
    seen = run(server, path, *commands, fetch=what)["fetched"]
    assert [seen[name] for name in "abc"] == [
        {"value": 7.0, "dtype": "float64"},
        {"value": 6.0, "dtype": "float64"},
        {"value": True, "dtype": "bool"},
    ]


def test_the_examples_of_the_reference(server: Server) -> None:
    path = made(server, **examples.SESSION["session"]["value"])
    for example in examples.RUN.values():
        assert run(server, path, **example["value"])["fetched"]
    for call, do_ in (
        ("variables", "variable"),
        ("apply", "apply"),
        ("backward", "backward"),
        ("cleargrad", "cleargrad"),
    ):
        for example in examples.SINGLE[do_].values():
            assert server.client.post(f"{path}/{call}", json=example["value"]).is_success
    run(server, path, do("layer", id="l", kind="linear", config={"out_size": 2, "in_size": 1}))
    assert server.client.put(f"{path}/state/l", json=examples.STATE["linear"]["value"]).is_success
    assert server.client.patch(path, json=examples.PATCH_SESSION["use"]["value"]).is_success


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def store_of(kind: str, folder: Path, policy: SessionPolicy) -> Any:
    store: Any
    if kind == "memory":
        store = SqliteStore.private(Policy(), policy)
    elif kind == "sqlite":
        store = SqliteStore(folder, Policy(), policy)
    else:
        store = RedisStore(kind, Policy(), policy)
    store.open()
    return store


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=needs_redis)])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Sessions]]:
    """Makes what uses the sessions of one store, as several processes would."""
    stores: list[Any] = []

    def make(
        clock: Clock | None = None,
        quotas: Quotas | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        **policy: Any,
    ) -> Sessions:
        clock = clock or Clock()
        if not stores:
            kind = request.getfixturevalue("redis_server").url if request.param == "redis" else request.param
            stores.append(store_of(kind, tmp_path, SessionPolicy(clock=clock, **policy)))
        options = {"ttl_s": 10.0, "max_ttl_s": 100.0, "cache_bytes": 2**20, "deadline_s": 5.0}
        return Sessions(stores[0].sessions, quotas or Quotas(), clock=clock, monotonic=monotonic, **options)

    yield make
    for store in stores:
        store.close()


def create(sessions: Sessions, client: str = "here", **given: Any) -> str:
    return sessions.create(client, **{"ttl_s": None, "seed": 1, "name": None, "key": None, **given})[0]


def does(*commands: dict[str, Any]) -> Any:
    def work(session: Session, seq: int) -> tuple[int, str, bytes]:
        execute(session, read(commands))
        return 200, "text/plain", str(seq).encode()

    return work


def value(sessions: Sessions, session_id: str, name: str) -> Any:
    return sessions.look(session_id, lambda session, head: session.variable(name, ()).data)


def test_a_session_expires_is_known_for_a_while_and_then_is_not(new: Callable[..., Sessions]) -> None:
    clock = Clock()
    sessions = new(clock, grace_s=50)
    found = create(sessions)
    for _ in range(5):
        clock.now += 9
        sessions.change(found, b"", None, does(var("x", 1.0)))
        clock.now += 9
        assert value(sessions, found, "x") == 1.0
    clock.now += 11
    with pytest.raises(ExpiredSessionError, match="10 s"):
        value(sessions, found, "x")
    with pytest.raises(ExpiredSessionError):
        sessions.change(found, b"", None, does())
    create(sessions)
    with pytest.raises(ExpiredSessionError):
        value(sessions, found, "x")
    clock.now += 50
    create(sessions)
    with pytest.raises(UnknownSessionError):
        value(sessions, found, "x")


@pytest.mark.parametrize("found_by", ["a look", "a call", "a call after long", "another session that is made"])
def test_what_expired_stays_expired_when_the_clock_is_set_back(new: Callable[..., Sessions], found_by: str) -> None:
    clock = Clock()
    one, other = new(clock, grace_s=50, max_sessions=1), new(clock)
    found = create(one)
    one.change(found, b"", None, does(var("x", [1.0] * 1000)))
    assert value(other, found, "x").size == 1000
    clock.now += 61 if found_by == "a call after long" else 11
    if found_by == "another session that is made":
        one.delete(create(one))
    elif found_by == "a look":
        with pytest.raises(ExpiredSessionError):
            value(one, found, "x")
    else:
        with pytest.raises(UnknownSessionError if "long" in found_by else ExpiredSessionError):
            one.change(found, b"", None, does(var("x", 2.0)))
    for backward_s in (5, 50, 500):
        clock.now -= backward_s
        for sessions in (one, other, new(clock)):
            with pytest.raises(ExpiredSessionError, match="10 s"):
                value(sessions, found, "x")
            with pytest.raises(ExpiredSessionError):
                sessions.change(found, b"", None, does(var("x", 2.0)))
    # It takes no room, and is forgotten in the end.
    create(one)
    clock.now += 1000
    with pytest.raises(UnknownSessionError):
        value(one, found, "x")
    create(one)
    with pytest.raises(UnknownSessionError):
        value(other, found, "x")


def test_a_session_that_was_used_meanwhile_is_not_ended(new: Callable[..., Sessions]) -> None:
    clock = Clock()
    sessions = new(clock)
    found = create(sessions)
    before = sessions._store.head(digest_of(found))
    assert before is not None
    clock.now += 5
    sessions.look(found, lambda session, head: None)
    sessions._store.end(before)
    sessions.change(found, b"", None, does(var("x", 1.0)))
    assert value(sessions, found, "x") == 1.0


def test_a_clock_that_is_set_back_ends_no_session(new: Callable[..., Sessions]) -> None:
    clock = Clock()
    sessions = new(clock)
    found = create(sessions)
    for _ in range(3):
        clock.now -= 300
        sessions.change(found, b"", None, does(var("x", 1.0)))
        clock.now += 9
        assert value(sessions, found, "x") == 1.0
    clock.now += 11
    with pytest.raises(ExpiredSessionError):
        value(sessions, found, "x")


def test_a_session_is_told_as_it_was_made_though_keeping_it_takes_longer_than_its_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = create_app(Settings(store="memory"))
    clock, create = Clock(), SqliteSessions.create

    def slowly(*args: Any) -> tuple[str, bool]:
        made = create(*args)
        clock.now += 1000
        return made

    monkeypatch.setattr(SqliteSessions, "create", slowly)
    monkeypatch.setattr(app.state.sessions, "_clock", clock)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with app.opened(), httpx.AsyncClient(transport=transport, base_url="http://local") as client:
            made = await client.post("/v1/sessions", json={"ttl_s": 0.1, "name": "short"})
            return [made, await client.get(made.headers["location"])]

    made, found = asyncio.run(ask())
    assert (made.status_code, made.json()["name"], made.json()["ttl_s"]) == (201, "short", 0.1)
    assert found.status_code in (404, 410)


def test_there_are_no_more_sessions_than_may_be(new: Callable[..., Sessions]) -> None:
    clock = Clock()
    sessions = new(clock, max_sessions=3, max_per_client=2)
    first = create(sessions)
    create(sessions)
    with pytest.raises(TooManySessionsError, match=r"2 sessions of yours.*PER_CLIENT"):
        create(sessions)
    create(sessions, "there")
    with pytest.raises(TooManySessionsError, match=r"3 sessions, as many.*MAX_SESSIONS"):
        create(sessions, "elsewhere")
    sessions.delete(first)
    create(sessions)
    clock.now += 11
    create(sessions)


def test_a_session_holds_no_more_than_it_may(new: Callable[..., Sessions]) -> None:
    quotas = Quotas(variables=3, tape=20, bytes=4000, commands=6)
    sessions = new(quotas=quotas)
    found = create(sessions)
    sessions.change(found, b"", None, does(var("x", [1.0] * 100)))
    grow = expr("x", "x * 2.0")
    for commands, words in [
        ([var(f"y{n}", 0.0) for n in range(4)], "5 variables, the limit is 3.*MAX_SESSION_VARIABLES"),
        ([var("y", [0.0] * 500)], "bytes, the limit is 4,000.*MAX_SESSION_BYTES"),
        ([grow] * 6, "bytes"),
        ([var("y", 0.0)] * 7, "7 commands in one run, the limit is 6.*MAX_COMMANDS"),
    ]:
        with pytest.raises(Exception, match=words):
            sessions.change(found, b"", None, does(*commands))
        assert value(sessions, found, "x").tolist() == [1.0] * 100
    # What is let go of counts no longer.
    for _ in range(10):
        sessions.change(found, b"", None, does(grow, do("unchain", id="x")))
    sessions.change(found, b"", None, does(var("x", 1.0)))
    for _ in range(3):
        sessions.change(found, b"", None, does(*[grow] * 6))
    with pytest.raises(Exception, match=r"variables on its tape, the limit is 20.*MAX_SESSION_TAPE"):
        sessions.change(found, b"", None, does(*[grow] * 6))


def test_whoever_was_too_slow_begins_again(new: Callable[..., Sessions]) -> None:
    """Two processes on one session: the second one writes while the first one works."""
    clock = Clock()
    slow, fast = new(clock), new(clock)
    found = create(slow)
    slow.change(found, b"", None, does(var("x", 1.0)))
    times = []

    def work(session: Session, seq: int) -> tuple[int, str, bytes]:
        times.append(seq)
        if len(times) == 1:
            fast.change(found, b"", None, does(expr("x", "x + 10.0")))
        return does(expr("x", "x * 2.0"))(session, seq)

    assert slow.change(found, b"", None, work).answered.content == b"3"
    assert times == [2, 3]
    assert value(slow, found, "x") == value(fast, found, "x") == 22.0
    with pytest.raises(SequenceConflictError):
        fast.change(found, b"another", 3, does())


def test_a_call_past_its_deadline_writes_nothing(new: Callable[..., Sessions]) -> None:
    now = [0.0]
    sessions = new(monotonic=lambda: now[0])
    found = create(sessions)

    def work(session: Session, seq: int) -> tuple[int, str, bytes]:
        now[0] += 5.1
        return does(var("x", 1.0))(session, seq)

    with pytest.raises(DeadlineExceededError, match="nothing has happened"):
        sessions.change(found, b"", None, work)
    assert sessions.look(found, lambda session, head: (head.seq, list(session.ids))) == (0, [])


def test_a_long_run_ends_at_its_deadline(new: Callable[..., Sessions]) -> None:
    """Between two commands, and not when all are done: a thread cannot be stopped."""
    ticks = iter(range(10**6))
    sessions = new(monotonic=lambda: float(next(ticks)))
    found = create(sessions)
    with pytest.raises(DeadlineExceededError, match="nothing has happened"):
        sessions.change(found, b"", None, does(*[var("x", 1.0)] * 1000))
    assert next(ticks) < 20


def test_a_damaged_session_is_refused_and_others_go_on(tmp_path: Path) -> None:
    store = store_of("sqlite", tmp_path, SessionPolicy())
    options = {"ttl_s": 10.0, "max_ttl_s": 100.0, "cache_bytes": 0, "deadline_s": 5.0}
    sessions = Sessions(store.sessions, Quotas(), **options)
    found, other = create(sessions), create(sessions)
    for each in (found, other):
        sessions.change(each, b"", None, does(var("x", [1.0] * 1000)))
    for spoil in (
        "UPDATE session_arrays SET data = zeroblob(8000)",
        "UPDATE sessions SET document = x'00' || document",
        "UPDATE sessions SET document = 5",
        "UPDATE sessions SET status = 'fine', request = x'00'",
        "UPDATE sessions SET expires_at = 'soon'",
    ):
        with store._database.write() as connection:
            connection.execute(f"{spoil} WHERE {'session = 1' if 'arrays' in spoil else 'number = 1'}")
        with pytest.raises(StoreUnavailableError, match="damaged"):
            sessions.change(found, b"", None, does())
        assert value(sessions, other, "x").tolist() == [1.0] * 1000
    damaged: list[DamagedError] = []
    assert [head.digest for head in store.sessions.list(damaged.append)] == [digest_of(other)]
    assert [error.what for error in damaged] == [f"the session {handle_of(digest_of(found))}"]
    assert "expires_at" in damaged[0].reason and "soon" not in damaged[0].reason
    sessions.delete(found)
    with pytest.raises(UnknownSessionError):
        sessions.change(found, b"", None, does())
    store.close()


def test_sessions_from_the_command_line(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PULLBACK_DATA_DIR", str(tmp_path))
    store = store_of("sqlite", tmp_path, SessionPolicy())
    sessions = Sessions(store.sessions, Quotas(), ttl_s=10.0, max_ttl_s=100.0, cache_bytes=0, deadline_s=5.0)
    found = create(sessions, name="mine")
    model = do("model", id="m", kind="mlp", config={"out_sizes": [1]})
    steps = do("optimizer", id="o", kind="sgd", params="m")
    sessions.change(found, b"", None, does(var("x", [1.0, 2.0]), expr("y", "x * x"), model, steps))

    def said(*words: str, status: int = 0) -> str:
        assert main(["sessions", *words]) == status
        out, err = capsys.readouterr()
        return err if status else out

    handle = handle_of(digest_of(found))
    assert said("list").split()[:3] == [handle, "seq", "1"] and said("list").endswith("  mine\n")
    assert said("show", found) == said("show", handle[:6]) == said("show", handle.removeprefix("h_"))
    lines = said("show", handle).splitlines()
    assert lines[0].startswith(f"{handle}  seq 1") and "  y: float64[2] by mul" in lines
    assert "  m: model mlp {'out_sizes': [1]}" in lines and "  o: optimizer sgd {} of m" in lines
    exported = json.loads(said("export", handle))
    assert exported["handle"] == handle
    assert exported["ids"]["y"]["shape"] == [2] and exported["ids"]["m"] == {
        "state": {"linear[0].b": {"shape": [1, 1], "dtype": "float64", "base64": "AAAAAAAAAAA="}}
    }
    assert "no session begins" in said("show", "h_zz", status=2)
    assert found not in said("show", f"{found}0", status=2)
    create(sessions)
    assert "2 sessions begin" in said("delete", "h_", status=2)
    assert said("delete", handle) == f"deleted {handle}\n"
    assert handle not in said("list")
    store.close()
    monkeypatch.setenv("PULLBACK_STORE", "memory")
    assert "end with it" in said("list", status=2)


def test_what_the_log_shows_of_an_id(tmp_path: Path) -> None:
    with start_server(tmp_path) as running:
        path = made(running)
        run(running, path, var("x", 1.0))
        running.client.get(path)
        # The same id with one letter escaped.
        running.client.get(path.replace("/s_", "/%73_"))
        running.client.put(path)
    log = (tmp_path / "server.log").read_text()
    secret = path.rpartition("/")[2]
    assert f"/v1/sessions/{handle_of(digest_of(secret))}/run" in log
    assert secret[:8] not in log


def test_a_file_of_the_release_before_gets_the_new_tables(tmp_path: Path) -> None:
    """Programs that were kept before there were sessions are still there."""
    from app.stores.sqlite import database, schema

    store = SqliteStore(tmp_path, Policy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "SCHEMAS", schema.SCHEMAS[:1])
        patch.setattr(schema, "SCHEMA_VERSION", 1)
        patch.setattr(database, "SCHEMA_VERSION", 1)
        patch.setattr(store._database, "_on_open", lambda connection: None)
        store.open()
        with store._database.write() as connection:
            connection.execute("INSERT INTO blobs VALUES ('digest', 3, x'010203')")
        store.close()
    store = SqliteStore(tmp_path, Policy())
    store.open()
    assert store.load_blobs(["digest"]) == {"digest": b"\1\2\3"}
    assert store.sessions.list() == []
    store.close()


def test_an_operation_with_a_seed_of_its_own(server: Server) -> None:
    path = made(server, seed=1)
    drop = {"do": "apply", "op": "dropout", "args": ["x"], "out": ["y"]}
    run(server, path, var("x", [1.0] * 8))
    seen = [
        run(server, path, drop | more, fetch=["y"])["fetched"]["y"]["value"] for more in ({"seed": 5}, {}, {"seed": 5})
    ]
    assert seen[0] == seen[2] != seen[1]
    # The session's own generator did not move.
    other = made(server, seed=1)
    run(server, other, var("x", [1.0] * 8))
    assert run(server, other, drop, fetch=["y"])["fetched"]["y"]["value"] == seen[1]
    answer = server.client.post(f"{path}/run", json={"commands": [drop | {"seed": -1}]})
    refused(answer, 422, "invalid-request", "seed is -1")


def test_a_step_changes_how_an_optimizer_is_configured(server: Server) -> None:
    path = made(server)
    optimizer = do("optimizer", id="o", kind="momentum", config={"learning_rate": 0.5, "momentum": 0.5}, params=["x"])
    run(server, path, var("x", 1.0), optimizer, expr("y", "x * 1.0"), back("y"), do("step", id="o"))
    seen = run(server, path, do("step", id="o", config={"learning_rate": 0.25}), fetch=["x", "o"])["fetched"]
    # v = 0.5 * -0.5 - 0.25 * 1; what was kept of the step before is there.
    assert (seen["x"]["value"], seen["o"]["state"]) == (0.0, {"t": 2, "velocity.x": -0.5})
    seen = run(server, path, do("step", id="o"), fetch=["x"])["fetched"]
    assert seen["x"]["value"] == -0.5
    seen = run(server, path, do("step", id="o", hooks=[{"kind": "clip_grad", "max": 0.0}]), fetch=["x"])["fetched"]
    assert seen["x"]["value"] == -0.75
    for more, slug, words in (
        ({"config": {"lr": 1}}, "bad-attribute", 'unknown attribute "lr"'),
        ({"hooks": [{}]}, "invalid-request", 'a hook needs a "kind"'),
        ({"config": {"momentum": "much"}}, "bad-attribute", "momentum"),
    ):
        answer = server.client.post(f"{path}/run", json={"commands": [do("step", id="o", **more)]})
        refused(answer, 422, slug, words)
    assert server.client.get(f"{path}/variables/x").json()["value"] == -0.75


def test_names_are_listed(server: Server) -> None:
    path = made(server)
    run(server, path, var("x", 1.0, name="weights"), var("c", 2.0, constant=True, name="data"), expr("y", "x * c"))
    listed = server.client.get(f"{path}/variables").json()["variables"]
    assert [(each["id"], each["name"]) for each in listed] == [("x", "weights"), ("c", "data"), ("y", None)]


@pytest.mark.thorough
def test_the_tape_is_drawn(server: Server) -> None:
    path = made(server)
    run(server, path, var("x", 1.0), expr("y", "sin(x)"))
    answer = server.client.get(f"{path}/dot.svg", params={"of": "y"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert "</svg>" in answer.text
    refused(server.client.get(f"{path}/dot.svg", params={"of": "z"}), 404, "unknown-variable", '"z"')
    accepted = {"Accept": "text/vnd.graphviz"}
    assert server.client.get(f"{path}/dot", params={"of": "y"}, headers=accepted).status_code == 200


def test_what_was_found_right_once_is_looked_at_again_on_other_shapes(server: Server) -> None:
    path = made(server)
    product = [{"do": "apply", "op": "matmul", "args": ["a", "b"], "out": ["c"]}]
    run(server, path, var("a", [[1.0, 2.0]]), var("b", [[1.0], [2.0]]), *product)
    assert run(server, path, *product, fetch=["c"])["fetched"]["c"]["value"] == [[5.0]]
    answer = server.client.post(f"{path}/run", json={"commands": [var("b", [[1.0]]), *product]})
    refused(answer, 422, "shape-mismatch", "matmul")
    # A literal of another kind is another form: a mask is no number.
    shifted = [{"do": "apply", "op": "add", "args": ["a", 1], "out": ["d"]}]
    run(server, path, *shifted)
    assert run(server, path, *shifted, fetch=["d"])["fetched"]["d"]["value"] == [[2.0, 3.0]]
    # What it makes counts each time.
    grown = [expr("big", "broadcast_to(a, [1000, 2])"), do("delete", ids=["big"])]
    run(server, path, *grown, *grown)
