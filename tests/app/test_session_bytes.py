"""Bytes of sessions, of a client and of all: counted exactly, and bounded; a session that shrinks is never refused."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from app.main import create_app
from app.sessions.errors import ExpiredSessionError, UnknownVariableError
from app.sessions.manager import Sessions
from app.sessions.session import Quotas
from app.settings import Settings
from app.stores import Policy, SessionPolicy, SqliteStore, Store
from app.stores.redis import RedisStore
from engine.core.errors import LimitExceededError
from tests.app.scripts import do, var
from tests.app.test_around import talk
from tests.app.test_sessions import Clock, create, does, value
from tests.app.test_stores import add
from tests.redis_process import needs_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIFE_S = 10.0
#: About the size of an array of as many numbers.
KIB = [0.5] * 128


class Stored:
    """Sessions of a store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        options = {"ttl_s": LIFE_S, "max_ttl_s": 100.0, "cache_bytes": 2**20, "deadline_s": 5.0}
        self.sessions = Sessions(store.sessions, Quotas(), clock=clock, **options)

    def run(self, session_id: str, *commands: dict[str, Any]) -> None:
        self.sessions.change(session_id, repr(commands).encode(), None, does(*commands))

    def grows(self, session_id: str, name: str = "x", times: int = 8) -> None:
        self.run(session_id, var(name, KIB * times))

    def counted(self) -> tuple[int, dict[str, int]]:
        """Bytes of all and by client, as the store counts them."""
        if isinstance(self.store, RedisStore):
            client = self.store._server._client
            found = client.hgetall("pullback:client-bytes")
            return int(client.get("pullback:bytes") or 0), {name.decode(): int(size) for name, size in found.items()}
        assert isinstance(self.store, SqliteStore)
        with self.store._database.read() as connection:
            rows = dict(connection.execute("SELECT client, bytes FROM client_usage").fetchall())
            return connection.execute("SELECT SUM(bytes) FROM usage").fetchone()[0], rows


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Stored]]:
    stores: list[Store] = []

    def make(max_bytes: int = 2**30, max_client_bytes: int = 2**30) -> Stored:
        clock = Clock()
        policies = (
            Policy(max_bytes=max_bytes, clock=clock),
            SessionPolicy(max_client_bytes=max_client_bytes, clock=clock),
        )
        if request.param == "redis":
            stores.append(RedisStore(request.getfixturevalue("redis_server").url, *policies))
        else:
            stores.append(SqliteStore(tmp_path, *policies))
        return Stored(stores[-1], clock)

    yield make
    for store in stores:
        store.close()


def test_a_client_has_no_more_bytes_than_allowed(stored: Callable[..., Stored]) -> None:
    found = stored(max_client_bytes=30_000)
    mine = [create(found.sessions) for _ in range(3)]
    other = create(found.sessions, "there")
    for session_id in mine:
        found.grows(session_id)
    before = found.counted()
    with pytest.raises(LimitExceededError, match=r"30,000 \(setting PULLBACK_MAX_SESSION_BYTES_PER_CLIENT\)"):
        found.grows(mine[0], "y")
    # Nothing has happened.
    assert found.counted() == before
    assert found.sessions.look(mine[0], lambda session, head: (head.seq, list(session.ids))) == (1, ["x"])
    # Others are not concerned, and what shrinks or is deleted makes room.
    found.grows(other, "y")
    found.run(mine[1], do("delete", ids=["x"]))
    found.grows(mine[0], "y")
    found.sessions.delete(mine[2])
    found.grows(mine[1])


def test_all_have_no_more_bytes_than_allowed(stored: Callable[..., Stored]) -> None:
    found = stored(max_bytes=30_000)
    ids = [create(found.sessions, f"client {n}") for n in range(3)]
    for session_id in ids:
        found.grows(session_id)
    for work in (
        lambda: found.grows(ids[0], "y"),
        lambda: add(found.store, "a", x=b"x" * 20_000),
    ):
        with pytest.raises(LimitExceededError, match=r"30,000 \(setting PULLBACK_MAX_STORE_BYTES\)"):
            work()
    found.sessions.delete(ids[1])
    assert add(found.store, "b", x=b"x" * 5_000)
    # Programs count for sessions, too.
    with pytest.raises(LimitExceededError, match="PULLBACK_MAX_STORE_BYTES"):
        found.grows(ids[0], "y")
    found.store.delete_program("p_b")
    found.grows(ids[0], "y")


