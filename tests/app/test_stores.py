"""Stores keep what they are told to: the same in SQLite and in Redis, across processes and crashes."""

from __future__ import annotations

import hashlib
import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.stores import (
    Binding,
    NameConflictError,
    Policy,
    Program,
    SqliteStore,
    Store,
    StoreError,
    StoreUnavailableError,
)
from app.stores.redis import RedisStore
from app.stores.sqlite import FILE, database
from engine.core.errors import LimitExceededError
from tests.redis_process import RedisProcess, needs_redis

DAY_S = 24 * 3600.0
WEEK_S = 7 * DAY_S


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


Make = Callable[..., Store]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=needs_redis)])
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Make]:
    """Opens a store with a policy of the test's own."""
    opened: list[Store] = []

    def build(**policy: float) -> Store:
        held = Policy(**{"program_ttl_s": WEEK_S, "clock": clock, **policy})  # type: ignore[arg-type]
        if request.param == "memory":
            store: Store = SqliteStore.private(held)
        elif request.param == "sqlite":
            store = SqliteStore(tmp_path / "data", held)
        else:
            store = RedisStore(request.getfixturevalue("redis_server").url, held)
        store.open()
        opened.append(store)
        return store

    yield build
    for store in opened:
        store.close()


@pytest.fixture
def store(make: Make) -> Store:
    return make()


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def program(key: str, name: str | None = None, **bound: bytes) -> Program:
    bindings = {i: Binding(digest_of(data), "float64", (len(data) // 8,)) for i, data in bound.items()}
    return Program(f"p_{key}", f'{{"nodes":"{key}"}}', f'{{"id":"{key}"}}', bindings, name)


def add(store: Store, key: str, name: str | None = None, replace: bool = False, **bound: bytes) -> bool:
    """Adds a program and says whether it is new."""
    blobs = {digest_of(data): data for data in bound.values()}
    return store.add_program(program(key, name, **bound), blobs, replace=replace)[1]


def ids(store: Store) -> list[str]:
    return [listed.id for listed in store.list_programs(1000, 0)]


def test_what_was_added_is_there(store: Store, clock: Clock) -> None:
    given = program("a", "first", y=b"y" * 16, x=b"x" * 8)
    kept, is_new = store.add_program(
        given, {digest_of(b"y" * 16): b"y" * 16, digest_of(b"x" * 8): b"x" * 8}, replace=False
    )
    assert is_new
    assert store.load_program("p_a") == kept
    assert (kept.id, kept.document, kept.summary, kept.bound) == (given.id, given.document, given.summary, given.bound)
    assert list(kept.bound) == ["y", "x"]
    assert (kept.name, kept.created_at) == ("first", clock.now)
    digests = [binding.digest for binding in kept.bound.values()]
    assert store.load_blobs([*digests, "none"]) == dict(zip(digests, (b"y" * 16, b"x" * 8), strict=True))


def test_the_same_again_changes_nothing(store: Store, clock: Clock) -> None:
    assert add(store, "a", "first", x=b"x" * 8)
    before = store.load_program("p_a")
    clock.now += DAY_S
    assert not add(store, "a", "first", x=b"x" * 8)
    assert not add(store, "a", x=b"x" * 8)
    assert store.load_program("p_a") == before
    assert ids(store) == ["p_a"]


def test_keys_that_are_not_there(store: Store) -> None:
    add(store, "a", "first")
    assert store.resolve_program("p_b") is None
    assert store.resolve_program("second") is None
    assert store.load_program("first") is None
    assert not store.delete_program("p_b")
    assert not store.delete_program("second")


def test_programs_are_found_by_id_and_by_every_name(store: Store) -> None:
    add(store, "a", "first")
    add(store, "a", "second")
    assert {store.resolve_program(key) for key in ("p_a", "first", "second")} == {"p_a"}
    kept = store.load_program("p_a")
    assert kept is not None and kept.name == "first"
    assert store.add_program(program("a", "second"), {}, replace=False)[0].name == "second"
    assert store.program_names() == ["second", "first"]


def test_a_name_belongs_to_one_program_until_it_is_moved(store: Store) -> None:
    add(store, "a", "best")
    with pytest.raises(NameConflictError):
        add(store, "b", "best")
    assert ids(store) == ["p_a"]
    assert add(store, "b", "best", replace=True)
    assert store.resolve_program("best") == "p_b"
    former = store.load_program("p_a")
    assert former is not None and former.name is None


def test_deleting_frees_names_and_arrays_that_nobody_else_has(store: Store) -> None:
    both, own = b"both....", b"own....."
    add(store, "a", "first", x=both, y=own)
    add(store, "b", "second", x=both)
    assert store.delete_program("first")
    assert store.resolve_program("p_a") is None
    assert store.program_names() == ["second"]
    assert store.load_blobs([digest_of(both), digest_of(own)]) == {digest_of(both): both}
    assert store.delete_program("p_b")
    assert store.load_blobs([digest_of(both)]) == {}
    assert add(store, "a", "first", x=both, y=own)
    assert store.load_blobs([digest_of(own)]) == {digest_of(own): own}


def test_one_array_twice_in_a_program_is_kept_once(make: Make) -> None:
    store = make(max_bytes=1000 + program("a").size)
    data = b"d" * 1000
    assert add(store, "a", x=data, y=data)
    assert store.delete_program("p_a")
    assert store.load_blobs([digest_of(data)]) == {}


def test_pages_go_through_everything_once(store: Store) -> None:
    for i in range(10):
        add(store, f"{9 - i}")
    seen: list[str] = []
    after = 0
    while page := store.list_programs(3, after):
        seen += [listed.id for listed in page]
        after = page[-1].number
        # What goes or comes meanwhile does not disturb the others.
        if len(seen) == 3:
            store.delete_program("p_7")
            store.delete_program("p_3")
            add(store, "late")
    assert seen == [f"p_{i}" for i in (9, 8, 7, 6, 5, 4, 2, 1, 0, "late")]


def test_numbers_are_not_given_twice(store: Store) -> None:
    add(store, "a")
    [first] = store.list_programs(1, 0)
    store.delete_program("p_a")
    add(store, "b")
    [second] = store.list_programs(1, 0)
    assert second.number > first.number


def test_the_unused_without_a_name_are_dropped(store: Store, clock: Clock) -> None:
    add(store, "nameless", x=b"x" * 8)
    add(store, "named", "kept")
    add(store, "used")
    clock.now += WEEK_S / 2
    assert store.resolve_program("p_used")
    clock.now += WEEK_S / 2 - 60
    assert store.resolve_program("p_named")
    assert ids(store) == ["p_nameless", "p_named", "p_used"]
    clock.now += 300
    assert store.resolve_program("p_nameless") is None
    assert ids(store) == ["p_named", "p_used"]
    assert store.load_blobs([digest_of(b"x" * 8)]) == {}
    clock.now += 10 * WEEK_S
    add(store, "new")
    assert ids(store) == ["p_named", "p_new"]


def test_a_program_that_is_used_again_and_again_stays(store: Store, clock: Clock) -> None:
    add(store, "a")
    for _ in range(20):
        clock.now += WEEK_S / 2
        assert store.resolve_program("p_a") == "p_a"


def test_who_loses_its_name_gets_the_whole_time(store: Store, clock: Clock) -> None:
    add(store, "a", "best")
    clock.now += 2 * WEEK_S
    add(store, "b", "best", replace=True)
    clock.now += WEEK_S - 300
    assert store.resolve_program("best") == "p_b"
    assert ids(store) == ["p_a", "p_b"]
    clock.now += 600
    store.resolve_program("best")
    assert ids(store) == ["p_b"]


def test_many_are_dropped_a_bounded_number_at_a_time(store: Store, clock: Clock) -> None:
    for i in range(250):
        add(store, f"{i}")
    left = []
    clock.now += 2 * WEEK_S
    for _ in range(4):
        store.resolve_program("anything")
        left.append(len(ids(store)))
        clock.now += 120
    assert left == [150, 50, 0, 0]


def test_a_clock_that_is_set_back_does_no_harm(store: Store, clock: Clock) -> None:
    add(store, "a")
    clock.now -= 10 * WEEK_S
    assert store.resolve_program("p_a") == "p_a"
    clock.now += 11 * WEEK_S + DAY_S
    assert store.resolve_program("p_a") is None


def test_no_more_programs_than_allowed(make: Make, clock: Clock) -> None:
    store = make(max_programs=2)
    add(store, "a")
    add(store, "b", "named")
    with pytest.raises(LimitExceededError, match="PULLBACK_MAX_PROGRAMS"):
        add(store, "c")
    assert not add(store, "a")
    # What may be dropped gives way, although it is not yet time to look.
    clock.now += WEEK_S + 30
    store.resolve_program("named")
    clock.now += 40
    assert add(store, "c")
    assert ids(store) == ["p_b", "p_c"]


def test_room_is_told_before_it_is_taken(make: Make, clock: Clock) -> None:
    store = make(max_programs=2, max_bytes=10_000)
    data = b"x" * 8000

    def has_room(key: str, **bound: bytes) -> bool:
        given = program(key, **bound)
        try:
            store.check_room(given, {digest_of(data): data for data in bound.values()})
        except LimitExceededError:
            return False
        return True

    assert has_room("a", x=data)
    assert ids(store) == []
    add(store, "a", x=data)
    # Arrays that are there already take no room.
    assert has_room("b", x=data)
    assert not has_room("b", x=b"y" * 8000)
    add(store, "b", "named")
    assert has_room("a", x=data)
    assert not has_room("c")
    clock.now += WEEK_S + 70
    assert has_room("c")
    assert add(store, "c")


def test_a_store_that_works_says_nothing(store: Store) -> None:
    store.check()
    add(store, "a")
    store.check()


def test_no_more_bytes_than_allowed(make: Make) -> None:
    store = make(max_bytes=10_000)
    assert add(store, "a", x=b"x" * 8000)
    assert add(store, "b", x=b"x" * 8000)
    with pytest.raises(LimitExceededError, match="PULLBACK_MAX_STORE_BYTES"):
        add(store, "c", x=b"z" * 8000)
    assert store.load_blobs([digest_of(b"z" * 8000)]) == {}
    store.delete_program("p_a")
    with pytest.raises(LimitExceededError, match="10,000"):
        add(store, "c", x=b"z" * 8000)
    store.delete_program("p_b")
    assert add(store, "c", x=b"z" * 8000)


def test_threads_that_add_the_same_program(store: Store) -> None:
    barrier = threading.Barrier(32)

    def work(i: int) -> bool:
        barrier.wait()
        return add(store, "same", "name", x=b"x" * 8000)

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(work, range(32))) == 1
    assert ids(store) == ["p_same"]


def test_threads_that_fight_for_a_name(store: Store) -> None:
    def work(i: int) -> bool:
        try:
            return add(store, f"{i}", "name")
        except NameConflictError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(40))) == 1
    assert len(ids(store)) == 1


