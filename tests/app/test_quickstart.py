"""The seed's quickstart over a real socket, digit by digit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.app.conftest import Server

COMPOSED = {
    "infix": {"expr": "square(exp(square(x)))"},
    "statements": {"expr": "a = square(x); b = exp(a); out = square(b)"},
    "graph": {
        "graph": {
            "nodes": [
                {"id": "a", "op": "square", "args": ["x"]},
                {"id": "b", "op": "exp", "args": ["a"]},
                {"id": "out", "op": "square", "args": ["b"]},
            ],
            "outputs": ["out"],
        }
    },
    "inline": {
        "graph": {
            "nodes": [
                {
                    "id": "out",
                    "op": "square",
                    "args": [{"op": "exp", "args": [{"op": "square", "args": ["x"]}]}],
                }
            ]
        }
    },
}

MATYAS = {
    "operators": "z = 0.26*(x**2 + y**2) - 0.48*x*y",
    "calls": "z = sub(mul(0.26, add(pow(x, 2.0), pow(y, 2.0))), mul(0.48, mul(x, y)))",
}


def assert_printed(text: str, digits: str, times: int = 1) -> None:
    """The answer's own text has these digits, not only a number near them."""
    assert text.count(digits) == times, f"{digits} is not {times} times in {text}"


@pytest.mark.parametrize("program", COMPOSED.values(), ids=COMPOSED)
def test_value_and_gradient_of_a_composition(server: Server, program: dict[str, Any]) -> None:
    response = server.client.post("/v1/evaluate", json={**program, "inputs": {"x": 0.5}, "backward": True})
    assert response.status_code == 200, response.text
    assert response.json()["values"] == {"out": 1.648721270700128}
    assert response.json()["grads"] == {"x": 3.297442541400256}
    assert_printed(response.text, "1.648721270700128")
    assert_printed(response.text, "3.297442541400256")


@pytest.mark.parametrize("expr", MATYAS.values(), ids=MATYAS)
def test_matyas_at_one_one(server: Server, expr: str) -> None:
    response = server.client.post("/v1/evaluate", json={"expr": expr, "inputs": {"x": 1, "y": 1}, "backward": True})
    assert response.status_code == 200, response.text
    assert response.json()["grads"] == {"x": 0.040000000000000036, "y": 0.040000000000000036}
    assert response.json()["values"] == {"z": 0.040000000000000036}
    assert_printed(response.text, "0.040000000000000036", times=3)


def test_sine_and_its_first_derivative(server: Server) -> None:
    response = server.client.post("/v1/evaluate", json={"expr": "sin(x)", "inputs": {"x": 1.0}, "backward": True})
    assert response.status_code == 200, response.text
    assert_printed(response.text, "0.8414709848078965")
    assert_printed(response.text, "0.5403023058681398")
    assert response.json()["values"] == {"out": 0.8414709848078965}
    assert response.json()["grads"] == {"x": 0.5403023058681398}


def test_nograd_gives_the_same_value_and_no_gradient(server: Server) -> None:
    answer = server.evaluate(expr="sin(x)", inputs={"x": 1.0}, nograd=True)
    assert answer["values"] == {"out": 0.8414709848078965}
    assert not answer.get("grads")


def test_nograd_ends_with_its_request_even_when_that_fails(server: Server) -> None:
    refused = server.client.post("/v1/evaluate", json={"expr": "sine(x)", "inputs": {"x": 1.0}, "nograd": True})
    assert refused.status_code == 422
    server.assert_well()


def test_gradients_do_not_accumulate_over_requests(server: Server) -> None:
    request: dict[str, Any] = {"expr": "x ** 2", "inputs": {"x": 3.0}, "backward": True}
    assert [server.evaluate(**request)["grads"]["x"] for _ in range(3)] == [6.0, 6.0, 6.0]
