"""Sessions whose store fails: a 503 that says so, nothing half written, and on as before once it works again."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from app.stores.sqlite import FILE, database
from tests.app.scripts import expr, var
from tests.app.test_around import talk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = var("y", [0.5] * 50_000)


class Served:
    """An application on a file, and a session in it."""

    def __init__(self, folder: Path, cache_bytes: int) -> None:
        self.folder = folder
        self.app = create_app(Settings(data_dir=folder, session_cache_bytes=cache_bytes))
        self.path = f"/v1/sessions/{self.ask('POST', '/v1/sessions', {'seed': 1}).json()['id']}"
        assert self.run(var("x", 1.0)).status_code == 200

    def ask(self, method: str, path: str, document: Any = None) -> httpx.Response:
        return talk(self.app, lambda client: client.request(method, path, json=document))

    def run(self, *commands: dict[str, Any], **more: Any) -> httpx.Response:
        return self.ask("POST", f"{self.path}/run", {"commands": commands, **more})

    def state(self) -> tuple[int, float]:
        answer = self.run(fetch=["x"]).json()
        return answer["seq"], answer["fetched"]["x"]["value"]


@pytest.fixture(params=[0, 2**20], ids=["no copies", "copies"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Served:
    return Served(tmp_path, request.param)


@contextmanager
def pragmas(served: Served, statement: str) -> Iterator[None]:
    """Every connection that is made from here on is told this."""
    connect = database._connect

    def connected(*given: Any) -> sqlite3.Connection:
        connection = connect(*given)
        connection.execute(statement)
        return connection

    store = served.app.state.registry.store._database
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_connect", connected)
        store._close_idle()
        yield
    store._close_idle()


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"] == "/problems/unavailable"
    assert answer.headers["retry-after"]


def test_full(served: Served) -> None:
    with pragmas(served, "PRAGMA max_page_count = 40"):
        answer = served.run(expr("x", "x + 1.0"), LARGE)
        assert (answer.status_code, answer.json()["type"]) == (507, "/problems/storage-full"), answer.text
        assert "the disk of the store is full" in answer.json()["detail"]
        # What has room is kept.
        assert served.state() == (2, 1.0)
        assert served.run(expr("x", "x + 2.0"), seq=3).status_code == 200
    assert served.run(expr("x", "x + 4.0"), LARGE, seq=4).status_code == 200
    assert served.state() == (5, 7.0)


def test_read_only(served: Served) -> None:
    with pragmas(served, "PRAGMA query_only = ON"):
        assert_unavailable(served.run(expr("x", "x + 1.0")))
        assert_unavailable(served.ask("POST", "/v1/sessions", {}))
        # What was answered can still be seen.
        assert served.ask("GET", f"{served.path}/variables/x").json()["value"] == 1.0
    assert served.run(expr("x", "x + 2.0"), seq=2).status_code == 200
    assert served.state() == (3, 3.0)


def test_locked_by_others(served: Served) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "BUSY_S", 0.05)
        other = sqlite3.connect(served.folder / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert_unavailable(served.run(expr("x", "x + 1.0")))
        other.rollback()
        other.close()
        assert served.state() == (2, 1.0)


def test_gone_and_back(served: Served) -> None:
    file, away = served.folder, served.folder.with_name("away")
    served.app.state.registry.store._database._close_idle()
    file.rename(away)
    file.touch()
    assert_unavailable(served.run(expr("x", "x + 1.0")))
    file.unlink()
    away.rename(file)
    assert served.run(expr("x", "x + 2.0"), seq=2).status_code == 200
    assert served.state() == (3, 3.0)


def test_a_transaction_that_is_interrupted_has_not_happened(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction is interrupted when half of it is written."""
    sessions = served.app.state.sessions._store
    save = type(sessions).save

    def saved(*given: Any) -> bool:
        with sessions._database.write() as connection:
            connection.execute("UPDATE sessions SET seq = 99")
            connection.set_progress_handler(lambda: 1, 1)
            try:
                connection.execute("SELECT COUNT(*) FROM sessions, sessions, sessions")
            finally:
                connection.set_progress_handler(None, 0)
        return save(*given)

    monkeypatch.setattr(type(sessions), "save", saved)
    assert_unavailable(served.run(expr("x", "x + 1.0")))
    monkeypatch.undo()
    assert served.state() == (2, 1.0)
