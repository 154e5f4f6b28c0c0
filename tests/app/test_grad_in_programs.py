"""`grad(y, x)` as an operation in programs, against closed forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import norm

from tests.app.calls import assert_close, evaluate
from tests.app.test_contract import Array
from tests.app.test_malformed import flat, graph, node

if TYPE_CHECKING:
    from tests.app.conftest import Server

Arrays = dict[str, Array]

V = [1.0, -2.0, 3.0]
v = np.array(V)
A = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
a = np.array(A)

INFIX: list[tuple[str, dict[str, Any], Any]] = [
    ("grad(x ** 3, x)", {"x": 2.0}, 12.0),
    ("y = x ** 3; grad(y, x)", {"x": 2.0}, 12.0),
    ("grad(grad(x ** 3, x), x)", {"x": 2.0}, 12.0),
    ("grad(grad(grad(x ** 3, x), x), x)", {"x": 2.0}, 6.0),
    ("y = x ** 4; y = grad(y, x); y = grad(y, x); y", {"x": 2.0}, 48.0),
    ("grad(sum(sin(x)), x)", {"x": V}, np.cos(v)),
    ("grad(sum(grad(sum(sin(x)), x)), x)", {"x": V}, -np.sin(v)),
    ("2 * grad(x ** 2, x) + grad(x, x) * x", {"x": 3.0}, 15.0),
    ("x - grad(x ** 4, x) / grad(grad(x ** 4, x), x)", {"x": 3.0}, 2.0),
    ("h = x * 3; grad(h ** 2, h)", {"x": 2.0}, 12.0),
    ("h = x * 3; grad(sum(h ** 2), h)", {"x": V}, 6 * v),
    ("h = x * 3; g = grad(h ** 3, h); grad(g, h)", {"x": 2.0}, 36.0),
    ("h = x * 3; g = grad(h ** 3, h); grad(g, x)", {"x": 2.0}, 108.0),
    ("h = x ** 2; grad(grad(h ** 2, h), x)", {"x": 3.0}, 12.0),
    ("f = x**2 * y**3; grad(grad(f, x), y)", {"x": 2.0, "y": 3.0}, 108.0),
    ("f = x**2 * y**3; grad(grad(f, y), x)", {"x": 2.0, "y": 3.0}, 108.0),
    ("grad(sum(w * x ** 2), x)", {"w": [1.0, 2.0, 3.0], "x": V}, np.array([2.0, -8.0, 18.0])),
    ("grad(sum(x @ w), w)", {"x": A, "w": V}, a.sum(0)),
    ("grad(sum((x @ w) ** 2), x)", {"x": A, "w": V}, np.outer(2 * (a @ v), v)),
    ("grad(x ** 2, z)", {"x": 2.0, "z": V}, np.zeros(3)),
    ("grad(x * stop_gradient(x), x)", {"x": 3.0}, 3.0),
    ("g = stop_gradient(grad(x ** 3, x)); grad(g * x, x)", {"x": 2.0}, 12.0),
    ("grad(sum(x * k), x)", {"x": V, "k": flat([], "int64", [2])}, np.full(3, 2.0)),
    ("grad(sum(x ** 2), x)[1]", {"x": V}, -4.0),
    ("grad * grad(grad ** 2, grad)", {"grad": 3.0}, 18.0),
    ("grad = max ** 3; grad(grad, max)", {"max": 2.0}, 12.0),
]


@pytest.mark.parametrize(("expr", "inputs", "expected"), INFIX, ids=[row[0] for row in INFIX])
def test_infix(server: Server, expr: str, inputs: dict[str, Any], expected: Any) -> None:
    (value,) = evaluate(server, expr=expr, inputs=inputs)["values"].values()
    assert_close(value, expected)


CUBE = node("y", "mul", {"op": "square", "args": ["x"]}, "x")
GRAPHS: dict[str, tuple[dict[str, Any], Any]] = {
    "a node": (graph(CUBE, node("g", "grad", "y", "x"), outputs=["g"], given={"x": 2.0}), 12.0),
    "nodes in any order": (graph(node("g", "grad", "y", "x"), CUBE, outputs=["g"], given={"x": 2.0}), 12.0),
    "inline": (graph(node("g", "grad", {"op": "sum", "args": ["x"]}, "x"), given={"x": V}), np.ones(3)),
    "of a gradient": (
        graph(CUBE, node("g", "grad", "y", "x"), node("h", "grad", "g", "x"), outputs=["h"], given={"x": 2.0}),
        12.0,
    ),
    "of a gradient, inline": (
        graph(CUBE, node("h", "grad", {"op": "grad", "args": ["y", "x"]}, "x"), outputs=["h"], given={"x": 2.0}),
        12.0,
    ),
    "by a node": (
        graph(node("h", "mul", "x", 3), node("y", "square", "h"), node("g", "grad", "y", "h"), given={"x": 2.0}),
        12.0,
    ),
    "in a sum": (
        graph(CUBE, node("s", "add", {"op": "grad", "args": ["y", "x"]}, "y"), given={"x": 2.0}),
        20.0,
    ),
    "a node named grad": (graph(node("grad", "square", "x"), node("g", "grad", "grad", "x"), given={"x": 3.0}), 6.0),
}


@pytest.mark.parametrize(("asked", "expected"), GRAPHS.values(), ids=GRAPHS)
def test_graph(server: Server, asked: dict[str, Any], expected: Any) -> None:
    (value,) = evaluate(server, **asked)["values"].values()
    assert_close(value, expected)


# A loss made of derivatives


def sine_loss(k: float, x: Array, order: int) -> tuple[Any, Any]:
    """mean((u^(order) - u)^2) for u = sin(k x), and its derivative by k."""
    kx = k * x
    wave = (np.sin(kx), np.cos(kx), -np.sin(kx), -np.cos(kx), np.sin(kx))
    residual = k**order * wave[order] - wave[0]
    slope = order * k ** (order - 1) * wave[order] + k**order * x * wave[order + 1] - x * wave[1]
    return np.mean(residual**2), np.mean(2 * residual * slope)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_loss_over_derivatives_of_a_sine(server: Server, order: int) -> None:
    steps = "".join(f"d{n} = grad(sum(d{n - 1}), x); " for n in range(1, order + 1))
    expr = f"d0 = sin(k*x); {steps}loss = mean((d{order} - d0)**2)"
    x = np.linspace(-1, 2, 7)
    answer = evaluate(server, expr=expr, inputs={"k": 1.3, "x": x}, backward={"wrt": ["k"]})
    loss, slope = sine_loss(1.3, x, order)
    assert_close(answer["values"], {"loss": loss})
    assert_close(answer["grads"], {"k": slope})


def test_the_loss_of_the_contract(server: Server) -> None:
    expr = "u = sin(k*x); du = grad(sum(u), x); mean((du - u)**2)"
    x = np.linspace(-1, 2, 7)
    answer = evaluate(server, expr=expr, inputs={"k": 1.3, "x": x}, backward={"wrt": ["k"]})
    loss, slope = sine_loss(1.3, x, 1)
    assert_close(answer["values"], {"out": loss})
    assert_close(answer["grads"], {"k": slope})


# Greeks

PRICE = """
d1 = (log(S / K) + (r + 0.5 * v**2) * T) / (v * sqrt(T))
d2 = d1 - v * sqrt(T)
price = S * 0.5 * (1 + erf(d1 / sqrt(2))) - K * exp(-r * T) * 0.5 * (1 + erf(d2 / sqrt(2)))
"""
GREEKS = """
delta = grad(sum(price), S)
gamma = grad(sum(delta), S)
vega = grad(sum(price), v)
vanna = grad(sum(delta), v)
rho = grad(sum(price), r)
"""


def market(rows: int) -> Arrays:
    random = np.random.default_rng(1)
    bounds = {"S": (80, 120), "K": (80, 120), "T": (0.2, 2.0), "r": (0.0, 0.05), "v": (0.1, 0.5)}
    return {name: random.uniform(low, high, rows) for name, (low, high) in bounds.items()}


def black_scholes(S: Array, K: Array, T: Array, r: Array, v: Array) -> Arrays:
    """Prices and Greeks of European calls. Source: Black and Scholes (1973); Haug, Option Pricing Formulas, ch. 2."""
    d1 = (np.log(S / K) + (r + v**2 / 2) * T) / (v * np.sqrt(T))
    d2 = d1 - v * np.sqrt(T)
    paid = K * np.exp(-r * T) * norm.cdf(d2)
    return {
        "price": S * norm.cdf(d1) - paid,
        "delta": norm.cdf(d1),
        "gamma": norm.pdf(d1) / (S * v * np.sqrt(T)),
        "vega": S * norm.pdf(d1) * np.sqrt(T),
        "vanna": -norm.pdf(d1) * d2 / v,
        "rho": T * paid,
    }


@pytest.mark.parametrize("rows", [1, 100, 10_000])
def test_greeks_of_options(server: Server, rows: int) -> None:
    given = market(rows)
    expected = black_scholes(**given)
    values = evaluate(server, expr=PRICE + GREEKS, inputs=given, outputs=list(expected))["values"]
    assert_close(values, expected, rtol=1e-10)


def test_greeks_of_a_batch_need_no_sum(server: Server) -> None:
    given = market(50)
    expr = PRICE + "delta = grad(price, S); gamma = grad(delta, S); price, delta, gamma"
    values = evaluate(server, expr=expr, inputs=given, batched=list(given))["values"]
    expected = black_scholes(**given)
    assert_close(values, {name: expected[name] for name in ("price", "delta", "gamma")}, rtol=1e-10)


# A physics-informed network: u'' = -pi^2 sin(pi x) on [0, 1], u(0) = u(1) = 0

POISSON = """
h1 = tanh(x @ w1 + b1)
h2 = tanh(h1 @ w2 + b2)
u = x * (1 - x) * (h2 @ w3 + b3)
du = grad(sum(u), x)
ddu = grad(sum(du), x)
loss = mean((ddu + pi**2 * sin(pi * x))**2)
"""
POINTS = np.linspace(0.05, 0.95, 8).reshape(8, 1)


def network() -> Arrays:
    random = np.random.default_rng(2)
    shapes = {"w1": (1, 16), "b1": (16,), "w2": (16, 16), "b2": (16,), "w3": (16, 1), "b3": (1,)}
    return {name: random.normal(scale=0.5, size=shape) for name, shape in shapes.items()}


def poisson_loss(w1: Array, b1: Array, w2: Array, b2: Array, w3: Array, b3: Array) -> Any:
    """The loss, its derivatives by x carried forward by hand; analytic, so that it takes complex parameters."""
    x, value, first, second = POINTS, POINTS, np.ones_like(POINTS), np.zeros_like(POINTS)
    for w, b in ((w1, b1), (w2, b2)):
        value, first, second = np.tanh(value @ w + b), first @ w, second @ w
        slope = 1 - value**2
        first, second = slope * first, slope * second - 2 * value * slope * first**2
    value, first, second = value @ w3 + b3, first @ w3, second @ w3
    residual = -2 * value + 2 * (1 - 2 * x) * first + x * (1 - x) * second + np.pi**2 * np.sin(np.pi * x)
    return np.mean(residual**2)


def complex_step(name: str, parameters: Arrays) -> Array:
    """The loss's gradient by one parameter, free of cancellation. Source: Squire and Trapp (1998)."""
    step, gradient = 1e-30, np.zeros(parameters[name].shape)
    for index in np.ndindex(gradient.shape):
        moved = parameters[name].astype(complex)
        moved[index] += step * 1j
        gradient[index] = poisson_loss(**{**parameters, name: moved}).imag / step
    return gradient


