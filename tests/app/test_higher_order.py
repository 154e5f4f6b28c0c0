"""`order`, `create_graph`, `nograd`, `retain_grad`, `batched` and `program` of `/v1/evaluate`."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.polynomial import Polynomial

from tests.app.calls import assert_close, evaluate
from tests.app.test_contract import Array
from tests.app.test_malformed import flat, graph, node

if TYPE_CHECKING:
    from tests.app.conftest import Server

PROGRAM_ID = re.compile(r"p_[0-9a-f]{32}")
SINE_OF_1 = "0.8414709848078965"
COSINE_OF_1 = "0.5403023058681398"


# order


@pytest.mark.parametrize("order", range(1, 7))
def test_derivatives_of_a_sine_digit_by_digit(server: Server, order: int) -> None:
    digits = [COSINE_OF_1, f"-{SINE_OF_1}", f"-{COSINE_OF_1}", SINE_OF_1, COSINE_OF_1, f"-{SINE_OF_1}"][:order]
    request = {"expr": "sin(x)", "inputs": {"x": 1.0}, "backward": {"order": order}}
    response = server.client.post("/v1/evaluate", json=request)
    assert response.status_code == 200, response.text
    assert response.json()["values"] == {"out": float(SINE_OF_1)}
    assert response.json()["grads"] == {"x": float(COSINE_OF_1)}
    if order > 1:
        assert f'"higher":{{"x":[{",".join(digits)}]}}' in response.text.replace(" ", "")


def powers(exponent: int, x: float, order: int) -> list[float]:
    """The derivatives 1 to `order` of x**exponent."""
    return [math.perm(exponent, n) * x ** (exponent - n) if n <= exponent else 0.0 for n in range(1, order + 1)]


def tanh_derivatives(x: float, order: int) -> list[float]:
    """Polynomials in t = tanh(x): that of the next derivative is p'(t) (1 - t^2)."""
    polynomial, slope, values = Polynomial([0, 1]), Polynomial([1, 0, -1]), []
    for _ in range(order):
        polynomial = polynomial.deriv() * slope
        values.append(float(polynomial(math.tanh(x))))
    return values


def sine_derivatives(x: float, order: int) -> list[float]:
    return [(math.cos(x), -math.sin(x), -math.cos(x), math.sin(x))[n % 4] for n in range(order)]


CLOSED_FORMS: list[tuple[str, float, list[float]]] = [
    ("sin(x)", 0.7, sine_derivatives(0.7, 12)),
    ("exp(x)", 0.3, [math.exp(0.3)] * 12),
    ("exp(-2 * x)", 0.3, [(-2) ** n * math.exp(-0.6) for n in range(1, 9)]),
    ("tanh(x)", 0.4, tanh_derivatives(0.4, 8)),
    ("tanh(x)", -1.5, tanh_derivatives(-1.5, 8)),
    ("log(x)", 1.5, [-math.factorial(n - 1) * (-1 / 1.5) ** n for n in range(1, 9)]),
    ("1 / x", 2.0, [math.factorial(n) * (-1) ** n / 2.0 ** (n + 1) for n in range(1, 9)]),
    ("x ** 10", 1.1, powers(10, 1.1, 12)),
    ("sqrt(x)", 2.0, [math.prod(0.5 - k for k in range(n)) * 2.0 ** (0.5 - n) for n in range(1, 7)]),
    ("x * exp(x)", 0.5, [(0.5 + n) * math.exp(0.5) for n in range(1, 9)]),
]


@pytest.mark.parametrize(("expr", "x", "expected"), CLOSED_FORMS, ids=[f"{row[0]} at {row[1]}" for row in CLOSED_FORMS])
def test_derivatives_against_closed_forms(server: Server, expr: str, x: float, expected: list[float]) -> None:
    answer = server.evaluate(expr=expr, inputs={"x": x}, backward={"order": len(expected)})
    np.testing.assert_allclose(answer["higher"]["x"], expected, rtol=1e-10)
    assert answer["grads"] == {"x": answer["higher"]["x"][0]}


def test_a_cube_at_zero_is_exact(server: Server) -> None:
    answer = server.evaluate(expr="x ** 3", inputs={"x": 0.0}, backward={"order": 4})
    assert answer["higher"] == {"x": [0, 0, 6, 0]}
    assert answer["grads"] == {"x": 0}


