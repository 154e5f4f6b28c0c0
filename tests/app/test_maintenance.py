"""`pullback backup`, `restore` and `doctor`: copies of a store that is used, put back and examined."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.handles import digest_of, handle_of
from app.programs import ProgramLimits
from app.programs.registry import Registry
from app.sessions.manager import Sessions
from app.sessions.session import Quotas
from app.stores import Policy, SqliteStore, StoreError
from app.stores.redis import RedisStore
from app.stores.sqlite import FILE
from tests.app.conftest import start_server
from tests.app.scripts import expr, var
from tests.app.test_sessions import create, does, value
from tests.app.test_store_migration import write_sqlite
from tests.redis_process import RedisProcess, needs_redis

Say = Callable[..., str]


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Runs a command with this exit code, and returns what it prints, or its error."""
    monkeypatch.setenv("PULLBACK_DATA_DIR", str(tmp_path / "data"))

    def run(*words: str | Path, status: int = 0) -> str:
        assert main([str(word) for word in words]) == status
        out, err = capsys.readouterr()
        assert (not out) if status == 2 else (not err)
        return (err if status == 2 else out).rstrip("\n")

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def sessions_of(store: Any) -> Sessions:
    return Sessions(store.sessions, Quotas(), ttl_s=1000.0, max_ttl_s=1000.0, cache_bytes=0, deadline_s=50.0)


def filled(store: Any) -> str:
    """Fills a store, and returns the id of a session in it."""
    Registry(store, ProgramLimits(), 0).register(
        ("expr", "sum(a * x)"), name="sum", declared={}, bound={"a": [0.5, 2.0]}
    )
    sessions = sessions_of(store)
    session_id = create(sessions)
    sessions.change(session_id, b"", None, does(var("x", [1.0] * 1000), expr("y", "x * 2.0")))
    return session_id


def test_a_store_that_is_used_is_backed_up_and_restored(tmp_path: Path, folder: Path, say: Say) -> None:
    kept = tmp_path / "kept.sqlite3"
    with closing(SqliteStore(folder, Policy())) as store:
        session_id = filled(store)
        assert say("backup", kept).endswith(f"to {kept}")
        store.delete_program("sum")
        sessions_of(store).delete(session_id)
        # A server has it open.
        assert "a server has" in say("restore", kept, status=2)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert say("doctor", kept) == say("doctor") == "no faults found"
    assert "exists: --force replaces it" in say("restore", kept, status=2)
    assert say("restore", kept, "--force").startswith(f"restored {folder / FILE} from {kept}; `pullback doctor` looks")
    with closing(SqliteStore(folder, Policy())) as store:
        assert store.resolve_program("sum") is not None
        assert value(sessions_of(store), session_id, "y").tolist() == [2.0] * 1000
        with store._database.read() as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "kept.sqlite3"]
    assert sorted(path.name for path in folder.iterdir()) == [FILE, f"{FILE}-reserve"]


def test_it_is_restored_where_there_is_nothing(tmp_path: Path, folder: Path, say: Say) -> None:
    with closing(SqliteStore(tmp_path / "elsewhere", Policy())) as store:
        filled(store)
    say("restore", tmp_path / "elsewhere" / FILE)
    assert say("doctor") == "no faults found"


def test_what_is_in_the_journal_is_not_replayed_on_what_is_restored(tmp_path: Path, folder: Path, say: Say) -> None:
    kept = tmp_path / "kept"
    with closing(SqliteStore(folder, Policy())) as store:
        filled(store)
        say("backup", kept)
        store.delete_program("sum")
        journal = folder / f"{FILE}-wal"
        left = journal.read_bytes()
    # As a server that was killed leaves it.
    journal.write_bytes(left)
    say("restore", kept, "--force")
    assert say("doctor") == "no faults found"
    with closing(SqliteStore(folder, Policy())) as store:
        assert store.resolve_program("sum") is not None


def test_a_server_under_which_a_store_was_replaced_says_so(tmp_path: Path, folder: Path, say: Say) -> None:
    kept = tmp_path / "kept"
    with closing(SqliteStore(folder, Policy())) as store:
        filled(store)
        say("backup", kept)
        say("restore", kept, "--force")
        with pytest.raises(Exception, match="removed or replaced"):
            store.check()
    assert say("doctor") == "no faults found"


