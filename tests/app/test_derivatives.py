"""`/v1/vjp`, `jvp`, `jacobian`, `hessian`, `hvp` and `check`, against closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.app.calls import ask, assert_close, refused
from tests.app.test_contract import Array
from tests.app.test_malformed import flat

if TYPE_CHECKING:
    from tests.app.conftest import Server

RANDOM = np.random.default_rng(0)
DIRECTIONS = [0, 1, 2, 64]
ROWS = [0, 1, 1000]


@dataclass(frozen=True, slots=True)
class Map:
    """A program, its inputs, what its outputs are, and their Jacobians in closed form."""

    expr: str
    inputs: dict[str, Array]
    values: dict[str, Array]
    jacobian: dict[str, dict[str, Array]]

    @property
    def program(self) -> dict[str, Any]:
        return {"expr": self.expr, "inputs": self.inputs}

    def random_outputs(self, *lead: int) -> dict[str, Array]:
        """A random array for every output, with axes in front of its own."""
        return {name: RANDOM.normal(size=(*lead, *np.shape(y))) for name, y in self.values.items()}

    def random_inputs(self, *lead: int) -> dict[str, Array]:
        return {name: RANDOM.normal(size=(*lead, *x.shape)) for name, x in self.inputs.items()}

    def vjp(self, cotangents: dict[str, Array]) -> dict[str, Any]:
        """The cotangents of the inputs."""
        return {
            name: sum(np.tensordot(c, self.jacobian[out][name], c.ndim) for out, c in cotangents.items())
            for name in self.inputs
        }

    def jvp(self, tangents: dict[str, Array]) -> dict[str, Any]:
        """The tangents of the outputs."""
        return {
            out: sum(np.tensordot(row[name], t, t.ndim) for name, t in tangents.items())
            for out, row in self.jacobian.items()
        }


def one_by_one(product: Any, directions: dict[str, Array], count: int) -> list[dict[str, Any]]:
    """`product` of each of `count` directions."""
    return [product({name: array[i] for name, array in directions.items()}) for i in range(count)]


def stacked(singles: list[dict[str, Any]]) -> dict[str, Array]:
    return {name: np.stack([single[name] for single in singles]) for name in singles[0]}


def identity(*shape: int) -> Array:
    """The Jacobian of an array of this shape by itself."""
    size = int(np.prod(shape))
    return np.eye(size).reshape(*shape, *shape)


def maps() -> dict[str, Map]:
    x, w, w32 = RANDOM.normal(size=(2, 3)), RANDOM.normal(size=3), RANDOM.normal(size=(3, 2))
    v, y = RANDOM.normal(size=3), np.array(0.7)
    a, b = RANDOM.normal(size=(3, 3)) + 3 * np.eye(3), RANDOM.normal(size=3)
    inverse, exps = np.linalg.inv(a), np.exp(v) / np.exp(v).sum()
    solution, eye = inverse @ b, np.eye(3)
    return {
        "elementwise": Map(
            "y = sin(x) * w",
            {"x": x, "w": w},
            {"y": np.sin(x) * w},
            {"y": {"x": identity(2, 3) * np.cos(x) * w, "w": np.einsum("ij,jk->ijk", np.sin(x), eye)}},
        ),
        "a matrix product": Map(
            "y = x @ w",
            {"x": x, "w": w32},
            {"y": x @ w32},
            {
                "y": {
                    "x": np.einsum("ik,lj->ijkl", np.eye(2), w32),
                    "w": np.einsum("ik,jl->ijkl", x, np.eye(2)),
                }
            },
        ),
        "two outputs": Map(
            "p = x * y; q = sum(x ** 2) + y; p, q",
            {"x": v, "y": y},
            {"p": v * y, "q": np.sum(v**2) + y},
            {"p": {"x": y * eye, "y": v}, "q": {"x": 2 * v, "y": np.array(1.0)}},
        ),
        "wide": Map("prod(x)", {"x": v}, {"out": np.array(np.prod(v))}, {"out": {"x": np.prod(v) / v}}),
        "tall": Map(
            "outer(x * 2, w)",
            {"x": y.reshape(1), "w": w},
            {"out": 2 * np.outer(y, w)},
            {"out": {"x": 2 * w.reshape(1, 3, 1), "w": 2 * y * eye.reshape(1, 3, 3)}},
        ),
        "softmax": Map("softmax(x)", {"x": v}, {"out": exps}, {"out": {"x": np.diag(exps) - np.outer(exps, exps)}}),
        "running sums": Map("cumulative_sum(x)", {"x": v}, {"out": np.cumsum(v)}, {"out": {"x": np.tri(3)}}),
        "nothing in common": Map(
            "p = x * 2; q = y * 3; p, q",
            {"x": v, "y": y},
            {"p": v * 2, "q": y * 3},
            {"p": {"x": 2 * eye, "y": np.zeros(3)}, "q": {"x": np.zeros(3), "y": np.array(3.0)}},
        ),
        "a gradient": Map(
            "grad(sum(x ** 3 * y), x)",
            {"x": v, "y": y},
            {"out": 3 * v**2 * y},
            {"out": {"x": np.diag(6 * v * y), "y": 3 * v**2}},
        ),
        "a linear system": Map(
            "solve(a, b)",
            {"a": a, "b": b},
            {"out": solution},
            {"out": {"a": -np.einsum("ij,k->ijk", inverse, solution), "b": inverse}},
        ),
    }


MAPS = maps()
each_map = pytest.mark.parametrize("case", MAPS.values(), ids=MAPS)


# Jacobians and products with them


@pytest.mark.parametrize("mode", ["reverse", "forward", "auto", None])
@each_map
def test_jacobian(server: Server, case: Map, mode: str | None) -> None:
    answer = ask(server, "/v1/jacobian", **case.program, **({"mode": mode} if mode else {}))
    assert_close(answer["values"], case.values)
    assert_close(answer["jacobian"], case.jacobian)


@each_map
def test_vjp(server: Server, case: Map) -> None:
    cotangents = case.random_outputs()
    answer = ask(server, "/v1/vjp", **case.program, cotangents=cotangents)
    assert_close(answer["values"], case.values)
    assert_close(answer["vjps"], case.vjp(cotangents))


@each_map
def test_jvp(server: Server, case: Map) -> None:
    tangents = case.random_inputs()
    answer = ask(server, "/v1/jvp", **case.program, tangents=tangents)
    assert_close(answer["values"], case.values)
    assert_close(answer["jvps"], case.jvp(tangents))


@pytest.mark.parametrize("count", DIRECTIONS)
@each_map
def test_many_directions_are_the_single_ones(server: Server, case: Map, count: int) -> None:
    cotangents, tangents = case.random_outputs(count), case.random_inputs(count)
    back = ask(server, "/v1/vjp", **case.program, cotangents=cotangents, many=True)
    along = ask(server, "/v1/jvp", **case.program, tangents=tangents, many=True)
    assert_close(back["values"], case.values)
    assert_close(along["values"], case.values)
    if count:
        assert_close(back["vjps"], stacked(one_by_one(case.vjp, cotangents, count)))
        assert_close(along["jvps"], stacked(one_by_one(case.jvp, tangents, count)))
    else:
        assert_close(back["vjps"], case.random_inputs(0))
        assert_close(along["jvps"], case.random_outputs(0))


@pytest.mark.parametrize("count", DIRECTIONS[1:])
def test_many_directions_are_a_loop_of_requests(server: Server, count: int) -> None:
    case = MAPS["two outputs"]
    cotangents, tangents = case.random_outputs(count), case.random_inputs(count)
    back = one_by_one(lambda c: ask(server, "/v1/vjp", **case.program, cotangents=c)["vjps"], cotangents, count)
    along = one_by_one(lambda t: ask(server, "/v1/jvp", **case.program, tangents=t)["jvps"], tangents, count)
    many_back = ask(server, "/v1/vjp", **case.program, cotangents=cotangents, many=True)
    many_along = ask(server, "/v1/jvp", **case.program, tangents=tangents, many=True)
    assert_close(many_back["vjps"], stacked(back))
    assert_close(many_along["jvps"], stacked(along))


@pytest.mark.parametrize("many", [False, True])
def test_what_is_left_out_counts_as_zero(server: Server, many: bool) -> None:
    case = MAPS["two outputs"]
    cotangents, tangents = case.random_outputs(*[2] * many), case.random_inputs(*[2] * many)
    for out in cotangents:
        rest = {name: c if name == out else 0 * c for name, c in cotangents.items()}
        alone = ask(server, "/v1/vjp", **case.program, cotangents={out: cotangents[out]}, many=many)
        assert_close(alone["vjps"], ask(server, "/v1/vjp", **case.program, cotangents=rest, many=many)["vjps"])
    for name in tangents:
        rest = {key: t if key == name else 0 * t for key, t in tangents.items()}
        alone = ask(server, "/v1/jvp", **case.program, tangents={name: tangents[name]}, many=many)
        assert_close(alone["jvps"], ask(server, "/v1/jvp", **case.program, tangents=rest, many=many)["jvps"])


def test_wrt_picks_inputs_and_nodes(server: Server) -> None:
    program: dict[str, Any] = {"expr": "h = x * 3; y = h ** 2 * z", "inputs": {"x": 2, "z": 5}, "wrt": ["h", "x"]}
    assert server.ask("/v1/vjp", **program, cotangents={"y": 10})["vjps"] == {"h": 600, "x": 1800}
    assert server.ask("/v1/jacobian", **program)["jacobian"] == {"y": {"h": 60, "x": 180}}


def test_wrt_is_all_floating_inputs(server: Server) -> None:
    program = {"expr": "x * k * m", "inputs": {"x": 2, "k": flat([], "int64", [3]), "m": True}}
    assert server.ask("/v1/vjp", **program, cotangents={"out": 1})["vjps"] == {"x": 3}
    assert server.ask("/v1/jacobian", **program)["jacobian"] == {"out": {"x": 3}}


def test_of_and_outputs_pick_outputs_and_nodes(server: Server) -> None:
    program: dict[str, Any] = {"expr": "h = x * 3; p = h ** 2; q = x * 5; p, q", "inputs": {"x": 2}}
    for name, slope in {"h": 3, "p": 36, "q": 5}.items():
        assert server.ask("/v1/jacobian", **program, of=name)["jacobian"] == {name: {"x": slope}}
    jvps = server.ask("/v1/jvp", **program, tangents={"x": 10}, outputs=["h", "q"])["jvps"]
    assert jvps == {"h": 30, "q": 50}


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("nested", [[2, 0], [0, 4]]),
        ("flat", flat([2, 2], "float64", [2, 0, 0, 4])),
        ("base64", {"shape": [2, 2], "dtype": "float64", "base64": "AAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEEA="}),
    ],
)
def test_encodings(server: Server, encoding: str, expected: Any) -> None:
    answer = server.ask("/v1/jacobian", expr="x ** 2", inputs={"x": [1, 2]}, encoding=encoding)
    assert answer["jacobian"] == {"out": {"x": expected}}


# Batches


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("count", [None, 0, 1, 3], ids=lambda count: f"many {count}")
def test_batched_products_with_the_jacobian(server: Server, rows: int, count: int | None) -> None:
    lead = () if count is None else (count,)
    x, w = RANDOM.normal(size=(rows, 3)), RANDOM.normal(size=3)
    program = {"expr": "y = sin(x) * w", "inputs": {"x": x, "w": w}, "batched": ["x"], "many": count is not None}
    c, t = RANDOM.normal(size=(*lead, rows, 3)), RANDOM.normal(size=(*lead, rows, 3))
    back = ask(server, "/v1/vjp", **program, cotangents={"y": c})
    along = ask(server, "/v1/jvp", **program, tangents={"x": t})
    assert_close(back["values"], {"y": np.sin(x) * w})
    assert_close(along["values"], {"y": np.sin(x) * w})
    assert_close(back["vjps"], {"x": c * np.cos(x) * w, "w": c * np.sin(x)})
    assert_close(along["jvps"], {"y": t * np.cos(x) * w})


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("mode", ["reverse", "forward", "auto"])
def test_batched_jacobian(server: Server, rows: int, mode: str) -> None:
    x, w = RANDOM.normal(size=(rows, 3)), RANDOM.normal(size=(3, 2))
    program = {"expr": "y = sin(x) @ w", "inputs": {"x": x, "w": w}, "batched": ["x"]}
    answer = ask(server, "/v1/jacobian", **program, mode=mode)
    by_x = np.einsum("ri,ij->rji", np.cos(x), w)
    by_w = np.einsum("ri,jk->rjik", np.sin(x), np.eye(2))
    assert_close(answer["values"], {"y": np.sin(x) @ w})
    assert_close(answer["jacobian"], {"y": {"x": by_x, "w": by_w}})


@pytest.mark.parametrize("rows", ROWS)
def test_batched_hessian(server: Server, rows: int) -> None:
    x, w = RANDOM.normal(size=(rows, 3)), RANDOM.normal(size=3)
    answer = ask(server, "/v1/hessian", expr="sum(x ** 3 * w)", inputs={"x": x, "w": w}, batched=["x"])
    mixed = np.einsum("ri,ij->rij", 3 * x**2, np.eye(3))
    by_x = np.einsum("ri,ij->rij", 6 * x * w, np.eye(3))
    assert_close(answer["values"], {"out": x**3 @ w})
    assert_close(answer["grads"], {"x": 3 * x**2 * w, "w": x**3})
    assert_close(answer["hessian"], {"x": {"x": by_x, "w": mixed}, "w": {"x": mixed, "w": np.zeros((rows, 3, 3))}})


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("count", [None, 0, 1, 3], ids=lambda count: f"many {count}")
def test_batched_hvp(server: Server, rows: int, count: int | None) -> None:
    lead = () if count is None else (count,)
    x, w = RANDOM.normal(size=(rows, 3)), RANDOM.normal(size=3)
    v = RANDOM.normal(size=(*lead, rows, 3))
    program = {"expr": "sum(x ** 3 * w)", "inputs": {"x": x, "w": w}, "batched": ["x"], "many": count is not None}
    answer = ask(server, "/v1/hvp", **program, vectors={"x": v})
    assert_close(answer["values"], {"out": x**3 @ w})
    assert_close(answer["hvp"], {"x": 6 * x * w * v, "w": 3 * x**2 * v})


# Hessians

ROSENBROCK = "sum(100 * (x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)"


def rosenbrock_gradient(x: Array) -> Array:
    gap, gradient = x[1:] - x[:-1] ** 2, np.zeros_like(x)
    gradient[:-1] = -400 * x[:-1] * gap - 2 * (1 - x[:-1])
    gradient[1:] += 200 * gap
    return gradient


def rosenbrock_hvp(x: Array, v: Array) -> Array:
    """The tridiagonal Hessian times `v`, in linear time."""
    product = np.zeros_like(x)
    product[:-1] = (1200 * x[:-1] ** 2 - 400 * x[1:] + 2) * v[:-1] - 400 * x[:-1] * v[1:]
    product[1:] += 200 * v[1:] - 400 * x[:-1] * v[:-1]
    return product


@pytest.mark.parametrize("size", [2, 6, 100])
def test_rosenbrock_hessian(server: Server, size: int) -> None:
    x = RANDOM.normal(size=size)
    answer = ask(server, "/v1/hessian", expr=ROSENBROCK, inputs={"x": x})
    columns = [rosenbrock_hvp(x, column) for column in np.eye(size)]
    assert_close(answer["values"], {"out": np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)}, rtol=1e-10)
    assert_close(answer["grads"], {"x": rosenbrock_gradient(x)}, rtol=1e-10)
    assert_close(answer["hessian"], {"x": {"x": np.stack(columns, axis=1)}}, rtol=1e-10)


X, Y = np.array([1.0, -2.0, 0.5]), np.array([[3.0, 1.0], [0.5, -1.0]])
BLOCKS: dict[str, Any] = {
    "expr": "f = sum(x) * sum(y ** 3) + sum(x ** 2) * z",
    "inputs": {"x": X, "y": Y, "z": np.array(4.0)},
}
XY = np.broadcast_to(3 * Y**2, (3, 2, 2))
HESSIAN = {
    "x": {"x": 8 * np.eye(3), "y": XY, "z": 2 * X},
    "y": {"x": np.moveaxis(XY, 0, 2), "y": -3 * identity(2, 2) * Y, "z": np.zeros((2, 2))},
    "z": {"x": 2 * X, "y": np.zeros((2, 2)), "z": np.array(0.0)},
}
GRADS = {"x": np.sum(Y**3) + 8 * X, "y": -1.5 * Y**2, "z": np.sum(X**2)}


def test_hessian_in_blocks(server: Server) -> None:
    answer = ask(server, "/v1/hessian", **BLOCKS)
    assert_close(answer["grads"], GRADS)
    assert_close(answer["hessian"], HESSIAN)


def test_hessian_in_blocks_of_wrt(server: Server) -> None:
    answer = ask(server, "/v1/hessian", **BLOCKS, wrt=["z", "x"], of="f")
    assert_close(answer["grads"], {name: GRADS[name] for name in "zx"})
    assert_close(answer["hessian"], {row: {column: HESSIAN[row][column] for column in "zx"} for row in "zx"})


def test_hessian_by_a_node(server: Server) -> None:
    answer = server.ask("/v1/hessian", expr="h = x * 3; h ** 3", inputs={"x": 2}, wrt=["h"])
    assert (answer["grads"], answer["hessian"]) == ({"h": 108}, {"h": {"h": 36}})


def test_one_element_is_enough_for_a_hessian(server: Server) -> None:
    program = {"expr": "sum(x ** 3, keepdims=True)", "inputs": {"x": [1, 2]}}
    hessian = ask(server, "/v1/hessian", **program)["hessian"]["x"]["x"]
    assert_close(hessian.reshape(2, 2), np.diag([6.0, 12.0]))
    hvp = ask(server, "/v1/hvp", **program, vectors={"x": [1, 1]})["hvp"]
    assert_close(hvp, {"x": np.array([6.0, 12.0])})


def test_softmax_cross_entropy_hessian(server: Server) -> None:
    logits, labels = RANDOM.normal(size=(2, 3)), [2, 0]
    inputs = {"x": logits, "t": flat([2], "int64", labels)}
    answer = ask(server, "/v1/hessian", expr="cross_entropy(x, t)", inputs=inputs)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    curvature = np.einsum("ij,jk->ijk", p, np.eye(3)) - np.einsum("ij,ik->ijk", p, p)
    assert_close(answer["grads"], {"x": (p - np.eye(3)[labels]) / 2}, rtol=1e-10)
    assert_close(answer["hessian"], {"x": {"x": np.einsum("ijk,il->ijlk", curvature, np.eye(2)) / 2}}, rtol=1e-10)


@pytest.mark.parametrize("expr", ["log(det(a))", "s, l = slogdet(a); l"])
def test_log_det_hessian(server: Server, expr: str) -> None:
    a = RANDOM.normal(size=(3, 3))
    a = a @ a.T + np.eye(3)
    answer = ask(server, "/v1/hessian", expr=expr, inputs={"a": a})
    inverse = np.linalg.inv(a)
    assert_close(answer["grads"], {"a": inverse.T}, rtol=1e-10)
    assert_close(answer["hessian"], {"a": {"a": -np.einsum("jk,li->ijkl", inverse, inverse)}}, rtol=1e-10)


# Products with Hessians


def times(hessian: dict[str, dict[str, Array]], vectors: dict[str, Array]) -> dict[str, Any]:
    return {
        row: sum(np.tensordot(blocks[name], v, v.ndim) for name, v in vectors.items())
        for row, blocks in hessian.items()
    }


def random_vectors(*lead: int) -> dict[str, Array]:
    return {name: RANDOM.normal(size=(*lead, *x.shape)) for name, x in BLOCKS["inputs"].items()}


def test_hvp_is_the_hessian_times_the_vector(server: Server) -> None:
    vectors = random_vectors()
    answer = ask(server, "/v1/hvp", **BLOCKS, vectors=vectors)
    assert_close(answer["values"], ask(server, "/v1/evaluate", **BLOCKS)["values"])
    assert_close(answer["grads"], GRADS)
    assert_close(answer["hvp"], times(HESSIAN, vectors))
    assert_close(answer["hvp"], times(ask(server, "/v1/hessian", **BLOCKS)["hessian"], vectors))


@pytest.mark.parametrize("name", ["x", "y", "z"])
def test_hvp_takes_a_vector_left_out_as_zero(server: Server, name: str) -> None:
    vectors = {name: random_vectors()[name]}
    assert_close(ask(server, "/v1/hvp", **BLOCKS, vectors=vectors)["hvp"], times(HESSIAN, vectors))


@pytest.mark.parametrize("count", DIRECTIONS)
def test_hvp_of_many_vectors(server: Server, count: int) -> None:
    vectors = random_vectors(count)
    answer = ask(server, "/v1/hvp", **BLOCKS, vectors=vectors, many=True)
    assert_close(answer["values"], ask(server, "/v1/evaluate", **BLOCKS)["values"])
    if count:
        singles = one_by_one(lambda v: times(HESSIAN, v), vectors, count)
        assert_close(answer["hvp"], stacked(singles))
    else:
        assert_close(answer["hvp"], vectors)


def test_hvp_in_a_hundred_thousand_dimensions(server: Server) -> None:
    x, v = RANDOM.normal(size=(2, 100_000))
    answer = ask(server, "/v1/hvp", expr=ROSENBROCK, inputs={"x": x}, vectors={"x": v})
    assert_close(answer["grads"], {"x": rosenbrock_gradient(x)}, rtol=1e-10)
    assert_close(answer["hvp"], {"x": rosenbrock_hvp(x, v)}, rtol=1e-10)


HUGE = {"inputs": {"x": np.zeros(100_000)}}
TOO_LARGE = [
    ("jacobian", {"expr": "x * 2", **HUGE}, {"vjp", "jvp", "hvp"}),
    ("jacobian", {"expr": "x * 2", "mode": "reverse", **HUGE}, {"vjp", "jvp", "hvp"}),
    ("jacobian", {"expr": "x * 2", "mode": "forward", **HUGE}, {"vjp", "jvp", "hvp"}),
    ("hessian", {"expr": "sum(x ** 2)", **HUGE}, {"hvp"}),
]


@pytest.mark.parametrize(
    ("call", "asked", "suggested"), TOO_LARGE, ids=[f"{row[0]} {row[1].get('mode', '')}" for row in TOO_LARGE]
)
def test_too_large_a_matrix_is_refused(server: Server, call: str, asked: dict[str, Any], suggested: set[str]) -> None:
    text = refused(server, "limit-exceeded", "", f"/v1/{call}", **asked)
    assert "PULLBACK_" in text
    assert any(name in text for name in suggested), text


# Checks


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("expr", ["sum(sin(x) * y)", "sum(x ** 3) * y ** 2", "log(sum(exp(x * y)))"])
def test_check_agrees(server: Server, expr: str, order: int) -> None:
    answer = server.ask("/v1/check", expr=expr, inputs={"x": [0.5, -1, 2], "y": 1.5}, order=order)
    assert answer["ok"] is True
    assert 0 <= answer["max_error"] < 1e-3
    assert {"input", "index", "analytic", "numeric"} <= answer["worst"].keys()
    assert answer["worst"]["input"] in {"x", "y"}


def test_check_finds_the_element_that_is_wrong(server: Server) -> None:
    inputs = {"x": [1, 2, 3], "m": [1, 1, 0]}
    expr = "sum(x * (m * x + (1 - m) * stop_gradient(x)))"
    answer = server.ask("/v1/check", expr=expr, inputs=inputs, wrt=["x"], eps=1e-5)
    assert answer["ok"] is False
    worst = answer["worst"]
    assert (worst["input"], worst["index"], worst["analytic"]) == ("x", [2], 3)
    np.testing.assert_allclose(worst["numeric"], 6, rtol=1e-6)
    assert 0.4 < answer["max_error"] < 1.1


def test_check_says_where_its_differences_cancel(server: Server) -> None:
    answer = server.ask("/v1/check", expr="tanh(x)", inputs={"x": [0.5, 20, -30]})
    assert answer["ok"] is False
    assert answer["max_error"] < 1e-9
    assert [place["index"] for place in answer["uncertain"]] == [[1], [2]]
    first = answer["uncertain"][0]
    assert (first["order"], first["input"], first["numeric"]) == (1, "x", 0)
    np.testing.assert_allclose(first["analytic"], 1.6993417021166355e-17, rtol=1e-14)
    assert 1e-12 < first["rounding"] < 1e-9
    assert server.ask("/v1/check", expr="tanh(x)", inputs={"x": [0.5, 2, -3]})["uncertain"] == []


def test_check_looks_at_wrt_alone(server: Server) -> None:
    program = {"expr": "x * stop_gradient(x) + y ** 2", "inputs": {"x": 3, "y": 2}}
    assert server.ask("/v1/check", **program)["ok"] is False
    answer = server.ask("/v1/check", **program, wrt=["y"])
    assert (answer["ok"], answer["worst"]["input"]) == (True, "y")


def test_check_of_second_order_looks_further(server: Server) -> None:
    program = {"expr": "k = stop_gradient(x); k ** 3 + 3 * k ** 2 * (x - k)", "inputs": {"x": 2}}
    assert server.ask("/v1/check", **program)["ok"] is True
    assert server.ask("/v1/check", **program, order=2)["ok"] is False
