"""/readyz says whether the store works, and asks it neither often nor for long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app import readiness
from app.main import Pullback, create_app
from app.settings import Settings
from app.stores import Policy, SqliteStore, StoreUnavailableError
from app.stores.sqlite import FILE
from app.telemetry import Histogram
from tests.app.test_around import talk


class Breakable(SqliteStore):
    """A store that fails or does not answer when it is told to, and counts how often it is asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Policy())
        self.asked = 0
        self.is_broken = False
        self.answers = threading.Event()
        self.answers.set()

    def check(self) -> None:
        self.asked += 1
        self.answers.wait()
        if self.is_broken:
            raise StoreUnavailableError("the store does not answer just now")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Breakable]:
    """A store of which each answer is fresh for no time, and that has much of it to give one."""
    monkeypatch.setattr(readiness, "FRESH_S", 0)
    monkeypatch.setattr(readiness, "PATIENCE_S", 60)
    store = Breakable(tmp_path)
    yield store
    store.answers.set()


def app_with(store: Breakable) -> Pullback:
    app = create_app(Settings(store="memory"))
    app.state.readiness = readiness.Readiness(store, lambda: "", Histogram())
    return app


def ready(app: Pullback) -> httpx.Response:
    answer: httpx.Response = talk(app, lambda client: client.get("/readyz"))
    return answer


def assert_unavailable(answer: httpx.Response, words: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert words in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) >= 1


def test_it_is_ready_again_when_the_store_is(store: Breakable) -> None:
    app = app_with(store)
    assert ready(app).status_code == 200
    store.is_broken = True
    assert_unavailable(ready(app), "does not answer")
    store.is_broken = False
    assert ready(app).status_code == 200
    assert store.asked == 3


def test_without_workers_it_is_not_ready(store: Breakable) -> None:
    app = create_app(Settings(store="memory"))
    app.state.readiness = readiness.Readiness(store, lambda: "there has been no worker process", Histogram())
    assert_unavailable(ready(app), "no worker process")
    assert store.asked == 0


def test_an_answer_holds_for_a_while(store: Breakable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FRESH_S", 3600)
    app = app_with(store)
    for _ in range(5):
        assert ready(app).status_code == 200
    assert store.asked == 1


def test_a_store_that_hangs_is_not_waited_for(store: Breakable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PATIENCE_S", 0.01)
    app = app_with(store)
    store.answers.clear()
    for _ in range(3):
        assert_unavailable(ready(app), "has not answered for 0.01 s")
    assert talk(app, lambda client: client.get("/healthz")).status_code == 200
    assert store.asked == 1
    store.answers.set()
    monkeypatch.setattr(readiness, "PATIENCE_S", 60)

    async def until_ready(client: httpx.AsyncClient) -> None:
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0)

    talk(app, until_ready)


def test_a_file_that_is_gone_bad(tmp_path: Path, store: Breakable) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database " * 1000)
    app = create_app(Settings(data_dir=tmp_path))
    assert_unavailable(ready(app), "the store does not answer just now")