X = np.array([1.0, -2.0, 0.5])
ONES = np.ones(3)

ARRAYS: dict[str, tuple[str, dict[str, Any], dict[str, Any], list[Array]]] = {
    "elementwise": ("x ** 3", {"x": X}, {}, [3 * X**2, 6 * X, 6 * ONES]),
    "a sum": ("sum(x ** 3)", {"x": X}, {}, [3 * X**2, 6 * X, 6 * ONES]),
    "the elements of a gradient are summed": ("sum(x) ** 3", {"x": X}, {}, [0.75 * ONES, -9 * ONES, 54 * ONES]),
    "a cotangent applies to the first": ("x ** 3", {"x": X}, {"cotangent": -X}, [-3 * X**3, -6 * X**2, -6 * X]),
    "by one of two": ("sum(x ** 2 * y)", {"x": X, "y": 4.0}, {"wrt": ["x"]}, [8 * X, 8 * ONES]),
    "by the only floating input": ("x ** 2 * k", {"x": X, "k": flat([], "int64", [4])}, {}, [8 * X, 8 * ONES]),
    "by a node": ("h = x * 2; sum(h ** 3)", {"x": X}, {"wrt": ["h"]}, [12 * X**2, 12 * X, 6 * ONES]),
    "of a node": ("h = x ** 2; h * 5", {"x": X}, {"of": "h"}, [2 * X, 2 * ONES, 0 * X]),
    "no dependence": ("p = sum(x); q = sum(y); p, q", {"x": X, "y": X}, {"of": "q", "wrt": ["x"]}, [0 * X, 0 * X]),
}


@pytest.mark.parametrize(("expr", "inputs", "backward", "expected"), ARRAYS.values(), ids=ARRAYS)
def test_orders_of_arrays(
    server: Server, expr: str, inputs: dict[str, Any], backward: dict[str, Any], expected: list[Array]
) -> None:
    answer = evaluate(server, expr=expr, inputs=inputs, backward={**backward, "order": len(expected)})
    assert_close([*answer["grads"].values()], [expected[0]])
    assert_close([*answer["higher"].values()], [expected])


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_orders_of_a_batch(server: Server, rows: int) -> None:
    x = np.random.default_rng(rows).normal(size=(rows, 2))
    answer = evaluate(server, expr="sum(x) ** 3", inputs={"x": x}, batched=["x"], backward={"order": 3})
    total = np.repeat(x.sum(1, keepdims=True), 2, axis=1)
    assert_close(answer["grads"], {"x": 3 * total**2})
    assert_close(answer["higher"], {"x": [3 * total**2, 12 * total, np.full((rows, 2), 24.0)]})


def test_higher_takes_the_encoding(server: Server) -> None:
    answer = server.evaluate(expr="x ** 2", inputs={"x": 3}, backward={"order": 2}, encoding="flat")
    assert answer["higher"] == {"x": [flat([], "float64", [6]), flat([], "float64", [2])]}


# create_graph


def gradient_program(server: Server, expr: str, inputs: dict[str, Any], **backward: Any) -> str:
    """The id of the program that `create_graph` stores."""
    answer = evaluate(server, expr=expr, inputs=inputs, backward={**backward, "create_graph": True})
    program: str = answer["grad_program"]
    assert PROGRAM_ID.fullmatch(program)
    return program


def test_create_graph_gives_the_gradients_too(server: Server) -> None:
    answer = server.evaluate(expr="x ** 3", inputs={"x": 2}, backward={"create_graph": True})
    assert (answer["values"], answer["grads"]) == ({"out": 8}, {"x": 12})
    assert answer["grad_program"] != answer["program"]


def test_without_create_graph_there_is_no_program(server: Server) -> None:
    assert not server.evaluate(expr="x ** 3", inputs={"x": 2}, backward=True).get("grad_program")


def test_a_gradient_program_is_evaluated_elsewhere(server: Server) -> None:
    program = gradient_program(server, "x ** 3", {"x": 2.0})
    answer = server.evaluate(program=program, inputs={"x": 5})
    assert (answer["values"], answer["program"]) == ({"grad_x": 75}, program)


