"""Keys and owners in stores: the same in SQLite and in Redis."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.errors import ForbiddenError
from app.stores import NameConflictError, Policy, Program, SqliteStore, Store, StoreUnavailableError
from app.stores.base import Deletion
from app.stores.keys import KeyRecord, Rates, read_record
from app.stores.owners import ANYONE, UNLIMITED, Allowance, Caller
from app.stores.redis import RedisStore
from app.stores.sessions import Change, Head
from app.stores.sqlite import FILE, schema
from engine.core import LimitExceededError
from tests.redis_process import RedisProcess, needs_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADA, BOB = Caller("k_ada", False), Caller("k_bob", False)
ROOT = Caller("k_root", True)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    found: Store
    if request.param == "sqlite":
        found = SqliteStore(tmp_path, Policy())
    else:
        found = RedisStore(request.getfixturevalue("redis_server").url, Policy())
    found.open()
    yield found
    found.close()


def record(key_id: str, digest: str = "d") -> KeyRecord:
    return KeyRecord(
        0, key_id, "ada's", digest, ("evaluate",), Rates(1.5, None, 3.0), Allowance(1, None, 3), 1000.0, None
    )


def test_keys_are_read_as_they_were_written(store: Store) -> None:
    before = store.keys.revision()
    assert store.keys.list() == []
    first, second = store.keys.add(record("k_1")), store.keys.add(record("k_2", "e"))
    assert [first.number, second.number] == [1, 2]
    assert store.keys.list() == [first, second]
    assert store.keys.revision() != before
    revoked = replace(first, revoked_at=2000.0)
    revision = store.keys.revision()
    assert store.keys.swap(first, revoked)
    assert store.keys.revision() != revision
    # A writer that read it before does not undo that.
    assert not store.keys.swap(first, replace(first, name="another"))
    assert store.keys.list() == [revoked, second]


def altered(**fields: Any) -> str:
    """A record as it is written, with other fields."""
    return json.dumps(json.loads(record("k_1").written()) | fields)


DAMAGED = (
    *("", "{", "{}", "[]", "[" * 100_000, record("k_1").written()[:-3]),
    *(altered(digest=["d"]), altered(scopes="evaluate"), altered(scopes=[["evaluate"]]), altered(revoked_at="soon")),
    *(altered(rates={"units_s": "fast"}), altered(rates={"units_s": 0}), altered(rates={"a_day": 5})),
    *(altered(allowance={"programs": "many"}), altered(created_at=None), altered(more=1)),
)


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_not_read_as_a_key(text: str) -> None:
    with pytest.raises(StoreUnavailableError, match="record of key number 3 is damaged"):
        read_record(3, text)


def add(store: Store, caller: Caller, key: str, name: str | None = None, replace: bool = False) -> bool:
    program = Program(f"p_{key}", f'{{"nodes":"{key}"}}', f'{{"id":"{key}"}}', {}, name)
    return store.add_program(program, {}, replace=replace, caller=caller)[1]


def listed(store: Store, owner: str | None) -> list[tuple[str, str | None]]:
    found = store.list_programs(100, 0, owner)
    pages = [store.list_programs(1, each.number, owner) for each in found]
    # Pages of one go through the same.
    assert [page[0] for page in pages[:-1]] == found[1:]
    return [(each.id, each.name) for each in found]


def test_owners_come_and_go(store: Store) -> None:
    assert add(store, ANYONE, "old", "ancient")
    assert add(store, ADA, "a", "mine")
    assert not add(store, ADA, "a")
    assert add(store, BOB, "b")
    assert add(store, BOB, "a")
    assert listed(store, "k_ada") == [("p_a", "mine")]
    assert listed(store, "k_bob") == [("p_b", None), ("p_a", None)]
    assert listed(store, None) == [("p_old", "ancient"), ("p_a", "mine"), ("p_b", None)]
    assert store.program_names() == ["ancient"]
    for caller in (ADA, BOB):
        with pytest.raises(ForbiddenError):
            store.delete_program("ancient", caller)
    with pytest.raises(ForbiddenError):
        store.delete_program("p_b", ADA)
    assert store.delete_program("mine", ADA) is Deletion.OWN
    assert store.resolve_program("mine") is None
    assert listed(store, "k_ada") == []
    assert listed(store, "k_bob") == [("p_b", None), ("p_a", None)]
    assert store.delete_program("p_a", BOB) is Deletion.OWN
    assert store.load_program("p_a") is None
    assert store.delete_program("p_a", BOB) is Deletion.NONE
    assert store.delete_program("ancient", ROOT) is Deletion.OWN
    assert store.delete_program("p_b", ROOT) is Deletion.FOR_ALL
    assert listed(store, None) == []


def test_an_admin_that_owns_it_drops_its_own_first(store: Store) -> None:
    for caller in (ADA, ROOT):
        assert add(store, caller, "a")
    assert store.delete_program("p_a", ROOT) is Deletion.OWN
    assert listed(store, "k_ada") == [("p_a", None)]
    assert store.delete_program("p_a", ROOT) is Deletion.FOR_ALL


def test_names_are_moved_by_their_owners(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    add(store, ADA, "a", "mine")
    for replaces in (False, True):
        with pytest.raises(ForbiddenError, match='the name "mine" belongs to another key'):
            add(store, BOB, "b", "mine", replaces)
    with pytest.raises(NameConflictError):
        add(store, ADA, "c", "mine")
    # The same program under a name that another gave it.
    assert add(store, BOB, "a", "mine")
    assert store.delete_program("p_a", BOB) is Deletion.OWN
    assert store.resolve_program("mine") == "p_a"
    assert add(store, ADA, "c", "mine", True)
    assert store.resolve_program("mine") == "p_c"
    assert not caplog.records
    assert add(store, ROOT, "d", "mine", True)
    assert caplog.messages == ['audit: k_root: take the name "mine" from the key k_ada: done']
    with pytest.raises(ForbiddenError):
        add(store, ADA, "c", "mine", True)


def test_quotas_of_programs(store: Store) -> None:
    caller = Caller("k_eve", False, Allowance(programs=1))
    program = Program("p_b", "{}", "{}", {})
    store.check_room(program, {}, caller)
    assert add(store, caller, "a")
    assert not add(store, caller, "a")
    with pytest.raises(LimitExceededError, match="quota of your key is 1"):
        add(store, caller, "b")
    with pytest.raises(LimitExceededError, match="quota of your key is 1"):
        store.check_room(program, {}, caller)
    assert store.load_program("p_b") is None
    store.delete_program("p_a", caller)
    assert add(store, caller, "b")


def test_sessions_have_an_owner_and_quotas(store: Store) -> None:
    def head(digest: str, revision: str, nbytes: int) -> Head:
        return Head(digest * 64, 0, 0.0, 1e11, 1e11, nbytes, None, revision, "k_ada")

    def change(nbytes: int) -> Change:
        return Change(b"d" * nbytes, {}, (), nbytes, None)

    allowance = Allowance(session_bytes=100)
    store.sessions.create(head("a", "r", 10), change(10), "k_ada", None, allowance)
    found = store.sessions.head("a" * 64)
    assert found is not None
    assert found.owner == "k_ada"
    with pytest.raises(LimitExceededError, match="its quota is 100"):
        store.sessions.save(head("a", "s", 200), "r", change(200), allowance)
    assert store.sessions.save(head("a", "s", 200), "r", change(200), UNLIMITED)
    loaded = store.sessions.load("a" * 64)
    assert loaded is not None
    assert loaded.head.owner == "k_ada"


def test_an_earlier_sqlite_file_gets_owners(tmp_path: Path) -> None:
    path = tmp_path / FILE
    with closing(sqlite3.connect(path)) as connection:
        # The first migrations alone, as the release before had them.
        for script in schema.SCHEMAS[:4]:
            for statement in schema._statements(script):
                if "sha256" not in statement:
                    connection.execute(statement)
        connection.execute("INSERT INTO programs VALUES (7, 'p_a', 1.0, 1.0, 4, '{}', '{}')")
        connection.execute("INSERT INTO program_names (name, program) VALUES ('first', 'p_a')")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 4")
        connection.commit()
    store = SqliteStore(tmp_path, Policy(clock=lambda: 2.0))
    store.open()
    assert listed(store, "") == listed(store, None) == [("p_a", "first")]
    assert store.keys.list() == []
    with pytest.raises(ForbiddenError):
        store.delete_program("first", ADA)
    assert add(store, ADA, "a")
    assert store.delete_program("first", ROOT) is Deletion.OWN
    assert listed(store, "k_ada") == [("p_a", None)]
    store.close()


@needs_redis
def test_an_earlier_redis_gets_owners(redis_server: RedisProcess) -> None:
    before = RedisStore(redis_server.url, Policy())
    before.open()
    add(before, ANYONE, "a", "first")
    before.close()
    redis_server.client.delete("pullback:program:p_a:owners", "pullback:claims:")
    redis_server.client.set("pullback:schema", 2)
    store = RedisStore(redis_server.url, Policy())
    store.open()
    assert redis_server.client.get("pullback:schema") == b"3"
    assert listed(store, "") == listed(store, None) == [("p_a", "first")]
    assert store.delete_program("first", ROOT) is Deletion.OWN
    assert listed(store, None) == []
    store.close()


@needs_redis
def test_a_delete_that_is_sent_twice_drops_one_claim(redis_server: RedisProcess) -> None:
    """An admin's own claim, and not the program of others with the second one."""
    store = RedisStore(redis_server.url, Policy())
    store.open()
    for caller in (ADA, ROOT):
        add(store, caller, "a")
    call = store._call

    def twice(function: str, *given: object) -> object:
        found = call(function, *given)
        return call(function, *given) if function == "delete" else found

    store._call = twice
    assert store.delete_program("p_a", ROOT) is Deletion.OWN
    assert listed(store, "k_ada") == [("p_a", None)]
    store.close()
