"""The clients' namespaces: the names of the JavaScript client, blocking, awaited and raw."""

from __future__ import annotations

import asyncio
import inspect
import re
from typing import Any

import pytest

import pullback
from pullback.remote import endpoints
from tests.app.conftest import ROOT, Server

JAVASCRIPT = ROOT / "clients" / "javascript" / "src"
X = [{"do": "variable", "id": "x", "value": 0.5}]


def named(owner: Any) -> set[str]:
    """The public names of an object, but for those that hold plain data."""
    return {name for name in dir(owner) if not name.startswith("_") and name not in ("settings", "close", "aclose")}


def in_javascript(module: str) -> set[str]:
    """The public methods of a module's class."""
    found = re.findall(r"^  (?:async )?\*?(\w+)\(.*\{$", (JAVASCRIPT / module).read_text(), re.MULTILINE)
    return set(found) - {"constructor"}


def test_the_names_are_those_of_javascript() -> None:
    client = pullback.Client("local")
    assert named(client.programs) == in_javascript("programs.js")
    assert in_javascript("client.js") | {"programs", "sessions", "with_raw_response"} == named(client)


def test_every_kind_of_client_has_the_same_names() -> None:
    blocking, awaiting = pullback.Client("local"), pullback.AsyncClient("local")
    assert named(blocking) == named(awaiting)
    for group in ("programs", "sessions"):
        names = named(getattr(blocking, group))
        assert names == named(getattr(awaiting, group))
        for raw in (blocking.with_raw_response, awaiting.with_raw_response):
            assert named(getattr(raw, group)) == names - {"all"}


def test_flat_names_are_gone(client: pullback.Client) -> None:
    for name in ("register", "get_program", "create_session", "get_session", "run", "variables", "put_state"):
        assert not hasattr(client, name)


def test_programs(client: pullback.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_PAGE", 2)
    made = [client.programs.register(f"x * {n}.5", name=f"times-{n}").id for n in range(5)]
    assert client.programs.get("times-3").id == made[3]
    assert "digraph" in client.programs.dot("times-3", order=1)
    assert len(client.programs.list(limit=1).programs) == 1
    assert set(made) <= {program.id for program in client.programs.all()}
    raw = client.with_raw_response.programs.get("times-0")
    assert raw.status == 200 and raw.parsed.id == made[0]
    for program in made:
        client.programs.delete(program)
    assert not set(made) & {program.id for program in client.programs.all()}


def test_programs_awaited(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_PAGE", 2)

    async def go() -> None:
        async with pullback.AsyncClient(server.base_url) as client:
            made = {(await client.programs.register(f"x * {n}.25")).id for n in range(5)}
            assert made <= {program.id async for program in client.programs.all()}
            raw = await client.with_raw_response.programs.list(limit=1)
            assert raw.status == 200 and len(raw.parsed.programs) == 1
            for program in made:
                await client.programs.delete(program)

    asyncio.run(go())


def test_sessions(client: pullback.Client) -> None:
    info = client.sessions.create(seed=7, name="mine")
    assert client.sessions.get(info.id).seed == 7
    assert client.sessions.run(info.id, 1, X, ["x"]).fetched["x"]["value"] == 0.5
    assert [each["id"] for each in client.sessions.variables(info.id)["variables"]] == ["x"]
    client.sessions.change(info.id, 2, ttl_s=60)
    raw = client.with_raw_response.sessions.get(info.id)
    assert raw.status == 200 and raw.parsed.ttl_s == 60
    again = client.resume(info.id)
    assert again.run([], ["x"]).fetched["x"]["value"] == 0.5
    again.delete()
    with pytest.raises(pullback.errors.UnknownSessionError):
        client.resume(info.id)


def test_sessions_awaited(server: Server) -> None:
    async def go() -> None:
        async with pullback.AsyncClient(server.base_url) as client:
            session = await client.session(seed=7)
            await session.run(X)
            again = await client.resume(session.id)
            assert (again.id, again.seed) == (session.id, 7)
            assert (await again.run([], ["x"])).fetched["x"]["value"] == 0.5
            await client.sessions.delete(session.id)

    asyncio.run(go())


def test_what_help_shows(client: pullback.Client) -> None:
    assert client.programs.list.__name__ == "list"
    assert str(inspect.signature(client.programs.get)) == "(program: 'str') -> 'ProgramDetails'"
    assert client.sessions.create.__doc__ == endpoints.Sessions.create.__doc__ != ""
    assert inspect.signature(client.session).replace(return_annotation="SessionInfo") == inspect.signature(
        client.sessions.create
    )
