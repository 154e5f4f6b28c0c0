"""A Redis server that is full, read-only, gone, stuck, damaged or of another release: a 503, and on as before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from app.handles import digest_of
from app.main import create_app
from app.server import ServeError, _check_store
from app.sessions.manager import Sessions
from app.sessions.session import Quotas
from app.settings import Settings, SettingsError, load_settings
from app.stores import Policy, StoreError
from app.stores.redis import RedisStore, server
from tests.app.scripts import expr, var
from tests.app.test_around import talk
from tests.app.test_sessions import create, does, value
from tests.redis_process import RedisProcess, needs_redis, start_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = needs_redis
LARGE = var("y", [0.5] * 5000)


class Served:
    """An application on a Redis server, and a session in it."""

    def __init__(self, redis: RedisProcess, cache_bytes: int) -> None:
        self.redis = redis
        self.app = create_app(Settings(store=redis.url, session_cache_bytes=cache_bytes))
        self.id = self.ask("POST", "/v1/sessions", {"seed": 1}).json()["id"]
        self.path = f"/v1/sessions/{self.id}"
        self.key = f"pullback:session:{digest_of(self.id)}"
        assert self.run(var("x", 1.0)).status_code == 200

    def ask(self, method: str, path: str, document: Any = None) -> httpx.Response:
        return talk(self.app, lambda client: client.request(method, path, json=document))

    def run(self, *commands: dict[str, Any], **more: Any) -> httpx.Response:
        return self.ask("POST", f"{self.path}/run", {"commands": commands, **more})

    def state(self) -> tuple[int, float]:
        answer = self.run(fetch=["x"]).json()
        return answer["seq"], answer["fetched"]["x"]["value"]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    """A server that may be spoilt."""
    with start_redis(tmp_path) as process:
        yield process


@pytest.fixture(params=[0, 2**20], ids=["no copies", "copies"])
def served(request: pytest.FixtureRequest, redis: RedisProcess) -> Iterator[Served]:
    found = Served(redis, request.param)
    yield found
    found.app.state.registry.store.close()


def assert_unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable"), answer.text
    assert answer.headers["retry-after"]


def test_full(served: Served) -> None:
    served.redis.client.config_set("maxmemory", "1")
    for answer in (
        served.run(expr("x", "x + 1.0"), LARGE),
        served.ask("POST", "/v1/sessions", {}),
        served.ask("POST", "/v1/programs", {"expr": "x + 1"}),
    ):
        assert (answer.status_code, answer.json()["type"]) == (507, "/problems/storage-full"), answer.text
        assert "the memory of the store is full" in answer.json()["detail"]
    assert "the memory of the store is full" in served.ask("GET", "/readyz").json()["detail"]
    assert served.ask("GET", f"{served.path}/variables/x").json()["value"] == 1.0
    served.redis.client.config_set("maxmemory", "0")
    assert served.run(expr("x", "x + 2.0"), LARGE, seq=2).status_code == 200
    assert served.state() == (3, 3.0)
    # What is deleted makes room.
    served.redis.client.config_set("maxmemory", "1")
    assert served.ask("DELETE", served.path).status_code == 204
    assert list(served.redis.client.scan_iter(f"{served.key}*")) == []


def test_read_only(served: Served) -> None:
    served.redis.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    assert_unavailable(served.run(expr("x", "x + 1.0")))
    assert_unavailable(served.ask("POST", "/v1/sessions", {}))
    assert served.ask("GET", f"{served.path}/variables/x").json()["value"] == 1.0
    with pytest.raises(StoreError, match="read only"):
        RedisStore(served.redis.url, Policy()).open()
    served.redis.client.execute_command("REPLICAOF", "NO", "ONE")
    assert served.run(expr("x", "x + 2.0"), seq=2).status_code == 200
    assert served.state() == (3, 3.0)


def test_gone_and_back(served: Served) -> None:
    for n in range(2, 5):
        served.redis.kill()
        assert_unavailable(served.run(expr("x", "x + 1.0"), seq=n))
        assert_unavailable(served.ask("GET", served.path))
        assert served.ask("GET", "/readyz").status_code == 503
        served.redis.start()
        assert served.run(expr("x", "x + 1.0"), seq=n).status_code == 200
    assert served.state() == (5, 4.0)


def test_stuck(redis: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused may have happened once the server goes on, but never twice."""
    monkeypatch.setattr(server, "ANSWER_S", 2.0)
    served = Served(redis, 2**20)
    with redis.stopped():
        assert_unavailable(served.run(expr("x", "x + 1.0"), seq=2))
    assert served.run(expr("x", "x + 1.0"), seq=2).status_code == 200
    assert served.state() == (3, 2.0)
    served.app.state.registry.store.close()


