"""Sessions of real servers that are not used: 410 for a while, then 404, whatever keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.app.clocked import CLOCKED, SharedClock
from tests.app.conftest import start_server
from tests.redis_process import needs_redis

if TYPE_CHECKING:
    from pathlib import Path

LIFE_S, GRACE_S = 10.0, 20.0


@pytest.mark.parametrize("store", ["memory", "sqlite", pytest.param("redis", marks=needs_redis)])
def test_gone_and_then_unknown(request: pytest.FixtureRequest, tmp_path: Path, store: str) -> None:
    url = request.getfixturevalue("redis_server").url if store == "redis" else store
    clock = SharedClock.made(tmp_path / "clock")
    settings = {"store": url, "session_grace_s": str(GRACE_S), "test_clock": str(clock.folder)}
    with start_server(tmp_path, CLOCKED, **settings) as running:
        path = f"/v1/sessions/{running.client.post('/v1/sessions', json={'ttl_s': LIFE_S}).json()['id']}"
        # Whoever uses it keeps it alive.
        for _ in range(4):
            clock.advance(0.6 * LIFE_S)
            assert running.client.get(path).status_code == 200
        clock.advance(1.2 * LIFE_S)
        assert running.client.get(path).status_code == 410
        clock.advance(GRACE_S)
        assert running.client.get(path).status_code == 404
