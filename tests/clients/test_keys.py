"""The Python SDK and servers with keys: typed errors, and a wait where the server asks for one."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

import pullback
from app.stores.keys import Rates
from tests import virtual_time
from tests.app.keyed import Keyed


def client_of(keyed: Keyed, key: str | None, **options: Any) -> pullback.AsyncClient:
    transport = httpx.ASGITransport(keyed.app)  # type: ignore[arg-type]
    return pullback.AsyncClient("http://local", api_key=key, transport=transport, **options)


def test_errors_are_typed_and_say_where_a_key_goes() -> None:
    async def work() -> None:
        keyed = Keyed()
        keyed.create("ada", ["sessions"])
        async with client_of(keyed, None) as client:
            with pytest.raises(pullback.errors.UnauthorizedError, match="argument api_key, PULLBACK_API_KEY"):
                await client.evaluate("x * 2", {"x": 1.0})
        async with client_of(keyed, keyed.keys["ada"]) as client:
            with pytest.raises(pullback.errors.ForbiddenError, match="does not have the scope evaluate"):
                await client.evaluate("x * 2", {"x": 1.0})
            session = await client.session()
        keyed.create("bob")
        async with client_of(keyed, keyed.keys["bob"]) as client:
            with pytest.raises(pullback.errors.ForbiddenError, match="belongs to another key"):
                await client.resume(session.id)

    virtual_time.run(work())


def test_a_rate_is_waited_for() -> None:
    async def work() -> None:
        keyed = Keyed()
        loop = asyncio.get_running_loop()
        keyed.app.keys._monotonic = loop.time
        keyed.create("ada", rates=Rates(units_s=0.5, burst=1.0))
        async with client_of(keyed, keyed.keys["ada"]) as client:
            begin = loop.time()
            for n in range(3):
                assert (await client.evaluate(f"x * {n}", {"x": 1.0})).values["out"] == n
            assert 4.0 <= loop.time() - begin < 8.0
        async with client_of(keyed, keyed.keys["ada"], retries=0) as client:
            with pytest.raises(pullback.errors.RateLimitedError) as caught:
                await client.evaluate("x * 9", {"x": 1.0})
            assert caught.value.retry_after_s == 2

    virtual_time.run(work())
