"""The server inside of another process: found by its entry point, and leaving that process as it is."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

from app.embedded import serve
from app.settings import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def ask(path: str, **request: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with serve() as app:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
                return await client.post(path, json=request)

    return asyncio.run(once())


def test_it_is_found_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULLBACK_STORE", raising=False)
    [found] = entry_points(group="pullback.embedded")
    assert found.load() is serve
    assert ask("/v1/evaluate", expr="x * x", inputs={"x": 3}).json()["values"] == {"out": 9.0}
    assert ask("/v1/sessions").status_code == 201


def test_the_process_is_left_as_it_is() -> None:
    def state() -> tuple[Any, ...]:
        handlers = len(logging.getLogger("pullback").handlers)
        blas = [each["num_threads"] for each in threadpool_info()]
        return gc.get_threshold(), gc.get_freeze_count(), signal.getsignal(signal.SIGTERM), handlers, blas

    before = state()
    ask("/v1/evaluate", expr="x * x", inputs={"x": 3})
    assert state() == before


def test_the_environment_says_what_keeps_sessions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PULLBACK_STORE", "sqlite")
    monkeypatch.setenv("PULLBACK_DATA_DIR", str(tmp_path))
    assert ask("/v1/sessions").status_code == 201
    assert list(tmp_path.iterdir())
    monkeypatch.setenv("PULLBACK_STORE", "paper")
    with pytest.raises(SettingsError, match="PULLBACK_STORE"):
        ask("/v1/sessions")
