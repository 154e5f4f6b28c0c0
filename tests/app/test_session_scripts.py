"""Scripts on the local engine and through sessions of every store: the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.app.calls import received
from tests.app.conftest import Server, start_server
from tests.app.local import Local
from tests.app.scripts import SCRIPTS, Commands
from tests.redis_process import needs_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 11
#: With no copies in memory every call begins from what the store has.
STORES = {
    "memory": {"store": "memory"},
    "sqlite": {"store": "sqlite"},
    "sqlite without copies": {"store": "sqlite", "session_cache_bytes": "0"},
    "redis": {"store": "redis"},
    "redis without copies": {"store": "redis", "session_cache_bytes": "0"},
}


MARKED = [pytest.param(name, marks=needs_redis) if "redis" in name else name for name in STORES]


@pytest.fixture(scope="module", params=MARKED)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = STORES[request.param]
    if settings["store"] == "redis":
        settings = {**settings, "store": request.getfixturevalue("shared_redis").url}
    with start_server(tmp_path_factory.mktemp("sessions"), **settings) as running:
        yield running


def bits(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: bits(item) for key, item in document.items()}
    if document is None:
        return None
    array = np.asarray(document)
    return str(array.dtype), array.shape, array.tobytes()


def locally(script: list[Commands]) -> Any:
    local = Local(SEED)
    with np.errstate(all="ignore"):
        for run in script:
            for command in run:
                local.do(command)
    return local.seen()


@pytest.mark.sampled(one_in=8)
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_same_bits(served: Server, name: str) -> None:
    expected = locally(SCRIPTS[name])
    client = served.client
    path = f"/v1/sessions/{client.post('/v1/sessions', json={'seed': SEED}).json()['id']}"
    for seq, run in enumerate(SCRIPTS[name], 1):
        answer = client.post(f"{path}/run", json={"seq": seq, "commands": run})
        assert answer.status_code == 200, answer.text
        # An error in the end leaves no trace of the rest; models are refused before it, for they are there.
        wrong = [*run, {"do": "backward", "of": "nobody"}]
        assert client.post(f"{path}/run", json={"commands": wrong}).status_code in (404, 409)
    answer = client.post(f"{path}/run", json={"fetch": list(expected), "encoding": "base64"})
    assert answer.status_code == 200, answer.text
    assert bits(received(answer.json()["fetched"])) == bits(expected)