def test_what_shrinks_is_kept_though_there_is_too_much(stored: Callable[..., Stored]) -> None:
    """A limit may be lower than what is there."""
    found = stored()
    session_id = create(found.sessions)
    found.grows(session_id)
    found.grows(session_id, "y")
    found.store.sessions.policy = SessionPolicy(max_client_bytes=1000, clock=found.clock)
    with pytest.raises(LimitExceededError):
        found.run(session_id, var("z", 1.0))
    for name in ("x", "y"):
        found.run(session_id, do("delete", ids=[name]))
    assert found.counted()[1]["here"] < 1000
    found.run(session_id, var("z", 1.0))


def test_expired_sessions_give_way(stored: Callable[..., Stored]) -> None:
    found = stored(max_bytes=30_000, max_client_bytes=25_000)
    old = [create(found.sessions) for _ in range(2)]
    for session_id in old:
        found.grows(session_id)
    found.clock.now += LIFE_S - 1
    new = create(found.sessions)
    found.clock.now += 2
    found.grows(new, times=20)
    assert value(found.sessions, new, "x").size == 20 * 128
    with pytest.raises(ExpiredSessionError):
        value(found.sessions, old[0], "x")
    found.clock.now += LIFE_S
    assert add(found.store, "a", x=b"x" * 25_000)
    assert found.counted()[0] == 25_000 + len('{"nodes":"a"}{"id":"a"}')


def test_the_counts_are_exact(stored: Callable[..., Stored]) -> None:
    """After any calls they are the sums of what there is."""
    found, rng = stored(max_client_bytes=20_000, max_bytes=40_000), random.Random(1)
    clients: dict[str, str] = {}
    refused = 0
    for _ in range(120):
        action = rng.randrange(8)
        try:
            if action < 2 or not clients:
                client = rng.choice("abc")
                clients[create(found.sessions, client)] = client
            elif action < 5:
                found.grows(rng.choice(list(clients)), rng.choice("xyz"), rng.randint(0, 12))
            elif action == 5:
                found.run(rng.choice(list(clients)), do("delete", ids=["x"]))
            elif action == 6:
                session_id = rng.choice(list(clients))
                del clients[session_id]
                found.sessions.delete(session_id)
            else:
                found.clock.now += rng.random() * LIFE_S / 2
        except LimitExceededError:
            refused += 1
        except (UnknownVariableError, ExpiredSessionError):
            pass
        total, by_client = found.counted()
        heads = found.store.sessions.list()
        assert total == sum(head.bytes for head in heads) == sum(by_client.values())
        assert all(size <= 20_000 for size in by_client.values()) and total <= 40_000
    assert refused > 3
    for session_id in clients:
        found.sessions.delete(session_id)
    while heads := found.store.sessions.list():
        found.store.sessions.delete(heads[0].digest)
    assert found.counted() == (0, {})


def test_too_many_bytes_are_a_413() -> None:
    app = create_app(Settings(store="memory", max_session_bytes_per_client=20_000))

    def ask(method: str, path: str, document: Any = None) -> Any:
        return talk(app, lambda client: client.request(method, path, json=document))

    path = f"/v1/sessions/{ask('POST', '/v1/sessions', {}).json()['id']}"
    answer = ask("POST", f"{path}/run", {"commands": [var("x", KIB * 30)]})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/limit-exceeded")
    assert "(setting PULLBACK_MAX_SESSION_BYTES_PER_CLIENT)" in answer.json()["detail"]
    assert ask("GET", path).json()["seq"] == 0
    assert ask("POST", f"{path}/run", {"seq": 1, "commands": [var("x", KIB)]}).status_code == 200
    assert ask("GET", "/v1").json()["limits"]["max_session_bytes_per_client"] == 20_000
    app.state.registry.store.close()
