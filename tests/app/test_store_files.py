"""The file of a store: removed or replaced files are noticed, a full disk lets deletes through, private files go."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import resource
import stat
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.assembly import new_store
from app.main import create_app
from app.settings import Settings
from app.stores import Policy, SqliteStore, StorageFullError, StoreAddress, StoreUnavailableError
from app.stores.sqlite import FILE
from tests.app.scripts import expr, var
from tests.app.test_around import talk
from tests.app.test_stores import add, ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    from fastapi import FastAPI

PROGRAM = {"expr": "x + 1"}


def ask(app: FastAPI, method: str, path: str, document: Any = None) -> httpx.Response:
    answer: httpx.Response = talk(app, lambda client: client.request(method, path, json=document))
    return answer


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    app = create_app(Settings(data_dir=tmp_path))
    yield app
    app.state.registry.store.close()


# Files that are removed or replaced


def _unlinked(folder: Path) -> None:
    (folder / FILE).unlink()


def _unlinked_with_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _journal_unlinked(folder: Path) -> None:
    (folder / f"{FILE}-wal").unlink()


def _replaced(folder: Path) -> None:
    with closing(SqliteStore(folder / "other", Policy())) as other:
        other.open()
    (folder / "other" / FILE).replace(folder / FILE)


def _copied(folder: Path) -> None:
    copied = folder / "copied"
    copied.write_bytes((folder / FILE).read_bytes())
    copied.replace(folder / FILE)


@pytest.mark.parametrize("spoil", [_unlinked, _unlinked_with_all, _journal_unlinked, _replaced, _copied])
def test_nothing_is_acknowledged_that_would_be_lost(
    app: FastAPI, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    session = f"/v1/sessions/{ask(app, 'POST', '/v1/sessions', {}).json()['id']}"
    assert ask(app, "POST", f"{session}/run", {"commands": [var("x", 1.0)]}).status_code == 200
    assert ask(app, "GET", "/readyz").status_code == 200
    app.state.readiness._asked_at = -1e9
    spoil(tmp_path)
    for method, path, document in (
        ("GET", "/readyz", None),
        ("POST", "/v1/programs", PROGRAM),
        ("POST", "/v1/sessions", {}),
        ("POST", f"{session}/run", {"commands": [var("y", 1.0)]}),
        ("DELETE", session, None),
    ):
        answer = ask(app, method, path, document)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable"), (method, path)
        assert "the database file was removed or replaced" in answer.json()["detail"]
        assert str(tmp_path) not in answer.text


def test_a_connection_to_another_file_is_not_used(app: FastAPI, tmp_path: Path) -> None:
    assert ask(app, "POST", "/v1/programs", PROGRAM).status_code == 201
    _replaced(tmp_path)
    app.state.registry.store._database._close_idle()
    answer = ask(app, "GET", "/v1/programs")
    assert answer.status_code == 503 and "removed or replaced" in answer.json()["detail"]


def test_a_file_that_is_back_is_used_again(app: FastAPI, tmp_path: Path) -> None:
    assert ask(app, "POST", "/v1/programs", PROGRAM).status_code == 201
    away = tmp_path.with_name("away")
    tmp_path.rename(away)
    assert ask(app, "POST", "/v1/programs", {"expr": "x + 2"}).status_code == 503
    away.rename(tmp_path)
    assert ask(app, "POST", "/v1/programs", {"expr": "x + 3"}).status_code == 201
    assert [each["nodes"] for each in ask(app, "GET", "/v1/programs").json()["programs"]] == [1, 1]


# A full disk


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As a disk that is full: SQLite cannot make a file larger. Python ignores the signal of it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_deletes_work_on_a_full_disk(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, Policy())
    for i in range(10):
        add(store, f"{i}", x=os.urandom(20_000))
    journal, reserve = (tmp_path / f"{FILE}-{name}" for name in ("wal", "reserve"))
    assert reserve.exists()
    # The journal can hold what is in it, and no byte more.
    with files_no_larger_than(journal.stat().st_size):
        with pytest.raises(StorageFullError, match="the disk of the store is full, and nothing was kept"):
            add(store, "more", x=os.urandom(20_000))
        with pytest.raises(StorageFullError):
            store.check()
        for i in range(10):
            assert store.delete_program(f"p_{i}")
        assert not reserve.exists()
        # They made room for others.
        assert add(store, "other", x=os.urandom(20_000))
    store.check()
    assert reserve.exists()
    assert ids(store) == ["p_other"]
    store.close()


def test_a_full_disk_over_http(app: FastAPI, tmp_path: Path) -> None:
    session = f"/v1/sessions/{ask(app, 'POST', '/v1/sessions', {}).json()['id']}"
    for _ in range(8):
        assert ask(app, "POST", f"{session}/run", {"commands": [var("x", [0.5] * 5000)]}).status_code == 200
    with files_no_larger_than((tmp_path / f"{FILE}-wal").stat().st_size):
        larger = {"commands": [var("y", [0.5] * 50_000)]}
        answer = ask(app, "POST", f"{session}/run", larger)
        assert (answer.status_code, answer.json()["type"]) == (507, "/problems/storage-full")
        answer = ask(app, "GET", "/readyz")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert "full" in answer.json()["detail"]
        assert ask(app, "GET", f"{session}/variables/x").status_code == 200
        assert ask(app, "POST", "/v1/evaluate", {"expr": "x + 1", "inputs": {"x": 1}}).status_code == 200
        # What becomes smaller is kept.
        delete = {"seq": 9, "commands": [{"do": "delete", "ids": ["x"]}]}
        assert ask(app, "POST", f"{session}/run", delete).status_code == 200
        assert ask(app, "DELETE", session).status_code == 204


def test_what_is_deleted_is_not_overwritten(tmp_path: Path) -> None:
    """Else a delete would take as much of the disk as it frees."""
    store = SqliteStore(tmp_path, Policy())
    add(store, "large", x=os.urandom(2_000_000))
    with store._database._connection() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert store.delete_program("p_large")
    assert (tmp_path / f"{FILE}-wal").stat().st_size < 200_000
    store.close()


# Private files


def _registers(text: str) -> None:
    address = StoreAddress(*json.loads(text))
    store = new_store(Settings(store="memory"), address=address)
    store.open()
    add(store, "elsewhere", "theirs")
    store.close()


def test_processes_of_one_server_share_a_private_file() -> None:
    store = new_store(Settings(store="memory"))
    assert pickle.loads(pickle.dumps(store.address)) == store.address
    add(store, "here", "mine")
    process = multiprocessing.get_context("spawn").Process(target=_registers, args=(json.dumps(store.address),))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert store.resolve_program("theirs") == "p_elsewhere"
    folder = Path(store.address.place)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["lock", FILE, f"{FILE}-shm", f"{FILE}-wal"]
    store.close()
    assert not folder.exists()
    with pytest.raises(StoreUnavailableError, match="closed"):
        store.check()


def test_each_server_has_a_private_file_of_its_own() -> None:
    one, other = (new_store(Settings(store="memory")) for _ in range(2))
    add(one, "a")
    assert ids(other) == []
    one.close()
    add(other, "b")
    other.close()


_LEFT_OPEN = """
import os
from app.assembly import new_store
from app.settings import Settings
store = new_store(Settings(store="memory"))
store.open()
print(store.address.place, flush=True)
if os.fork() == 0:
    raise SystemExit