def test_poisson_network_against_derivatives_by_hand(server: Server) -> None:
    parameters = network()
    answer = evaluate(
        server, expr=POISSON, inputs={"x": POINTS, **parameters}, backward={"wrt": list(parameters), "of": "loss"}
    )
    assert_close(answer["values"], {"loss": poisson_loss(**parameters)}, rtol=1e-11)
    assert_close(answer["grads"], {name: complex_step(name, parameters) for name in parameters}, rtol=1e-10)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_poisson_network_against_finite_differences(server: Server, seed: int) -> None:
    parameters, random, eps = network(), np.random.default_rng(seed), 1e-5
    direction = {name: random.normal(size=array.shape) for name, array in parameters.items()}

    def answer(step: float, **fields: Any) -> Any:
        moved = {name: array + step * direction[name] for name, array in parameters.items()}
        return evaluate(server, expr=POISSON, inputs={"x": POINTS, **moved}, **fields)

    grads = answer(0.0, backward={"wrt": list(parameters)})["grads"]
    slope = sum(np.sum(grads[name] * direction[name]) for name in parameters)
    above, below = (float(answer(step)["values"]["loss"]) for step in (eps, -eps))
    np.testing.assert_allclose(slope, (above - below) / (2 * eps), rtol=1e-6)


# grad beside the other fields of a request


