"""Keys: who may do what, from which moment on, and what a secret never gets into."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.routing import Route

from app.errors import RateLimitedError, UnauthorizedError
from app.http.access_log import AccessLog, _as_json
from app.http.doorway import client_of
from app.http.messages import Answer, Call
from app.http.spool import Spool
from app.keys import rates
from app.keys.admin import KeyAdmin
from app.keys.ring import KeyRing
from app.keys.tokens import digest_of, new_id, new_key, sent_key
from app.stores import Policy, SqliteStore
from app.stores.errors import StoreUnavailableError
from app.stores.keys import Rates
from app.stores.owners import UNLIMITED, Allowance
from app.wire.media import JSON
from app.workers.jobs import Job, Sizes
from app.workers.pool import Processes
from app.workers.schedule import Pace, Queues, Shares
from tests.app.hot import asked, sent
from tests.app.keyed import Keyed, header

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK: dict[str, Any] = {"expr": "x * 2.5", "inputs": {"x": 2.0}}
#: For each endpoint by its operationId: the scope that it needs, "key" for any key, "open" for none at all.
NEEDS = {
    "open": "get_health get_readiness get_problem openapi get_docs",
    "key": "get_root list_ops get_op",
    "evaluate": "evaluate vjp jvp jacobian hessian hvp check infer",
    "programs": "register_program list_programs get_program get_program_dot get_program_svg delete_program",
    "sessions": "create_session get_session delete_session change_session run_commands variable_in_session "
    "apply_in_session backward_in_session cleargrad_in_session list_variables get_variable get_session_dot "
    "get_session_svg get_state put_state",
    # From another machine.
    "admin": "get_metrics",
}
ROWS = ["", "wrong", "revoked", "evaluate", "programs", "sessions", "jobs", "admin"]


@pytest.fixture(scope="module")
def keyed() -> Iterator[Keyed]:
    found = Keyed()
    for scope in ("evaluate", "programs", "sessions", "jobs", "admin"):
        found.create(scope, [scope])
    found.create("revoked", ["admin"])
    found.admin.revoke(found.id("revoked"))
    found.keys["wrong"] = new_key(new_id())
    found.app.keys.load()
    yield found
    found.app.service.store.close()


def endpoints(app: Any) -> list[tuple[str, str, str]]:
    """Name, method and path of every endpoint."""
    places = {"{program}": "p_0", "{session}": "s_0", "{variable}": "x", "{slug}": "forbidden", "{name}": "sin"}
    found = []
    own = [route for route in app.service.routes if isinstance(route, Route)]
    for route in [*app.state.routes, *own]:
        path = route.path
        for place, value in places.items():
            path = path.replace(place, value)
        found += [
            (getattr(route, "operation_id", None) or route.name, method, path)
            for method in sorted(route.methods - {"HEAD"})
        ]
    return found


def needed_by(name: str) -> str:
    """Return the row of an endpoint in `NEEDS`."""
    for scope, names in NEEDS.items():
        if name in names.split():
            return scope
    raise AssertionError(f'the endpoint "{name}" has no row in NEEDS: who may use it?')


def test_who_may_do_what(keyed: Keyed) -> None:
    for (name, method, path), row in product(endpoints(keyed.app), ROWS):
        scope = needed_by(name)
        if scope == "open":
            expected = 0
        elif row in ("", "wrong", "revoked"):
            expected = 401
        else:
            expected = 0 if row == "admin" or scope in ("key", row) else 403
        answer = keyed.ask(method, path, row, {} if method != "GET" else None)
        refused = answer.status if answer.status in (401, 403) else 0
        assert refused == expected, (name, method, path, row, answer)
        assert (header(answer, "www-authenticate") is not None) == (expected > 0)


@pytest.mark.parametrize(
    ("authorization", "words"),
    [
        ("", "send it as Authorization"),
        ("Basic dXNlcjpwYXNz", "expected Bearer pb_<id>_<secret>"),
        ("Bearer", "expected Bearer"),
        ("Bearer pb_k_0123456789ab_short", "expected Bearer"),
        ("Bearer pb_k_0123456789ab_" + 40 * "0", "unknown or was revoked"),
    ],
)
def test_a_key_that_is_none_is_a_401_that_says_why(keyed: Keyed, authorization: str, words: str) -> None:
    headers = {"authorization": authorization} if authorization else {}
    answer = keyed.ask("POST", "/v1/evaluate", document=QUICK, headers=headers)
    assert answer.status == 401
    assert answer.document["type"] == "/problems/unauthorized"
    assert words in answer.document["detail"]
    challenge = header(answer, "www-authenticate")
    assert challenge is not None
    assert challenge.startswith("Bearer realm=")
    assert ("invalid_token" in challenge) == ("unknown" in words)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(keyed: Keyed, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {keyed.keys['evaluate']}"}
    assert keyed.ask("POST", "/v1/evaluate", document=QUICK, headers=headers).status == 200


def test_unknown_paths_and_methods_are_told_first(keyed: Keyed) -> None:
    assert keyed.status("GET", "/v1/nowhere") == 404
    assert keyed.status("DELETE", "/v1/evaluate") == 405
    assert keyed.status("GET", "/v1/nowhere", "evaluate") == 404


def test_openapi_says_which_scope_a_path_needs(keyed: Keyed) -> None:
    document = keyed.app.service.openapi()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for operation in methods.values():
            scope = needed_by(operation["operationId"])
            if scope == "open":
                assert "security" not in operation
                continue
            assert operation["security"] == [{"key": [] if scope == "key" else [scope]}, {}], path
            assert {"401", "403", "429"} <= operation["responses"].keys()


def test_two_keys_in_one_request_are_refused(keyed: Keyed) -> None:
    ring, app = keyed.app.keys, keyed.app
    value = f"Bearer {keyed.keys['admin']}".encode()
    scope = {"method": "GET", "path": "/v1", "headers": [(b"authorization", value)] * 2, "client": None}
    with pytest.raises(UnauthorizedError, match="several times"):
        app.exchange._doorway.enter(scope, dict(scope["headers"]))  # type: ignore[arg-type, call-overload]
    assert ring.find(value) is not None


@pytest.mark.parametrize(
    ("client", "headers", "is_let_in"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("192.0.2.7", {}, False),
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.7"}, False),
        ("127.0.0.1", {"forwarded": "for=192.0.2.7"}, False),
        ("", {}, False),
    ],
)
def test_metrics_are_for_admins_and_the_machine_itself(
    keyed: Keyed, client: str, headers: dict[str, str], is_let_in: bool
) -> None:
    assert keyed.ask("GET", "/metrics", client=client, headers=headers).status == (200 if is_let_in else 401)
    assert keyed.ask("GET", "/metrics", "evaluate", client="192.0.2.7").status == 403


def test_without_keys_all_is_open_and_the_first_key_closes_it() -> None:
    keyed = Keyed()
    assert keyed.status("POST", "/v1/evaluate", document=QUICK) == 200
    assert keyed.status("GET", "/metrics") == 200
    keyed.create("first")
    assert keyed.status("POST", "/v1/evaluate", document=QUICK) == 401
    assert keyed.status("POST", "/v1/evaluate", "first", QUICK) == 200
    # A server whose only key was revoked lets nobody in.
    keyed.admin.revoke(keyed.id("first"))
    keyed.app.keys.load()
    assert keyed.status("POST", "/v1/evaluate", "first", QUICK) == 401
    assert keyed.status("POST", "/v1/evaluate", document=QUICK) == 401


def test_a_revoked_key_ends_with_the_next_look_and_in_the_middle_of_its_work() -> None:
    keyed = Keyed()
    keyed.create("ada")
    answers = []
    answer = keyed.app.pool._answer  # type: ignore[attr-defined]

    def revoking(call: Any) -> Any:
        keyed.admin.revoke(keyed.id("ada"))
        keyed.app.keys.load()
        return answer(call)

    keyed.app.pool._answer = revoking  # type: ignore[attr-defined]
    answers = [keyed.status("POST", "/v1/evaluate", "ada", QUICK) for _ in range(2)]
    assert answers == [200, 401]


def test_the_ring_looks_by_itself() -> None:
    keyed = Keyed()
    ring = keyed.app.keys
    key_id = keyed.create("ada")
    value = f"Bearer {keyed.keys['ada']}".encode()
    ring.watch()
    try:
        assert ring.find(value) is not None
        keyed.admin.revoke(key_id)
        while ring.find(value) is not None:
            ring._end.wait(0.01)
    finally:
        ring.close()


def test_a_damaged_key_does_not_keep_others_from_being_revoked(caplog: pytest.LogCaptureFixture) -> None:
    keyed = Keyed()
    ids = [keyed.create(name) for name in ("damaged", "revoked", "left")]
    store = keyed.app.service.store.keys
    with store._write() as connection:  # type: ignore[attr-defined]
        connection.execute("UPDATE keys SET record = 'x', revision = revision + 9 WHERE id = ?", (ids[0],))
    keyed.admin.revoke(ids[1])
    keyed.app.keys.load()
    assert [keyed.status("GET", "/v1", name) for name in ("damaged", "revoked", "left", "")] == [401, 401, 200, 401]
    assert "the record of key number 1 is damaged in the store" in caplog.text
    assert not any(key.rpartition("_")[2] in caplog.text for key in keyed.keys.values())


def test_a_rotated_key_has_two_secrets_for_a_while() -> None:
    now = [1000.0]
    keyed = Keyed()
    ring = keyed.app.keys
    ring._wall = keyed.admin._clock = lambda: now[0]
    key_id = keyed.create("ada")
    program = keyed.ask("POST", "/v1/programs", "ada", {"expr": "x * 3"}).document["id"]
    old = keyed.keys["ada"]
    keyed.keys["new"] = keyed.admin.rotate(key_id, 60.0)
    ring.load()
    assert [keyed.status("GET", "/v1", key) for key in (old, "new")] == [200, 200]
    now[0] += 60.0
    ring.load()
    assert [keyed.status("GET", "/v1", key) for key in (old, "new")] == [401, 200]
    # What it owned is its own still.
    assert keyed.status("DELETE", f"/v1/programs/{program}", "new") == 204
    keyed.keys["last"] = keyed.admin.rotate(key_id, 0.0)
    ring.load()
    assert [keyed.status("GET", "/v1", key) for key in ("new", "last")] == [401, 200]


class _Failing:
    """Storage of keys that fails."""

    def __getattr__(self, name: str) -> Any:
        raise StoreUnavailableError("the store does not answer just now")


def test_keys_that_cannot_be_read_let_nobody_in() -> None:
    keyed = Keyed()
    keyed.app.keys._store = _Failing()
    assert keyed.status("POST", "/v1/evaluate", document=QUICK) == 503
    with pytest.raises(StoreUnavailableError):
        KeyRing(_Failing()).watch()


def test_keys_that_were_read_hold_while_the_store_fails() -> None:
    keyed = Keyed()
    keyed.create("ada")
    keyed.app.keys._store = _Failing()
    with pytest.raises(StoreUnavailableError):
        keyed.app.keys.load()
    assert keyed.status("POST", "/v1/evaluate", "ada", QUICK) == 200


# Owners


@pytest.fixture
def two() -> Iterator[Keyed]:
    """Two keys, and one of an admin."""
    found = Keyed()
    found.create("ada")
    found.create("bob")
    found.create("root", ["admin"])
    yield found
    found.app.service.store.close()


def test_a_program_is_owned_by_all_who_registered_it(two: Keyed) -> None:
    document = {"expr": "x * 3", "name": "mine"}
    first = two.ask("POST", "/v1/programs", "ada", document)
    path = f"/v1/programs/{first.document['id']}"
    assert first.status == 201
    assert two.status("POST", "/v1/programs", "ada", document) == 200
    assert two.status("DELETE", path, "bob") == 403
    run = {"program": first.document["id"], "inputs": {"x": 2.0}}
    assert two.status("POST", "/v1/evaluate", "bob", run) == 200
    assert two.status("POST", "/v1/programs", "bob", {"expr": "x * 3"}) == 201
    listed = {key: two.ask("GET", "/v1/programs", key).document["programs"] for key in ("ada", "bob", "root")}
    assert [program["name"] for program in listed["ada"]] == ["mine"]
    assert [program["name"] for program in listed["bob"]] == [None]
    assert len(listed["root"]) == 1
    # The name goes with its owner, the program with the last one.
    assert two.status("DELETE", path, "ada") == 204
    assert two.status("DELETE", path, "ada") == 403
    assert two.ask("GET", path, "bob").document["name"] is None
    assert two.status("DELETE", path, "bob") == 204
    assert two.status("GET", path, "bob") == 404


def test_a_name_belongs_to_its_owner(two: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    assert two.status("POST", "/v1/programs", "ada", {"expr": "x * 3", "name": "mine"}) == 201
    for replace in ({}, {"replace": True}):
        answer = two.ask("POST", "/v1/programs", "bob", {"expr": "x * 4", "name": "mine", **replace})
        assert answer.status == 403
        assert "belongs to another key" in answer.document["detail"]
    assert two.status("POST", "/v1/programs", "ada", {"expr": "x * 4", "name": "mine"}) == 409
    moved = {"expr": "x * 5", "name": "mine", "replace": True}
    assert two.status("POST", "/v1/programs", "ada", moved) == 201
    with caplog.at_level(logging.INFO, "pullback"):
        assert two.status("POST", "/v1/programs", "root", {**moved, "expr": "x * 6"}) == 201
    assert f'audit: {two.id("root")}: take the name "mine" from the key {two.id("ada")}: done' in caplog.text
    # Names of keys are not told to others.
    assert "mine" not in two.ask("GET", "/v1/programs/mime", "bob").document["detail"].replace("mime", "")


def test_an_admin_deletes_for_all_what_it_does_not_own(two: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    path = f"/v1/programs/{two.ask('POST', '/v1/programs', 'ada', {'expr': 'x * 3'}).document['id']}"
    with caplog.at_level(logging.INFO, "pullback"):
        assert two.status("DELETE", path, "root") == 204
    assert f"audit: {two.id('root')}: delete the program {path[13:]} of other keys: done" in caplog.text
    assert two.status("GET", path, "ada") == 404


def test_what_was_there_before_keys_belongs_to_admins() -> None:
    keyed = Keyed()
    program = keyed.ask("POST", "/v1/programs", document={"expr": "x * 3"}).document["id"]
    session = keyed.ask("POST", "/v1/sessions", document={}).document["id"]
    keyed.create("ada")
    keyed.create("root", ["admin"])
    run = {"commands": [{"do": "variable", "id": "x", "value": 1.0}]}
    for key, expected in (("ada", 403), ("root", 200)):
        assert keyed.status("GET", f"/v1/sessions/{session}", key) == expected
        assert keyed.status("POST", f"/v1/sessions/{session}/run", key, run) == expected
    assert keyed.status("DELETE", f"/v1/programs/{program}", "ada") == 403
    assert keyed.status("DELETE", f"/v1/programs/{program}", "root") == 204


def test_a_session_is_for_its_key_alone(two: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    session = f"/v1/sessions/{two.ask('POST', '/v1/sessions', 'ada', {}).document['id']}"
    run = {"commands": [{"do": "variable", "id": "x", "value": 1.0}]}
    assert two.status("POST", f"{session}/run", "ada", run) == 200
    looks = ["", "/variables", "/variables/x", "/dot?of=x"]
    for key, seen, changed in (("ada", 200, 200), ("bob", 403, 403), ("root", 200, 403)):
        for look in looks[:3]:
            assert two.status("GET", session + look, key) == seen, (key, look)
        assert two.status("POST", f"{session}/run", key, run) == changed
        assert two.status("PATCH", session, key, {"train": False}) == changed
        # What is wrong with the body is told to the owner alone.
        assert two.status("PATCH", session, key, {"trian": False}) == (422 if changed == 200 else 403)
    assert two.status("DELETE", session, "bob") == 403
    with caplog.at_level(logging.INFO, "pullback"):
        assert two.status("DELETE", session, "root") == 204
    assert f"audit: {two.id('root')}: delete a session of the key {two.id('ada')}" in caplog.text
    assert two.status("DELETE", session, "root") == 204


def test_the_same_idempotency_key_of_two_keys_makes_two_sessions(two: Keyed) -> None:
    headers = {"idempotency-key": "one"}
    made = [two.ask("POST", "/v1/sessions", key, {}, headers=headers).document["id"] for key in ("ada", "ada", "bob")]
    assert made[0] == made[1] != made[2]


def test_quotas() -> None:
    keyed = Keyed()
    keyed.create("ada", allowance=Allowance(programs=2, sessions=1, session_bytes=10_000))
    keyed.create("bob")
    add = [keyed.ask("POST", "/v1/programs", "ada", {"expr": f"x * {n}"}) for n in (1, 2, 2, 3)]
    assert [answer.status for answer in add] == [201, 201, 200, 413]
    assert "quota of your key is 2" in add[-1].document["detail"]
    graded = {**QUICK, "backward": {"create_graph": True}}
    assert keyed.status("POST", "/v1/evaluate", "ada", graded) == 413
    assert keyed.status("POST", "/v1/evaluate", "bob", graded) == 200
    made = [keyed.ask("POST", "/v1/sessions", "ada", {}) for _ in range(2)]
    assert [answer.status for answer in made] == [201, 429]
    large = {"commands": [{"do": "variable", "id": "x", "value": [1.0] * 2000}]}
    refused = keyed.ask("POST", f"/v1/sessions/{made[0].document['id']}/run", "ada", large)
    assert refused.status == 413
    assert "its quota is 10,000" in refused.document["detail"]


# Rates


def test_what_was_used_is_charged_and_waited_for() -> None:
    now = [100.0]
    keyed = Keyed()
    keyed.app.keys._monotonic = lambda: now[0]
    keyed.create("ada", rates=Rates(units_s=2.0, burst=3.0))
    keyed.create("bob")

    def ask(n: int) -> tuple[int, str | None]:
        # Each asks something new, which takes the pool of the tests one unit.
        answer = keyed.ask("POST", "/v1/evaluate", "ada", {"expr": f"x * {n}.5", "inputs": {"x": 2.0}})
        return answer.status, header(answer, "retry-after")

    assert [ask(n) for n in range(3)] == [(200, None)] * 3
    assert ask(3) == (429, "1")
    assert keyed.status("POST", "/v1/evaluate", "bob", QUICK) == 200
    # A run of ten seconds leads into debt: 10,000 units at 2 a second.
    keyed.app.pool.charge(keyed.id("ada"), 10.0)
    status, retry_after = ask(4)
    assert (status, retry_after) == (429, "5001")
    now[0] += 5000.4
    assert ask(5)[0] == 429
    now[0] += 0.2
    assert ask(6)[0] == 200


def test_an_answer_of_the_event_loop_costs_a_tenth() -> None:
    now = [100.0]
    keyed = Keyed()
    keyed.app.keys._monotonic = lambda: now[0]
    keyed.create("ada", rates=Rates(units_s=1.0, burst=2.0))
    key = keyed.app.keys.find(f"Bearer {keyed.keys['ada']}".encode())
    assert key is not None
    for _ in range(11):
        key.check_rates()
        key.charge_light()
    with pytest.raises(RateLimitedError) as caught:
        key.check_rates()
    assert caught.value.wait_s == pytest.approx(0.1)


def test_a_burst_bounds_what_runs_at_the_same_time() -> None:
    keyed = Keyed()
    keyed.app.keys._monotonic = lambda: 100.0
    keyed.create("ada", rates=Rates(units_s=1.0, burst=2.0))

    async def work() -> None:
        leave, answers = asyncio.Event(), []
        pool = keyed.app.pool
        at_once = pool.answer

        async def slow(call: Call, kind: object, receive: Any, waited_s: float = 0.0) -> Any:
            await leave.wait()
            return await at_once(call, kind, receive)

        pool.answer = slow  # type: ignore[method-assign]
        value = f"Bearer {keyed.keys['ada']}".encode()
        sends = [
            sent("/v1/evaluate", {"expr": f"x * {n}", "inputs": {"x": 1.0}}, JSON, (b"authorization", value))
            for n in range(3)
        ]
        running = [asyncio.create_task(asked(keyed.app, each)) for each in sends[:2]]
        await asyncio.sleep(0)
        answers.append((await asked(keyed.app, sends[2])).status)
        leave.set()
        answers += [(await each).status for each in running]
        assert answers == [429, 200, 200]

    asyncio.run(work())


def test_the_log_names_the_key_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    keyed = Keyed()
    key_id = keyed.create("ada")
    scope = {"method": "GET", "path": "/v1", "raw_path": b"/v1", "headers": [], "client": ("192.0.2.7", 1)}
    value = f"Bearer {keyed.keys['ada']}".encode()
    assert keyed.app.exchange._doorway.enter(scope, {b"authorization": value}) is not None
    answer = Answer(200, [], b"")
    with caplog.at_level(logging.INFO, "pullback.access"):
        AccessLog().note(scope, answer, 0.001, "id-1")
    assert caplog.messages[-1] == f"GET /v1 200 1.0 ms id-1 {key_id}"
    line = json.loads(_as_json("now", scope, "/v1", answer, 1.0, "id-1"))
    assert (line["key"], line["client"]) == (key_id, "192.0.2.7")


def test_bytes_both_ways_are_charged() -> None:
    now = [100.0]
    keyed = Keyed()
    keyed.app.keys._monotonic = lambda: now[0]
    keyed.create("ada", rates=Rates(bytes_s=1000.0))
    large = {"expr": "x * 2.5", "inputs": {"x": [1.5] * 500}}
    assert keyed.status("POST", "/v1/evaluate", "ada", large) == 200
    answer = keyed.ask("POST", "/v1/evaluate", "ada", QUICK)
    assert answer.status == 429
    assert 2 <= int(header(answer, "retry-after") or 0) <= 4
    assert "used up its bytes" in answer.document["detail"]


def test_a_process_that_was_killed_is_charged_for_its_time() -> None:
    """The pool tells what work cost, also of work that was stopped."""
    charged = []
    job = Job(Call("POST", "/v1/evaluate", b"", [], "k_1", ""), None, Pace.UNKNOWN, None, None, 0.0, 0.0)  # type: ignore[arg-type]
    pool = Processes(None, Sizes(1, 1, 1, 1), Spool(Path(), 1), 1, 1.0)  # type: ignore[arg-type]
    pool.charge = lambda client, cpu_s: charged.append((client, cpu_s))
    job.started = 0.0
    pool._charge_elapsed(job)
    assert charged[0][0] == "k_1"
    assert charged[0][1] > 0


def test_processes_of_one_server_hold_a_rate_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rates"
    file.write_bytes(bytes(rates.SHARED_BYTES))
    monkeypatch.setenv(rates.SHARED, str(file))
    store = SqliteStore(tmp_path, Policy())
    admin = KeyAdmin(store.keys)
    values = [
        f"Bearer {admin.create(name, ['evaluate'], Rates(units_s=1.0, burst=4.0), UNLIMITED)}".encode()
        for name in ("ada", "bob")
    ]
    edges = [KeyRing(store.keys, monotonic=lambda: 50.0) for _ in range(2)]
    for edge in edges:
        edge.load()
    keys = [edge.find(values[0]) for edge in edges]
    # Four units between both; each edge alone would have let four through.
    let_in = 0
    for key in [*keys, *keys, *keys, *keys]:
        assert key is not None
        try:
            key.check_rates()
        except RateLimitedError:
            break
        key.charge_work(0.001)
        let_in += 1
    assert let_in == 4
    other = edges[1].find(values[1])
    assert other is not None
    other.check_rates()
    store.close()


def test_a_thousand_keys_take_turns() -> None:
    """One that floods the queue waits for its own jobs, and delays all others by one."""

    @dataclass(slots=True, eq=False)
    class Waiting:
        client: str
        pace: Pace = Pace.UNKNOWN

    queues: Queues[Waiting] = Queues(5000, Shares())
    for _ in range(5000):
        queues.push(Waiting("k_flood"))
    for n in range(1000):
        # The queue is full: the flood gives way.
        mine = Waiting(f"k_{n}")
        queues.push(mine)
        dropped = queues.overflow(mine)
        assert dropped is not None
        assert dropped.client == "k_flood"
    first = [queues.next(may_be_long=True, may_be_large=True) for _ in range(1001)]
    assert len({job.client for job in first if job is not None}) == 1001
    rest = [queues.next(may_be_long=True, may_be_large=True) for _ in range(3999)]
    assert {job.client for job in rest if job is not None} == {"k_flood"}
    assert queues.next(may_be_long=True, may_be_large=True) is None


# Secrets


def test_a_secret_is_nowhere(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    keyed = Keyed()
    store = SqliteStore(tmp_path, Policy())
    keyed.admin._store = keyed.app.keys._store = store.keys
    keyed.create("ada")
    secret = keyed.keys["ada"].rpartition("_")[2]
    shown = []
    for method, path, document in (
        ("POST", "/v1/evaluate", QUICK),
        ("POST", "/v1/evaluate", {"expr": "sine(x)"}),
        ("GET", f"/v1/programs/{keyed.keys['ada']}", None),
        ("GET", f"/nowhere/{keyed.keys['ada']}", None),
        ("GET", "/metrics", None),
    ):
        answer = keyed.ask(method, path, "ada", document)
        assert answer.status != 401
        if keyed.keys["ada"] not in path:
            shown += [answer.body, str(answer.headers).encode()]
    shown += [repr(record).encode() for record in keyed.admin.records()]
    keyed.admin.rotate(keyed.id("ada"), 10.0)
    store.close()
    shown += [file.read_bytes() for file in tmp_path.iterdir()]
    shown.append(caplog.text.encode())
    assert not [text for text in shown if secret.encode() in text]
    assert keyed.id("ada") in caplog.text


def test_keys_are_random_and_known_by_their_digests() -> None:
    keys = {new_key(new_id()) for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert sent_key(f"Bearer {key}".encode()) == key.encode()
        assert len(digest_of(key.encode())) == 64
        assert len(key.rpartition("_")[2]) * 4 >= 128


@pytest.mark.parametrize(
    ("address", "client"),
    [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("2001:db8::1:2", "2001:db8::/64"), (None, "")],
)
def test_without_a_key_the_client_is_an_address_or_its_network(address: str | None, client: str) -> None:
    """What an IPv6 client chooses freely makes no clients of its own: these share queues and memory."""
    assert client_of({"client": (address, 1) if address else None}) == client