@needs_redis
def test_the_same_steps_leave_the_same_in_both_stores(tmp_path: Path, redis_server: RedisProcess) -> None:
    clock = Clock()
    policy = Policy(program_ttl_s=1000, max_programs=6, max_bytes=500, clock=clock)
    stores: list[Store] = [RedisStore(redis_server.url, policy), SqliteStore(tmp_path, policy)]
    steps: list[tuple[str, str | None, bool]] = [
        (f"{i * 7 % 11}", (None, "n", "m", None)[i * 5 % 4], i % 3 == 0) for i in range(120)
    ]

    def step(store: Store, i: int) -> str:
        key, name, flag = steps[i]
        if i % 7 == 6:
            return str(store.delete_program(f"p_{key}"))
        if i % 5 == 4:
            return str(store.resolve_program(name or f"p_{key}"))
        try:
            return str(add(store, key, name, replace=flag, x=(key * 20).encode()))
        except (NameConflictError, LimitExceededError) as error:
            return type(error).__name__

    seen = set()
    for i in range(len(steps)):
        # More than the precision of what is noted, so that both know the same.
        clock.now += 65
        told = {step(store, i) for store in stores}
        assert len(told) == 1
        seen |= told
        first, second = (
            [(each.name, each.summary, store.load_program(each.id)) for each in store.list_programs(100, 0)]
            for store in stores
        )
        assert first == second
    assert {"NameConflictError", "LimitExceededError", "True", "False", "None"} <= seen
    for store in stores:
        store.close()