@pytest.mark.parametrize(
    ("key", "field", "content"),
    [
        (":content", "document", b"nothing of ours"),
        (":content", "document", b""),
        (":content", "answered", b"\xc1"),
        (":content", "answered", b"\x93\x01\x02\x03"),
        (":content", "1", b"\0" * 40_000),
        (":content", "a", b""),
        ("", "seq", b"many"),
        ("", "expires_at", b"soon"),
    ],
)
def test_a_damaged_session_is_refused_and_others_go_on(
    redis: RedisProcess, key: str, field: str, content: bytes
) -> None:
    served = Served(redis, 0)
    assert served.run(LARGE).status_code == 200
    other = create(served.app.state.sessions)
    held = served.redis.client.hkeys(f"{served.key}:content")
    # Arrays have numbers for fields; there is one.
    place = next(name for name in held if name.isdigit()) if field == "1" else field
    served.redis.client.hset(f"{served.key}{key}", place, content)
    answer = served.run(var("x", 2.0))
    assert_unavailable(answer)
    assert "damaged" in answer.json()["detail"]
    assert served.app.state.sessions.look(other, lambda session, head: head.seq) == 0
    assert served.ask("DELETE", served.path).status_code == 204
    assert served.run(var("x", 2.0)).status_code == 404
    served.app.state.registry.store.close()


def test_what_is_something_else_is_refused(redis: RedisProcess) -> None:
    redis.client.set("pullback:programs", "a text")
    app = create_app(Settings(store=redis.url))
    assert_unavailable(talk(app, lambda client: client.get("/v1/programs")))
    app.state.registry.store.close()


def test_a_store_that_was_put_back_to_an_earlier_state(redis: RedisProcess) -> None:
    """The same number, another content: a copy in memory is not taken for it."""
    store = RedisStore(redis.url, Policy())
    options = {"ttl_s": 100.0, "max_ttl_s": 100.0, "cache_bytes": 2**20, "deadline_s": 5.0}
    one, other = (Sessions(store.sessions, Quotas(), **options) for _ in range(2))
    found = create(one)
    keys = [f"pullback:session:{digest_of(found)}{more}" for more in ("", ":content")]
    kept = [redis.client.dump(key) for key in keys]
    one.change(found, b"", 1, does(var("x", 1.0)))
    for key, dumped in zip(keys, kept, strict=True):
        redis.client.restore(key, 0, dumped, replace=True)
    other.change(found, b"", 1, does(var("x", 2.0)))
    assert value(one, found, "x") == 2.0
    store.close()


def test_another_schema_is_refused(redis: RedisProcess) -> None:
    redis.client.set("pullback:schema", "99")
    store = RedisStore(redis.url, Policy())
    with pytest.raises(StoreError, match='schema version "99" under pullback:schema; this release reads version 3'):
        store.open()
    with pytest.raises(ServeError, match="schema version"):
        _check_store(Settings(store=redis.url))


def test_a_cluster_is_refused(tmp_path: Path) -> None:
    with start_redis(tmp_path, "--cluster-enabled", "yes") as process:
        store = RedisStore(process.url, Policy())
        with pytest.raises(StoreError, match=r"is part of a cluster, .*; name a server without cluster mode"):
            store.open()
        with pytest.raises(ServeError, match="is part of a cluster"):
            _check_store(Settings(store=process.url))
        store.close()


@pytest.mark.parametrize(
    ("memory", "policy", "is_refused"),
    [("100mb", "allkeys-lru", True), ("100mb", "volatile-lru", False), ("0", "allkeys-lru", False)],
)
def test_a_server_that_drops_data_is_refused(memory: str, policy: str, is_refused: bool, redis: RedisProcess) -> None:
    # Of ours nothing expires by itself, so that the second one drops nothing.
    redis.client.config_set("maxmemory", memory)
    redis.client.config_set("maxmemory-policy", policy)
    store = RedisStore(redis.url, Policy())
    try:
        if is_refused:
            with pytest.raises(StoreError, match=rf'drops data .*"{policy}"\); set it to "noeviction"'):
                store.open()
        else:
            store.open()
    finally:
        redis.client.config_set("maxmemory-policy", "noeviction")
        redis.client.config_set("maxmemory", "0")
        store.close()


def test_a_user_who_may_not_ask_for_clusters(redis: RedisProcess) -> None:
    redis.client.execute_command("ACL", "SETUSER", "modest", "on", ">word", "~*", "+@all", "-info")
    store = RedisStore(redis.url.replace("redis://", "redis://modest:word@"), Policy())
    store.open()
    store.check()
    store.close()


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(ServeError, match="cannot be used"):
        _check_store(Settings(store="redis://127.0.0.1:1/0"))


@pytest.mark.parametrize(
    "url",
    ["redis://here:port", "redis://user:secret@here:port", "redis://here?colour=red", "http://here", "postgres://here"],
)
def test_urls_that_are_none(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PULLBACK_STORE", url)
    with pytest.raises(SettingsError, match="expected") as caught:
        load_settings()
    assert "secret" not in str(caught.value)


def test_secrets_are_not_printed() -> None:
    for url in ("redis://user:se@cret@here:1/0", "redis://here:1/0?password=secret"):
        shown = str(Settings(store=url))
        assert "cret" not in shown and "here" in shown