def test_a_backup_of_the_release_before(tmp_path: Path, folder: Path, say: Say) -> None:
    old = write_sqlite(tmp_path)
    before = old.read_bytes()
    assert say("doctor", old) == "no faults found"
    assert old.read_bytes() == before
    say("restore", old)
    with closing(SqliteStore(folder, Policy())) as store:
        assert store.resolve_program("weighted")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["backup", "{kept}"], "there is no"),
        (["restore", "{missing}"], "there is no file"),
        (["doctor", "{missing}"], "there is no file"),
        (["doctor"], "there is no file"),
        (["restore", "{garbage}"], "is not restored: the file cannot be read: file is not a database"),
        (["restore", "{foreign}"], "is not restored: the file is a database of something else"),
        (["restore", "{newer}"], "has schema version 99"),
    ],
)
def test_refusals(tmp_path: Path, folder: Path, say: Say, words: list[str], text: str) -> None:
    (tmp_path / "garbage").write_bytes(b"this is no database " * 1000)
    for name in ("foreign", "newer"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute("CREATE TABLE programs (id TEXT)")
            if name == "newer":
                connection.execute(f"PRAGMA application_id = {0x504C424B}")
                connection.execute("PRAGMA user_version = 99")
    names = {name: str(tmp_path / name) for name in ("kept", "missing", "garbage", "foreign", "newer")}
    assert text in say(*(word.format(**names) for word in words), status=2)
    assert not folder.exists() or not list(folder.iterdir())


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path, folder: Path, say: Say) -> None:
    with closing(SqliteStore(folder, Policy())) as store:
        store.open()
    kept = tmp_path / "kept"
    kept.write_text("mine")
    assert "exists already" in say("backup", kept, status=2)
    assert kept.read_text() == "mine"
    assert "cannot be written" in say("backup", tmp_path / "none" / "kept", status=2)


FAULTS: dict[str, tuple[str, str]] = {
    "a document": ("UPDATE programs SET document = replace(document, 'mul', 'sub')", "the program p_"),
    "a summary": ("UPDATE programs SET summary = '{'", "is damaged: its summary cannot be read"),
    "an array": ("UPDATE blobs SET data = zeroblob(16)", "is damaged: a bound array has not the digest"),
    "a missing array": ("DELETE FROM blobs", "has lost a bound array"),
    "a missing program": ("DELETE FROM programs", "belongs to nothing in programs"),
    "a loose array": ("INSERT INTO blobs VALUES ('d1', 0, x'')", "the array d1 is bound to no program"),
    "a session": ("UPDATE sessions SET document = x'00' || document", "the session {handle} is damaged"),
    "a session's expiry": ("UPDATE sessions SET expires_at = 'soon'", "the session {handle} is damaged"),
    "a session's answer": ("UPDATE sessions SET request = x'00', status = 'fine'", "the session {handle} is damaged"),
    "a session's array": ("UPDATE session_arrays SET data = zeroblob(8000) WHERE number = 0", "{handle} is damaged"),
    "a lost array": ("DELETE FROM session_arrays WHERE number = 0", "the session {handle} is damaged"),
    "a spare array": ("INSERT INTO session_arrays VALUES (1, 99, x'00')", "arrays that nothing refers to: [99]"),
    "a loose session array": ("INSERT INTO session_arrays VALUES (77, 1, x'')", "belongs to nothing in sessions"),
    "a size": ("UPDATE sessions SET bytes = 5", "the session {handle} counts 5 bytes, and has "),
    "a count": ("UPDATE usage SET bytes = 5 WHERE kind = 'programs'", "the bytes of programs count as 5, and are"),
    "a client": ("UPDATE client_usage SET bytes = 5", "the bytes of sessions of 1 clients do not add up"),
}


@pytest.mark.parametrize(("statement", "words"), FAULTS.values(), ids=FAULTS)
def test_the_doctor_finds(folder: Path, say: Say, statement: str, words: str) -> None:
    with closing(SqliteStore(folder, Policy())) as store:
        session_id = filled(store)
        assert say("doctor") == "no faults found"
        with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
            assert connection.execute(statement).rowcount >= 1
    found = say("doctor", status=1)
    assert words.format(handle=handle_of(digest_of(session_id))) in found
    assert session_id not in found and "Traceback" not in found