# SQLite


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[SqliteStore]]:
    """Stores that are closed in the end."""
    found: list[SqliteStore] = []
    yield found
    for store in found:
        store.close()


def test_what_was_kept_is_there_after_closing(tmp_path: Path, opened: list[SqliteStore]) -> None:
    opened += [SqliteStore(tmp_path, Policy()) for _ in range(2)]
    add(opened[0], "a", "first", x=b"x" * 8)
    before = opened[0].load_program("p_a")
    opened[0].close()
    assert opened[1].resolve_program("first") == "p_a"
    assert opened[1].load_program("p_a") == before
    with pytest.raises(StoreUnavailableError, match="closed"):
        opened[0].resolve_program("first")


def test_nothing_is_made_before_it_is_needed(tmp_path: Path, opened: list[SqliteStore]) -> None:
    opened.append(SqliteStore(tmp_path / "deep" / "data", Policy()))
    assert list(tmp_path.iterdir()) == []
    add(opened[0], "a")
    assert (tmp_path / "deep" / "data" / FILE).is_file()


def test_a_use_is_written_down_once_in_a_while(tmp_path: Path, opened: list[SqliteStore]) -> None:
    clock = Clock()
    opened.append(SqliteStore(tmp_path, Policy(clock=clock)))
    add(opened[0], "a")
    with sqlite3.connect(tmp_path / FILE) as other:
        states = []
        for _ in range(5):
            clock.now += 25
            for _ in range(10):
                opened[0].resolve_program("p_a")
            states.append(other.execute("SELECT used_at FROM programs").fetchone()[0] - clock.now)
    other.close()
    assert states == [-25, -50, 0, -25, -50]