def test_a_gradient_program_is_differentiated_again(server: Server) -> None:
    program = gradient_program(server, "x ** 5", {"x": 2.0})
    assert server.evaluate(program=program, inputs={"x": 2}, backward=True)["grads"] == {"x": 160}
    assert server.evaluate(program=program, inputs={"x": 2}, backward={"order": 3})["higher"] == {"x": [160, 240, 240]}


def test_a_gradient_program_of_a_gradient_program(server: Server) -> None:
    first = gradient_program(server, "x ** 5", {"x": 2.0})
    answer = server.evaluate(program=first, inputs={"x": 2}, backward={"create_graph": True})
    assert server.evaluate(program=answer["grad_program"], inputs={"x": 1})["values"] == {"grad_x": 20}


def test_a_gradient_program_of_an_order(server: Server) -> None:
    program = gradient_program(server, "sin(x)", {"x": 1.0}, order=3)
    assert_close(server.evaluate(program=program, inputs={"x": 0.5})["values"], {"grad_x": -math.cos(0.5)})


def test_a_gradient_program_has_the_inputs_of_the_program(server: Server) -> None:
    program = gradient_program(server, "x ** 2 + sin(y)", {"x": 2.0, "y": 1.0}, wrt=["x"])
    assert server.evaluate(program=program, inputs={"x": 5, "y": 0})["values"] == {"grad_x": 10}
    assert set(server.client.get(f"/v1/programs/{program}").json()["inputs"]) == {"x", "y"}


def test_a_gradient_program_has_an_output_for_every_name(server: Server) -> None:
    program = gradient_program(server, "h = x * y; sum(h ** 2)", {"x": X, "y": 3.0}, wrt=["x", "h", "y"])
    values = evaluate(server, program=program, inputs={"x": X, "y": 2.0})["values"]
    assert_close(values, {"grad_x": 8 * X, "grad_h": 4 * X, "grad_y": 4 * np.sum(X**2)})


TAKEN = [
    ("grad_x * x ** 2", {"x": 3.0, "grad_x": 2.0}, ["x"], {"grad_x_": 12}),
    ("grad_x * grad_x_ * x ** 2", {"x": 3.0, "grad_x": 2.0, "grad_x_": 1.0}, ["x"], {"grad_x__": 12}),
    ("grad_x * x ** 2", {"x": 3.0, "grad_x": 2.0}, ["grad_x"], {"grad_grad_x": 9}),
]


@pytest.mark.parametrize(("expr", "inputs", "wrt", "expected"), TAKEN)
def test_underscores_follow_a_name_that_is_taken(
    server: Server, expr: str, inputs: dict[str, float], wrt: list[str], expected: dict[str, float]
) -> None:
    program = gradient_program(server, expr, inputs, wrt=wrt)
    assert server.evaluate(program=program, inputs=inputs)["values"] == expected


def test_the_cotangent_is_an_input_of_the_gradient_program(server: Server) -> None:
    program = gradient_program(server, "x ** 3", {"x": X}, cotangent=ONES)
    values = evaluate(server, program=program, inputs={"x": X, "cotangent": -X})["values"]
    assert_close(values, {"grad_x": -3 * X**3})
    assert set(server.client.get(f"/v1/programs/{program}").json()["inputs"]) == {"x", "cotangent"}


def test_the_same_gradient_program_has_the_same_id(server: Server) -> None:
    first, again, other = (gradient_program(server, "x ** 3", {"x": 2.0}, order=order) for order in (1, 1, 2))
    assert first == again != other


# nograd, retain_grad


def test_nograd_gives_values_alone(server: Server) -> None:
    answer = server.evaluate(expr="x ** 3", inputs={"x": 2}, nograd=True)
    assert answer["values"] == {"out": 8}
    assert not answer.get("grads") and not answer.get("higher")


def test_retain_grad_stands_beside_order_1(server: Server) -> None:
    backward = {"order": 1, "retain_grad": True}
    answer = server.evaluate(expr="h = x * 3; y = h ** 2", inputs={"x": 2}, backward=backward)
    assert answer["grads"] == {"x": 36}
    assert {"h": 12, "y": 1}.items() <= answer["node_grads"].items()


# Batches


def test_gradients_of_shared_inputs_are_the_rows_own(server: Server) -> None:
    x, w = np.arange(6.0).reshape(3, 2), np.array([2.0, -1.0])
    answer = evaluate(server, expr="sum(x ** 2 * w)", inputs={"x": x, "w": w}, batched=["x"], backward=True)
    assert_close(answer["values"], {"out": x**2 @ w})
    assert_close(answer["grads"], {"x": 2 * x * w, "w": x**2})