def test_backward_through_a_gradient_by_inputs_and_nodes(server: Server) -> None:
    answer = server.evaluate(
        expr="h = x * 3; y = h ** 3; g = grad(y, h)", inputs={"x": 2}, backward={"wrt": ["x", "h"]}
    )
    assert (answer["values"], answer["grads"]) == ({"g": 108}, {"x": 108, "h": 36})


def test_retain_grad_has_the_gradient_of_a_gradient(server: Server) -> None:
    answer = server.evaluate(
        expr="y = x ** 3; g = grad(y, x); z = g ** 2", inputs={"x": 2}, backward={"retain_grad": True}
    )
    assert answer["grads"] == {"x": 288}
    assert (answer["node_grads"]["g"], answer["node_grads"]["z"]) == (24, 1)


def test_order_of_a_gradient(server: Server) -> None:
    answer = server.evaluate(expr="grad(x ** 5, x)", inputs={"x": 2}, backward={"order": 3})
    assert answer["higher"] == {"x": [160, 240, 240]}


def test_nograd_leaves_the_program_s_own_gradients(server: Server) -> None:
    assert server.evaluate(expr="grad(x ** 3, x)", inputs={"x": 2}, nograd=True)["values"] == {"out": 12}


def test_a_gradient_is_one_node_as_written(server: Server) -> None:
    values = server.evaluate(expr="u = x ** 3; du = grad(sum(u), x); du * 2", inputs={"x": [1, 2]}, outputs="all")[
        "values"
    ]
    steps = {"u": [1, 8], "_1": 9, "du": [3, 12], "out": [6, 24]}
    assert {name: value for name, value in values.items() if name != "x"} == steps


