"""Long answers lie in files while they are sent: their workers are free, nobody holds them in memory, clients share."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.http.messages import Call
from app.http.spool import Spool
from app.stores import StorageFullError
from app.workers import frames
from app.workers.jobs import Sizes
from app.workers.pool import Processes
from tests.app.pools import Channel, NoNursery
from tests.app.test_processes import evaluate, run, served

#: Two megabytes of JSON.
LONG = {"expr": "broadcast_to(x, [1000, 300])", "inputs": {"x": 0.1}}


def files() -> int:
    """Return the number of files without a name that this process has open."""
    links = [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return sum("(deleted)" in str(each.readlink()) for each in links)


def test_what_was_written_is_read_in_parts_and_goes_with_the_body(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    body = spool.new(10, "a")
    Path(body.path).write_bytes(b"0123456789")
    assert (len(body), body[:], body[3:5], body[8:100]) == (10, b"0123456789", b"34", b"89")
    assert not list(tmp_path.iterdir())
    assert spool.held == 10
    body.close()
    body.close()
    assert spool.held == 0


def test_a_body_that_is_dropped_lets_go_of_its_file(tmp_path: Path) -> None:
    spool, before = Spool(tmp_path, 1000), files()
    body = spool.new(10, "a")
    assert files() == before + 1
    del body
    assert (spool.held, files()) == (0, before)


def test_one_client_leaves_room_for_others(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    assert spool.has_room(5000, "a")
    kept = [spool.new(300, "a")]
    assert not spool.has_room(300, "a")
    assert spool.has_room(700, "b")
    kept.append(spool.new(700, "b"))
    assert not spool.has_room(1, "c")
    kept.clear()
    assert spool.held == 0


def test_where_no_file_can_be_made_the_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageFullError, match="no room"):
        Spool(tmp_path / "missing", 1000).new(10, "a")


def test_a_long_answer_comes_whole_and_leaves_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as app:
            found = await evaluate(app, LONG)
            assert found.document["values"] == {"out": [[0.1] * 300] * 1000}
            assert files() == before

    before = files()
    run(work)


def test_a_full_disk_is_a_507_and_the_server_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with served(tmp_path, max_concurrency=1) as app:
            with monkeypatch.context() as patch:
                # Every write to it fails as on a full disk.
                patch.setattr(
                    "app.http.spool.FileBody.path", property(lambda body: "/dev/full", lambda *_: None), raising=False
                )
                full = await evaluate(app, LONG)
            assert (full.status, full.document["type"]) == (507, "/problems/storage-full")
            assert (await evaluate(app, LONG)).status == 200

    run(work)


def test_who_waits_for_room_does_not_hold_up_others(tmp_path: Path) -> None:
    async def never() -> Any:
        await asyncio.Event().wait()

    async def work() -> None:
        pool = Processes(NoNursery(), Sizes(3, 1, 1, 1), spool, 10, 5.0)  # type: ignore[arg-type]
        channels = [Channel() for _ in range(3)]
        for pid, channel in enumerate(channels):
            pool._on_worker(2**22 + pid, channel)  # type: ignore[arg-type]
        calls = [Call("POST", "/v1/evaluate", b"", [], client, "id") for client in ("a", "a", "b")]
        tasks = [asyncio.ensure_future(pool.answer(call, k, never)) for k, call in enumerate(calls)]
        await asyncio.sleep(0)
        by_client = {"a": [], "b": []}  # type: ignore[var-annotated]
        for worker in sorted(pool._busy, key=lambda each: each.job.started if each.job else 0):
            assert worker.job is not None
            by_client[worker.job.client].append(worker.channel)
        (first, second), (other,) = by_client["a"], by_client["b"]
        for channel, nbytes in ((first, 400), (second, 400), (other, 300)):
            channel.offer(nbytes)
        assert [channel.sent[-1] for channel in (first, second, other)] == [frames.TAKE, frames.CALL, frames.TAKE]
        for task in tasks:
            task.cancel()

    spool = Spool(tmp_path, 1000)
    asyncio.run(work())
