"""Limits of the engine over HTTP: each refusal names the setting that raises the limit, and that setting raises it."""

import asyncio
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli import main
from app.limit_settings import FIELDS, variable
from app.main import create_app
from app.programs import ProgramLimits
from app.settings import Settings, described
from engine.graph.limits import Limits


def talk(path: str, document: Any, **settings: Any) -> httpx.Response:
    """The answer to a POST of an application with these settings; `{session}` in the path is a new session."""

    async def run() -> httpx.Response:
        app = create_app(Settings(**{"store": "memory", **settings}))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with app.opened(), httpx.AsyncClient(transport=transport, base_url="http://local") as client:
            where = path
            if "{session}" in path:
                made = await client.post("/v1/sessions", json={})
                where = path.format(session=made.json()["id"])
                variables = [{"do": "variable", "id": "x", "value": 0.5}]
                document["commands"] = variables + document["commands"][-1:]
            return await client.post(where, json=document)

    return asyncio.run(run())


def evaluate(expr: str, **more: Any) -> tuple[str, Any]:
    return "/v1/evaluate", {"expr": expr, "inputs": {"x": 0.5}} | more


def session(**command: Any) -> tuple[str, Any]:
    return "/v1/sessions/{session}/run", {"commands": [{"do": "apply", "out": ["y"]} | command]}


def by_place(count: int) -> dict[str, Any]:
    first, rest = {"op": "add", "args": ["x", "x"]}, range(count - 2)
    nodes = [first, *({"op": "add", "args": [{"node": n}, "x"]} for n in rest)]
    return {"nodes": [*nodes, {"id": "y", "op": "add", "args": [{"node": count - 2}, "x"]}], "outputs": ["y"]}


NESTED = "sin(" * 30 + "x" + ")" * 30
ADDED = " + ".join(["x"] * 31)
#: (the limit, a value of it that refuses, path and document)
REFUSED = [
    ("depth", 20, evaluate(NESTED)),
    ("depth", 20, ("/v1/programs", {"expr": NESTED})),
    ("depth", 20, ("/v1/infer", {"expr": NESTED, "inputs": {"x": 1}})),
    ("depth", 20, session(expr=NESTED)),
    ("chain", 20, evaluate(ADDED)),
    ("chain", 20, ("/v1/programs", {"expr": ADDED})),
    ("chain", 20, ("/v1/evaluate", {"graph": by_place(30), "inputs": {"x": 1}})),
    ("chain", 20, ("/v1/programs", {"graph": by_place(30)})),
    ("chain", 20, session(expr=ADDED)),
    ("nodes", 20, evaluate(ADDED)),
    ("nodes", 20, ("/v1/programs", {"expr": ADDED})),
    ("nodes", 20, ("/v1/check", {"expr": "sum(x)", "inputs": {"x": [0.5] * 11_000}})),
    ("nodes", 20, session(expr=ADDED)),
    ("elements", 20, evaluate("named = broadcast_to(x, [30]); sum(named)")),
    ("elements", 20, ("/v1/evaluate", {"expr": "x", "inputs": {"x": [1] * 30}})),
    ("elements", 20, ("/v1/jacobian", {"expr": "x * x", "inputs": {"x": [1] * 6}})),
    ("elements", 20, ("/v1/hessian", {"expr": "sum(x * x)", "inputs": {"x": [1] * 6}})),
    ("elements", 20, session(op="broadcast_to", args=["x"], attrs={"shape": [30]})),
    ("bytes", 200, evaluate("sum(broadcast_to(x, [30]))")),
    ("bytes", 200, evaluate("sum(x)", inputs={"x": [[1.0] * 15] * 2}, batched=["x"])),
    ("bytes", 200, ("/v1/check", {"expr": "x * x", "inputs": {"x": [1] * 30}})),
    ("bytes", 200, session(op="broadcast_to", args=["x"], attrs={"shape": [30]})),
    ("flops", 20, evaluate("sum(broadcast_to(x, [30]))")),
    ("flops", 20, ("/v1/jacobian", {"expr": "x * x", "inputs": {"x": [1] * 30}})),
    ("flops", 20, session(expr="sum(broadcast_to(x, [30]))")),
]


def test_each_limit_has_a_setting() -> None:
    assert set(FIELDS.values()) == {field.name for field in fields(Limits)} | {"max_depth", "max_chain"}
    assert set(map(variable, FIELDS)) <= {name for name, _, _ in described(Settings())}
    assert Settings().program_limits() == ProgramLimits()


def test_each_refusal_names_the_setting_that_raises_the_limit() -> None:
    wrong = []
    for limit, low, (path, document) in REFUSED:
        refused, allowed = talk(path, document, **{FIELDS[limit]: low}), talk(path, document)
        texts = [refused.json()["detail"], *(error["msg"] for error in refused.json()["errors"])]
        if refused.json()["type"] != "/problems/limit-exceeded" or not allowed.is_success:
            wrong.append((limit, path, document, refused.text, allowed.text))
        elif not all(text.count(f"(setting {variable(limit)})") == 1 == text.count("PULLBACK") for text in texts):
            wrong.append((limit, path, document, texts, ""))
    assert wrong == []


def test_a_program_within_a_raised_limit_is_found_again(tmp_path: Path) -> None:
    settings = {"store": "sqlite", "data_dir": tmp_path, "max_chain": 2000, "max_depth": 300}
    for name, expr in (("long", " + ".join(["x"] * 1501)), ("deep", "sin(" * 200 + "x" + ")" * 200)):
        assert talk("/v1/programs", {"expr": expr, "name": name}, **settings).status_code == 201
        again = {"program": name, "inputs": {"x": 1}}
        assert talk("/v1/evaluate", again, **settings).status_code == 200
        lowered = talk("/v1/evaluate", again, **settings | {"max_nodes": 100})
        assert lowered.json()["detail"].count("(setting PULLBACK_MAX_NODES)") == 1


def test_the_command_line_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PULLBACK_MAX_NODES", "3")
    for command in ("eval", "dot"):
        assert main([command, "x + x + x + x + x", *(["x=1"] if command == "eval" else [])]) == 2
        assert "limit is 3 (setting PULLBACK_MAX_NODES)" in capsys.readouterr().err
