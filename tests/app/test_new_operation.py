"""One row is all that a new operation takes: the engine, both forms of programs, /v1/ops and the check know of it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from engine import Variable
from engine import functions as F
from engine.core.operation import Operation
from engine.core.table import OPERATIONS, unregister
from engine.rows import unary
from tests.engine import test_rows


@pytest.fixture(params=["right", "wrong"])
def cube(request: pytest.FixtureRequest) -> Iterator[Operation]:
    factor = 3.0 if request.param == "right" else 2.0
    unary("cube", lambda x: x * x * x, lambda g, y, x: g * (factor * x * x), doc="x * x * x.", aliases=("third_power",))
    yield OPERATIONS["cube"]
    unregister(OPERATIONS["cube"])


def ask(method: str, path: str, document: Any = None) -> dict[str, Any]:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(Settings()))
        async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
            return await client.request(method, path, json=document)

    answer = asyncio.run(send())
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_row_is_everywhere(cube: Operation) -> None:
    x = Variable(2.0)
    F.third_power(x).backward()
    assert x.grad is not None
    slope = x.grad.data
    assert slope in (12.0, 8.0)

    for program in ({"expr": "cube(x)"}, {"graph": {"nodes": [{"id": "out", "op": "third_power", "args": ["x"]}]}}):
        answer = ask("POST", "/v1/evaluate", {**program, "inputs": {"x": 2}, "backward": True})
        assert answer["values"] == {"out": 8.0}
        assert answer["grads"] == {"x": slope}
    inferred = ask("POST", "/v1/infer", {"expr": "cube(x)", "inputs": {"x": {"shape": [2, 3], "dtype": "float32"}}})
    assert inferred["outputs"]["out"] == {"shape": [2, 3], "dtype": "float32"}

    assert ask("GET", "/v1/ops/cube")["doc"] == "x * x * x."
    assert "cube" in str(ask("GET", "/v1/ops"))
    for example in cube.examples:
        if slope == 12.0 or 0 in example.operands[0]:
            test_rows.test_gradients_agree_with_finite_differences_to_second_order(cube, example)
        else:
            with pytest.raises(AssertionError, match="gradients differ"):
                test_rows.test_gradients_agree_with_finite_differences_to_second_order(cube, example)


def test_a_row_without_test_data_fails(cube: Operation) -> None:
    cube.examples = ()
    with pytest.raises(AssertionError, match="cube: no test data"):
        test_rows.test_every_row_has_examples_and_documentation()