os.wait()
assert os.path.isdir(store.address.place)
"""


def test_a_private_file_goes_with_its_process() -> None:
    """A process that was forked leaves it."""
    found = subprocess.run([sys.executable, "-c", _LEFT_OPEN], capture_output=True, text=True, check=True)
    assert "pullback-" in found.stdout
    assert not Path(found.stdout.strip()).exists()


_KILLED = """
import os, signal
from app.assembly import new_store
from app.settings import Settings
store = new_store(Settings(store="memory"))
store.open()
print(store.address.place, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_private_file_of_a_server_that_was_killed_goes_with_the_next_start() -> None:
    with closing(new_store(Settings(store="memory"))) as other:
        found = subprocess.run([sys.executable, "-c", _KILLED], capture_output=True, text=True, check=False)
        left = Path(found.stdout.strip())
        assert left.exists()
        new_store(Settings(store="memory")).close()
        assert not left.exists()
        # One whose server lives stays.
        assert Path(other.address.place).exists()


def test_a_private_file_is_not_synchronized() -> None:
    with closing(SqliteStore.private(Policy())) as store, store._database.read() as connection:
        pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 0]


def test_a_server_in_memory_is_killed_and_nothing_is_torn() -> None:
    """Though nothing waits for the disk, what a killed process wrote is whole for the others."""
    with closing(SqliteStore.private(Policy())) as store:
        store.open()
        process = multiprocessing.get_context("fork").Process(target=_writes_and_dies, args=(store.address,))
        process.start()
        process.join()
        assert process.exitcode == -9
        with store._database.read() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert len(ids(store)) == 20


def _writes_and_dies(address: StoreAddress) -> None:
    store = new_store(Settings(store="memory"), address=address)
    for i in range(20):
        add(store, f"{i}", x=os.urandom(5000))
    with store._database.write() as connection:  # type: ignore[attr-defined]
        connection.execute("DELETE FROM programs")
        os.kill(os.getpid(), 9)


def test_commands_of_a_session_survive_in_a_private_file() -> None:
    app = create_app(Settings(store="memory", session_cache_bytes=0))
    session = f"/v1/sessions/{ask(app, 'POST', '/v1/sessions', {}).json()['id']}"
    ask(app, "POST", f"{session}/run", {"commands": [var("x", 2.0)]})
    answer = ask(app, "POST", f"{session}/run", {"commands": [expr("y", "x * x")], "fetch": ["y"]})
    assert answer.json()["fetched"]["y"]["value"] == 4.0
    app.state.registry.store.close()