def test_it_is_durable_before_it_answers(tmp_path: Path, opened: list[SqliteStore]) -> None:
    opened.append(SqliteStore(tmp_path, Policy()))
    with opened[0]._database.read() as connection:
        pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]


def _work(directory: Path, worker: int) -> list[bool]:
    store = SqliteStore(directory, Policy())
    try:
        return [add(store, f"{i}", f"name-{i}", x=f"{i}".encode() * 100) for i in range(25)]
    finally:
        store.close()


@pytest.mark.thorough
def test_processes_that_share_a_file(tmp_path: Path, opened: list[SqliteStore]) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        added = pool.starmap(_work, [(tmp_path / "data", worker) for worker in range(3)])
    # Each program was new to exactly one of them.
    assert [sum(flags) for flags in zip(*added, strict=True)] == [1] * 25
    opened.append(SqliteStore(tmp_path / "data", Policy()))
    assert sorted(ids(opened[0])) == sorted(f"p_{i}" for i in range(25))


#: Lets the processes of a pool begin together; each of them has it from the start.
_together: Any = None


def _meet(barrier: Any) -> None:
    global _together
    _together = barrier


def _start(directory: Path) -> str:
    """What opening a store says; empty where it opens."""
    store = SqliteStore(directory, Policy())
    _together.wait()
    try:
        store.open()
    except StoreError as error:
        return str(error)
    finally:
        store.close()
    return ""


def test_a_write_waits_for_that_of_another_process(tmp_path: Path, opened: list[SqliteStore]) -> None:
    opened.append(SqliteStore(tmp_path, Policy()))
    opened[0].open()
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(add, opened[0], "a")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.05)
        other.rollback()
        other.close()
        assert waiting.result()


