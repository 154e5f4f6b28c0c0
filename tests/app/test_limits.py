"""Limits of the engine over HTTP: each refusal names the setting that raises the limit, and that setting raises it."""

import asyncio
import contextlib
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli import main
from app.limit_settings import FIELDS, variable
from app.main import create_app
from app.programs import ProgramLimits, infer
from app.settings import Settings, described
from app.wire.codecs import encode
from app.wire.media import JSON
from engine.core.errors import AutogradError
from engine.core.table import rows
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


@pytest.mark.parametrize("sizes", [1_000_000, 2**62])
def test_results_are_counted_before_they_are_made(sizes: int) -> None:
    answer = talk(*session(op="split", args=[[]], attrs={"sizes": sizes}))
    assert answer.json()["type"] == "/problems/limit-exceeded"
    expected = (
        f"command 1 (apply split): split needs {sizes:,} nodes, the limit is 100,000 (setting PULLBACK_MAX_NODES)"
    )
    assert answer.json()["detail"] == expected


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


def large(*shape: int, **more: Any) -> dict[str, Any]:
    return {"expr": "sum(x * x)", "inputs": {"x": {"shape": shape}}} | more


ONE = {"max_elements": 20, "max_bytes": 10**9, "max_flops": 10**9}
#: (settings, what is inferred, bytes, the limits that refuse)
INFERRED: list[tuple[dict[str, int], dict[str, Any], int, str]] = [
    ({}, large(10), 8 * 21, ""),
    ({}, large(10_000_001), 8 * 20_000_003, "elements"),
    ({}, {"expr": "x", "inputs": {"x": {"shape": [10_000_001]}}}, 8 * 10_000_001, "elements"),
    ({}, {"expr": "x", "inputs": {"x": {"shape": [0, 10_000_001]}}}, 0, "elements"),
    ({}, large(10**9), 8 * (2 * 10**9 + 1), "elements bytes"),
    ({}, large(10**9, 10**9), 2**63 - 1, "elements bytes flops"),
    ({}, large(2**62, 2**62, 2**62), 2**63 - 1, "elements bytes flops"),
    ({}, {"expr": "x @ x", "inputs": {"x": {"shape": [2**40, 2**40]}}}, 2**63 - 1, "elements bytes flops"),
    ({}, {"expr": "broadcast_to(x, [10000, 10000])[0, 0]", "inputs": {"x": 1}}, 8 * (10**8 + 2), "elements"),
    ({}, {"expr": "u = sum(x * x); grad(u, x)", "inputs": {"x": {"shape": [10_000_001]}}}, 160_000_016, "elements"),
    (ONE, large(30), 8 * 61, "elements"),
    (ONE, {"expr": "x + x", "inputs": {"x": [1] * 30}}, 8 * 60, "elements"),
    (ONE, {"expr": "a, b = split(x, [10, 10]); a, b, x", "inputs": {"x": [1] * 20}}, 8 * 40, "elements"),
    (ONE, large(3, 7, batched=["x"]), 8 * (21 + 21 + 3), "elements"),
    (ONE | {"max_elements": 100, "max_bytes": 100}, large(30), 8 * 61, "bytes"),
    (ONE | {"max_elements": 100, "max_flops": 20}, large(30), 8 * 61, "flops"),
    (dict.fromkeys(ONE, 10), large(30), 8 * 61, "elements bytes flops"),
]


def test_inferring_tells_the_cost_and_the_limits_that_refuse() -> None:
    """What it says is what evaluating does, as far as that can be tried."""
    wrong = []
    for settings, document, nbytes, limits in INFERRED:
        response = talk("/v1/infer", document, **settings)
        answer = response.json()
        if response.status_code != 200 or answer["cost"]["bytes"] != nbytes:
            wrong.append((document, response.text))
            continue
        told = " ".join(each["limit"].removeprefix("max_") for each in answer["exceeded"])
        named = all(each["setting"] == f"PULLBACK_{each['limit'].upper()}" for each in answer["exceeded"])
        known = all(each["limit"] in answer["limits"] for each in answer["exceeded"])
        texts = [each["msg"] for each in answer["exceeded"]]
        if told != limits or not named or not known or not all("the limit is" in text for text in texts):
            wrong.append((document, answer["exceeded"]))
        inputs = {"x": [1] * 30 if document["inputs"]["x"] == {"shape": (30,)} else document["inputs"]["x"]}
        if not isinstance(inputs["x"], dict):
            evaluated = talk("/v1/evaluate", document | {"inputs": inputs}, **settings)
            if evaluated.status_code != (413 if limits else 200) or texts[0] not in evaluated.json()["detail"]:
                wrong.append((document, evaluated.text))
    assert wrong == []


def test_inferring_refuses_what_can_be_no_array() -> None:
    for shape, words in (
        ([1] * 33, "33 axes; at most 32"),
        ([2**63], "length 9.22337e+18 of axis 0; the largest of any array is 9,223,372,036,854,775,807"),
        ([3, 10**30], "length 1e+30 of axis 1; the largest of any array is"),
        ([-1], "length -1 of axis 0; expected an integer from 0"),
        ([1.5], "length 1.5 of axis 0; expected an integer from 0"),
        (["3"], 'length "3" of axis 0'),
        (3, "a list of lengths"),
    ):
        response = talk("/v1/infer", {"expr": "x", "inputs": {"x": {"shape": shape}}})
        assert (response.status_code, response.json()["type"]) == (422, "/problems/invalid-request")
        assert words in response.json()["detail"]
    joined = talk("/v1/infer", {"expr": "concat([x, x, x])", "inputs": {"x": {"shape": [2**62]}}})
    assert (joined.status_code, joined.json()["type"]) == (413, "/problems/limit-exceeded")
    assert "setting PULLBACK_MAX_ELEMENTS" in joined.json()["detail"]


def test_inferring_any_operation_of_enormous_values_takes_no_memory_and_ends() -> None:
    """Every row of the table, alone and under a gradient, on shapes that no memory holds."""
    shapes = ([2**40], [2**40, 2**40])
    operands = ("x", "x, x", "x, x, x", "x, 0", "[x, x]")
    texts = [f"{op.name}({given})" for op in rows() for given in operands]
    limits, found = ProgramLimits(), 0
    for text in texts + [f"y = sum({text}); grad(y, x)" for text in texts]:
        for shape in shapes:
            with contextlib.suppress(AutogradError):
                forecast = infer(("expr", text), {"x": {"shape": shape}}, limits=limits)
                json = encode(
                    JSON, {"cost": astuple(forecast.cost), "nodes": [known.shape for known in forecast.nodes.values()]}
                )
                assert json
                found += forecast.exceeded != []
    assert found > 500