def test_the_doctor_finds_a_page_that_is_torn(folder: Path, say: Say) -> None:
    with closing(SqliteStore(folder, Policy())) as store:
        filled(store)
    path = folder / FILE
    data = bytearray(path.read_bytes())
    data[8192:12288] = b"\7" * 4096
    path.write_bytes(data)
    assert "SQLite finds the file damaged" in say("doctor", status=1) or "cannot be" in say("doctor", status=1)
    assert "is not restored" in say("restore", path, "--force", status=2)


def test_the_doctor_finds_pages_that_are_lost(folder: Path, say: Say) -> None:
    with closing(SqliteStore(folder, Policy())) as store:
        filled(store)
    path = folder / FILE
    for start, end in ((5000, 60_000), (4096, 8192), (100, 4096)):
        data = bytearray(path.read_bytes())
        data[start:end] = bytes(end - start)
        spoilt = folder / f"spoilt-{start}"
        spoilt.write_bytes(data)
        assert "malformed" in (found := say("doctor", spoilt, status=1)) and "Traceback" not in found
        served = folder / f"served-{start}"
        served.mkdir()
        (served / FILE).write_bytes(data)
        # Not all of it is noticed so early, but nothing else than this is raised.
        with closing(SqliteStore(served, Policy())) as store, suppress(StoreError):
            store.open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_restores_belongs_to_the_owner_of_the_directory(folder: Path, say: Say, tmp_path: Path) -> None:
    with closing(SqliteStore(folder, Policy())) as store:
        filled(store)
    say("backup", tmp_path / "copy")
    os.chown(folder, 12345, 12345)
    say("restore", tmp_path / "copy", "--force")
    assert ((folder / FILE).stat().st_uid, (folder / FILE).stat().st_mode & 0o777) == (12345, 0o600)


def test_stores_without_a_file(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, words in (("memory", "end with it"), ("redis://user:secret@127.0.0.1:1/0", "BGSAVE")):
        monkeypatch.setenv("PULLBACK_STORE", setting)
        for command in (("backup", "x"), ("restore", tmp_path)):
            found = say(*command, status=2)
            assert words in found and "secret" not in found
    assert "cannot be used" in say("doctor", status=2)
    monkeypatch.setenv("PULLBACK_STORE", "memory")
    assert "end with it" in say("doctor", status=2)


@needs_redis
def test_the_doctor_reads_redis(redis_server: RedisProcess, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLBACK_STORE", redis_server.url)
    with closing(RedisStore(redis_server.url, Policy())) as store:
        session_id = filled(store)
    assert say("doctor") == "no faults found"
    digest = digest_of(session_id)
    redis_server.client.hset(f"pullback:session:{digest}:content", "document", b"nothing of ours")
    assert f"the session {handle_of(digest)} is damaged" in say("doctor", status=1)
    redis_server.client.hset(f"pullback:session:{digest}", "expires_at", "soon")
    assert f"the session {handle_of(digest)} is damaged: expires_at" in say("doctor", status=1)
    assert say("sessions", "list") == ""


@pytest.mark.thorough
def test_a_backup_of_a_busy_server(tmp_path: Path, folder: Path, say: Say) -> None:
    with start_server(tmp_path, data_dir=str(folder)) as running:
        path = f"/v1/sessions/{running.client.post('/v1/sessions', json={}).json()['id']}"
        for n in range(30):
            body = {"seq": n + 1, "commands": [var("x", [float(n)] * 1000)]}
            assert running.client.post(f"{path}/run", json=body).status_code == 200
            if n % 10 == 5:
                say("backup", tmp_path / f"kept-{n}")
                assert say("doctor", tmp_path / f"kept-{n}") == "no faults found"
        assert "a server has" in say("restore", tmp_path / "kept-5", status=2)
    say("restore", tmp_path / "kept-5", "--force")
    with start_server(tmp_path, data_dir=str(folder)) as running:
        assert running.client.get(path).json()["seq"] == 6
        body = {"seq": 7, "commands": [], "fetch": ["x"]}
        assert running.client.post(f"{path}/run", json=body).json()["fetched"]["x"]["value"][0] == 5.0
