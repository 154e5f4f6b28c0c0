"""Stores that the release before wrote: sessions go on under the ids that their clients have, which are stored no more.

The files in `stored` were written by that release: two sessions, of which one has an idempotency key, and a program.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.errors import ForbiddenError
from app.handles import digest_of
from app.programs import ProgramLimits
from app.programs.registry import Registry
from app.sessions.manager import Sessions
from app.sessions.session import Quotas
from app.stores import Policy, SessionPolicy, SqliteStore, Store, StoreError
from app.stores.base import Deletion
from app.stores.owners import Caller
from app.stores.redis import RedisStore
from app.stores.sqlite import FILE
from tests.app.scripts import expr
from tests.app.test_sessions import create, does, value
from tests.redis_process import RedisProcess, needs_redis, start_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

STORED = Path(__file__).parent / "stored"
IDS = ("s_00000000000000000000000000000001", "s_00000000000000000000000000000004")
PROGRAM = "p_8cec0bcf83a8cf9404173b927afbdb67"
CLIENT, KEY = "192.0.2.7", "again"
#: When the sessions were made; they live for 1,000 s.
NOW = 1_700_000_000.0


def write_sqlite(folder: Path) -> Path:
    """A file of schema 3."""
    path = folder / FILE
    connection = sqlite3.connect(path)
    connection.executescript((STORED / "sqlite_schema_3.sql").read_text())
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return path


def write_redis(redis: RedisProcess) -> None:
    """Keys of schema 1."""
    decoded = base64.b64decode
    for key, (kind, content) in json.loads((STORED / "redis_schema_1.json").read_text()).items():
        if kind == "string":
            redis.client.set(key, decoded(content))
        elif kind == "hash":
            redis.client.hset(key, mapping={decoded(name): decoded(item) for name, item in content.items()})
        elif kind == "zset":
            redis.client.zadd(key, {decoded(member): score for member, score in content})
        else:
            redis.client.sadd(key, *map(decoded, content))


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    policies = Policy(clock=lambda: NOW), SessionPolicy(clock=lambda: NOW)
    if request.param == "sqlite":
        write_sqlite(tmp_path)
        store: Store = SqliteStore(tmp_path, *policies)
        yield store
        store.close()
        return
    with start_redis(tmp_path) as redis:
        write_redis(redis)
        store = RedisStore(redis.url, *policies)
        yield store
        store.close()


def sessions_of(store: Store) -> Sessions:
    options = {"ttl_s": 10.0, "max_ttl_s": 100.0, "cache_bytes": 0, "deadline_s": 5.0}
    return Sessions(store.sessions, Quotas(), clock=lambda: NOW, **options)


def test_sessions_and_programs_go_on(store: Store) -> None:
    sessions = sessions_of(store)
    for session_id in IDS:
        assert value(sessions, session_id, "x").tolist() == [1.0, 2.0, 3.0]
        assert sessions.look(session_id, lambda session, head: session.variable("x", ()).grad.data.tolist()) == [
            2,
            4,
            6,
        ]
        # The last call may still be repeated, and the next one is made.
        assert sessions.change(session_id, b"body", 1, does()).is_replay
        sessions.change(session_id, b"next", 2, does(expr("y", "y * 2.0")))
        assert value(sessions, session_id, "y") == 28.0
    heads = store.sessions.list()
    assert [head.digest for head in heads] == [digest_of(session_id) for session_id in IDS]
    graph = Registry(store, ProgramLimits(), 0).graph("weighted")
    assert [each.name for each in graph.inputs] == ["x"]
    assert store.resolve_program("weighted") == PROGRAM


def test_what_they_hold_is_counted(store: Store) -> None:
    sessions = sessions_of(store)
    size = sum(head.bytes for head in store.sessions.list())
    assert size > 0
    store.sessions.policy = SessionPolicy(max_client_bytes=size, clock=lambda: NOW)
    with pytest.raises(Exception, match="PULLBACK_MAX_SESSION_BYTES_PER_CLIENT"):
        create(sessions, CLIENT)
    sessions.delete(IDS[0])
    create(sessions, CLIENT)


def test_what_was_there_belongs_to_admins(store: Store) -> None:
    sessions, admin = sessions_of(store), Caller("k_root", is_admin=True)
    stranger = Caller("k_ada", is_admin=False)
    with pytest.raises(ForbiddenError):
        store.delete_program("weighted", stranger)
    with pytest.raises(ForbiddenError):
        sessions.look(IDS[0], lambda session, head: None, stranger)
    sessions.change(IDS[0], b"next", None, does(expr("y", "x * 2.0")), caller=admin)
    assert [each.id for each in store.list_programs(10, 0, "")] == [PROGRAM]
    assert store.delete_program("weighted", admin) is Deletion.OWN
    assert store.resolve_program(PROGRAM) is None


def test_a_key_of_before_makes_a_new_session(store: Store) -> None:
    """Nothing tells the id of the old one any more."""
    sessions = sessions_of(store)
    made = [sessions.create(CLIENT, ttl_s=None, seed=1, name=None, key=KEY) for _ in range(2)]
    assert [each.is_new for each in made] == [True, False]
    assert made[0].id == made[1].id and made[0].id not in IDS


def test_no_id_is_left_in_the_file(tmp_path: Path) -> None:
    path = write_sqlite(tmp_path)
    assert IDS[0].encode() in path.read_bytes()
    store = SqliteStore(tmp_path, Policy(), SessionPolicy(clock=lambda: NOW))
    store.open()
    sessions = sessions_of(store)
    made = sessions.create("here", ttl_s=None, seed=1, name=None, key="key").id
    sessions.change(made, b"", None, does())
    found = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    store.close()
    assert not any(session_id.encode() in found for session_id in (*IDS, made))
    assert bytes.fromhex(made[2:]) not in found
    assert b"p_8cec" in found


@needs_redis
def test_no_id_is_left_in_redis(tmp_path: Path) -> None:
    with start_redis(tmp_path) as redis:
        write_redis(redis)
        store = RedisStore(redis.url, Policy())
        store.open()
        for key in redis.client.scan_iter("*"):
            dumped = redis.client.dump(key)
            assert not any(session_id.encode() in key + dumped for session_id in IDS), key
        assert redis.client.get("pullback:schema") == b"3"
        store.close()


@needs_redis
def test_a_migration_that_was_interrupted_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_redis(tmp_path) as redis:
        write_redis(redis)
        store = RedisStore(redis.url, Policy(), SessionPolicy(clock=lambda: NOW))
        call = store._sessions._call
        calls = []

        def once(*given: object) -> object:
            calls.append(given)
            if len(calls) > 1:
                raise StoreError("interrupted")
            return call(*given)

        monkeypatch.setattr(store._sessions, "_call", once)
        with pytest.raises(StoreError, match="interrupted"):
            store.open()
        assert redis.client.get("pullback:schema") == b"1"
        monkeypatch.undo()
        sessions = sessions_of(store)
        for session_id in IDS:
            assert value(sessions, session_id, "y") == 14.0
        kept = int(redis.client.hget("pullback:client-bytes", CLIENT) or 0)
        assert kept == sum(head.bytes for head in store.sessions.list())
        store.close()
