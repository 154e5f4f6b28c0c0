"""Settings of all tests: what `make test` leaves to `make test-all`, seeded properties, and a Redis server."""

from __future__ import annotations

import gc
import os
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from app.service import bound_blas
from tests.redis_process import RedisProcess, start_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Modules that register what they define are imported once, by the tests that use them.
collect_ignore_glob = ["chaos/*"]

# A slow machine is no failure of a property, and every run tries the same examples.
settings.register_profile("all", settings.get_profile("default"), deadline=None, derandomize=True)
settings.register_profile("sample", settings.get_profile("all"), max_examples=40)


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples a property is tried on; leave the processors to the workers, which share them.

    BLAS's own threads would spin against those of the others.
    """
    # Applications in the process of a test have no lifespan in which worker processes would start.
    os.environ.setdefault("PULLBACK_ISOLATION", "threads")
    settings.load_profile("sample" if config.option.markexpr else "all")
    if hasattr(config, "workerinput"):
        bound_blas()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as thorough the tests that are not in the sample of a function marked `sampled(one_in, each)`.

    one_in: the share of its tests in the sample, chosen by their names and so always the same ones.
    each: names of parameters; for each of their values at least one test is in it.
    """
    seen: set[tuple[Any, ...]] = set()
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark is None or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        params = {name: item.callspec.params.get(name) for name in mark.kwargs.get("each", ())}
        values = {(item.path, item.originalname, name, id(value)) for name, value in params.items()}
        if zlib.crc32(item.nodeid.encode()) % mark.kwargs["one_in"] and values <= seen:
            item.add_marker(pytest.mark.thorough)
        seen |= values


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking at all collected tests each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail what is skipped in a run of all tests: there it would look as if it had been tested."""
    report: Any = yield
    if report.skipped and not hasattr(report, "wasxfail") and not item.config.option.markexpr:
        report.outcome, report.longrepr = "failed", f"skipped in a run of all tests: {report.longrepr[-1]}"
    return report


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A server for all tests that neither stop nor empty it."""
    with start_redis(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture
def redis_server(shared_redis: RedisProcess) -> RedisProcess:
    """The same server with nothing in it; no process of another test uses it any more."""
    shared_redis.client.flushall()
    return shared_redis