def test_a_gradient_has_the_dtype_of_its_input(server: Server) -> None:
    given = flat([2], "float32", [0.5, 1.5])
    answer = server.evaluate(expr="grad(sum(x ** 2), x)", inputs={"x": given}, encoding="flat")
    assert answer["values"] == {"out": flat([2], "float32", [1, 3])}


def test_the_mask_of_a_gradient_is_that_of_the_forward(server: Server) -> None:
    x = np.linspace(1, 2, 50)
    expr = "d = dropout(x, 0.5); g = grad(sum(d * x), x); d, g"
    values = evaluate(server, expr=expr, inputs={"x": x}, train=True, seed=7)["values"]
    assert 0 < np.count_nonzero(values["d"]) < 50
    assert_close(values["g"], 2 * values["d"])


def test_infer_tells_the_shape_of_a_gradient(server: Server) -> None:
    shapes = {"x": {"shape": [7, 3], "dtype": "float64"}, "w": {"shape": [3, 5], "dtype": "float64"}}
    response = server.client.post("/v1/infer", json={"expr": "g = grad(sum(x @ w), w); g * 2", "inputs": shapes})
    assert response.status_code == 200, response.text
    assert response.text.replace(" ", "").count('"shape":[3,5]') >= 2


@pytest.mark.parametrize("rows", [0, 1, 40])
def test_gradients_in_a_batch_are_those_of_its_rows(server: Server, rows: int) -> None:
    random = np.random.default_rng(rows)
    x, w = random.normal(size=(rows, 3)), random.normal(size=3)
    expr = "y = sum(x * w) ** 2; g = grad(y, w); h = grad(y, x); z = sum(g * g); z, g, h"
    answer = evaluate(server, expr=expr, inputs={"x": x, "w": w}, batched=["x"], backward={"of": "z"})
    dot, xx = x @ w, (x**2).sum(1)
    assert_close(answer["values"], {"z": 4 * dot**2 * xx, "g": 2 * dot[:, None] * x, "h": 2 * dot[:, None] * w})
    by_x = 8 * (dot * xx)[:, None] * w + 8 * (dot**2)[:, None] * x
    assert_close(answer["grads"], {"x": by_x, "w": 8 * (dot * xx)[:, None] * x})
