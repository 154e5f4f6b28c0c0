"""Settings of all tests: a slow machine is no failure of a property. And a Redis server for those who need one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.redis_process import RedisProcess, start_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("unhurried", settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.load_profile("unhurried")


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