@pytest.mark.thorough
def test_processes_that_start_at_once_in_an_empty_directory(tmp_path: Path) -> None:
    processes, rounds = 8, 24
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _meet, (context.Barrier(processes),)) as pool:
        for i in range(rounds):
            assert pool.map(_start, [tmp_path / f"{i}"] * processes, chunksize=1) == [""] * processes


def test_what_another_process_does_is_seen(tmp_path: Path, opened: list[SqliteStore]) -> None:
    opened += [SqliteStore(tmp_path, Policy()) for _ in range(2)]
    one, other = opened
    add(one, "a", "best")
    assert other.resolve_program("best") == "p_a"
    add(other, "b", "best", replace=True)
    assert one.resolve_program("best") == "p_b"
    other.delete_program("best")
    assert one.resolve_program("best") is None


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r'PULLBACK_DATA_DIR is ".*/file/data", which cannot be made: Not a directory'):
        SqliteStore(tmp_path / "file" / "data", Policy()).open()


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 1000)


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE programs (id TEXT)")
    connection.close()


def _newer(path: Path) -> None:
    store = SqliteStore(path.parent, Policy())
    store.open()
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _cut(path: Path) -> None:
    store = SqliteStore(path.parent, Policy())
    add(store, "a", x=b"x" * 100_000)
    store.close()
    path.write_bytes(path.read_bytes()[:50_000])


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_garbage, "file is not a database"),
        (_foreign, "is a database of something else"),
        (_newer, "has schema version 99; this release reads version 5"),
        (_cut, "malformed"),
        (_folder, "cannot be opened: unable to open database file"),
    ],
    ids=["garbage", "foreign", "newer", "cut", "folder"],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(tmp_path / FILE)
    with pytest.raises(StoreError) as caught:
        SqliteStore(tmp_path, Policy()).open()
    text = str(caught.value)
    assert words in text
    assert f'PULLBACK_DATA_DIR is "{tmp_path}"' in text
    assert "\n" not in text


def test_a_file_that_can_only_be_read_is_refused(
    tmp_path: Path, opened: list[SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process that was killed leaves both files, and with them SQLite opens a database on a read-only disk.
    opened.append(SqliteStore(tmp_path, Policy()))
    add(opened[0], "a")
    assert {path.name for path in tmp_path.iterdir()} == {
        FILE,
        *(f"{FILE}-{more}" for more in ("wal", "shm", "reserve")),
    }
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda url, **more: connect(f"{url.partition('?')[0]}?mode=ro", **more))
    with pytest.raises(StoreError, match="cannot be used: attempt to write a readonly database"):
        SqliteStore(tmp_path, Policy()).open()


def test_a_file_that_goes_bad_is_unavailable(tmp_path: Path, opened: list[SqliteStore]) -> None:
    opened.append(SqliteStore(tmp_path, Policy()))
    add(opened[0], "a")
    with opened[0]._database.write() as connection:
        connection.execute("DROP TABLE program_names")
    with pytest.raises(StoreUnavailableError):
        opened[0].load_program("p_a")


def test_a_store_that_does_not_answer(tmp_path: Path, opened: list[SqliteStore]) -> None:
    opened.append(SqliteStore(tmp_path, Policy()))
    with opened[0]._database.write() as connection:
        connection.execute("ALTER TABLE programs RENAME TO elsewhere")
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        opened[0].check()


def test_what_can_be_read_is_answered_while_nothing_can_be_written(
    tmp_path: Path, opened: list[SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    clock = Clock()
    opened.append(SqliteStore(tmp_path, Policy(clock=clock)))
    add(opened[0], "a", "first")
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    clock.now += DAY_S
    assert opened[0].resolve_program("first") == "p_a"
    assert ids(opened[0]) == ["p_a"]
    with pytest.raises(StoreUnavailableError):
        add(opened[0], "b")
    other.close()
    assert add(opened[0], "b")