@pytest.mark.parametrize("rows", [0, 1, 2, 1000])
def test_batches_against_numpy(server: Server, rows: int) -> None:
    random = np.random.default_rng(rows)
    x, w, c = random.normal(size=(rows, 3)), random.normal(size=3), random.normal(size=(rows, 3))
    answer = evaluate(server, expr="tanh(x * w)", inputs={"x": x, "w": w}, batched=["x"], backward={"cotangent": c})
    y = np.tanh(x * w)
    slope = c * (1 - y**2)
    assert_close(answer["values"], {"out": y})
    assert_close(answer["grads"], {"x": slope * w, "w": slope * x})


# The id of a program


def program_id(server: Server, **request: Any) -> str:
    found: str = server.evaluate(**request)["program"]
    assert PROGRAM_ID.fullmatch(found)
    return found


COMPOSED = "a = square(x); b = exp(a); y = square(b)"
NODES = [node("a", "square", "x"), node("b", "exp", "a"), node("y", "square", "b")]
SAME: dict[str, dict[str, Any]] = {
    "again": {"expr": COMPOSED, "inputs": {"x": 0.5}},
    "other data": {"expr": COMPOSED, "inputs": {"x": [1.0, 2.0]}},
    "with gradients": {"expr": COMPOSED, "inputs": {"x": 0.5}, "backward": {"order": 2}},
    "without a tape": {"expr": COMPOSED, "inputs": {"x": 0.5}, "nograd": True},
    "a batch": {"expr": COMPOSED, "inputs": {"x": [0.5]}, "batched": ["x"]},
    "other encoding": {"expr": COMPOSED, "inputs": {"x": 0.5}, "encoding": "flat"},
    "other spacing": {"expr": "a=square( x )  # first\nb=exp(a)\n\ny=square(b)\n", "inputs": {"x": 0.5}},
    "as a graph": graph(*NODES, outputs=["y"], given={"x": 0.5}),
    "as a graph, backwards": graph(*reversed(NODES), outputs=["y"], given={"x": 0.5}),
}
OTHERS = {
    "as it is": COMPOSED,
    "name of an output": "a = square(x); b = exp(a); z = square(b)",
    "name of a node": "c = square(x); b = exp(c); y = square(b)",
    "no names": "square(exp(square(x)))",
    "name of an input": "a = square(t); b = exp(a); y = square(b)",
    "operation": "a = square(x); b = sin(a); y = square(b)",
    "two outputs": f"{COMPOSED}; b, y",
    "outputs in other order": f"{COMPOSED}; y, b",
    "times one": f"{COMPOSED}; y * 1",
    "times a constant": f"{COMPOSED}; y * 2",
    "times another": f"{COMPOSED}; y * 3",
    "a constant's dtype": f'{COMPOSED}; y * array(2, dtype="float32")',
    "order of operands": f"{COMPOSED}; 2 * y",
    "attribute": f"{COMPOSED}; sum(y)",
    "another attribute": f"{COMPOSED}; sum(y, keepdims=True)",
}


@pytest.mark.parametrize("request_again", SAME.values(), ids=SAME)
def test_the_same_program_has_the_same_id(server: Server, request_again: dict[str, Any]) -> None:
    assert program_id(server, **request_again) == program_id(server, expr=COMPOSED, inputs={"x": 0.5})


def test_different_programs_have_different_ids(server: Server) -> None:
    inputs = {key: {"t" if key == "name of an input" else "x": 0.5} for key in OTHERS}
    ids = {key: program_id(server, expr=expr, inputs=inputs[key]) for key, expr in OTHERS.items()}
    assert len(set(ids.values())) == len(OTHERS), ids


def test_declarations_count_in_the_id(server: Server) -> None:
    shapes: list[list[int]] = [[2], [-1]]
    declared = [{}, *({"inputs": {"x": {"shape": shape, "dtype": "float64"}}} for shape in shapes)]
    ids = {program_id(server, **graph(*NODES, outputs=["y"], given={"x": [1, 2]}, **fields)) for fields in declared}
    assert len(ids) == len(declared)
