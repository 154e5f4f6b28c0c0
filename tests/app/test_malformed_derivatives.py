"""Derivatives and programs that can't be: the right problem in the right words, and a server that is still well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from tests.app.calls import problem_text, refused
from tests.app.test_malformed import flat, graph, infix, nested, node

if TYPE_CHECKING:
    from tests.app.conftest import Server


class Case(NamedTuple):
    """A request that must be refused: slugs (separated by | where the contract leaves a choice), words, where, what."""

    title: str
    slugs: str
    words: str
    path: str
    request: dict[str, Any]


def evaluate(title: str, slugs: str, words: str, request: dict[str, Any]) -> Case:
    return Case(f"evaluate: {title}", slugs, words, "/v1/evaluate", request)


def back(title: str, slugs: str, words: str, request: dict[str, Any], **backward: Any) -> Case:
    """A case of `/v1/evaluate` whose mistake stands in `backward`."""
    return evaluate(title, slugs, words, {**request, "backward": backward})


def derive(call: str, title: str, slugs: str, words: str, request: dict[str, Any], **fields: Any) -> Case:
    """A case of one of the endpoints of derivatives."""
    return Case(f"{call}: {title}", slugs, words, f"/v1/{call}", {**request, **fields})


def programs(title: str, slugs: str, words: str, **request: Any) -> Case:
    """A case of registering a program."""
    return Case(f"programs: {title}", slugs, words, "/v1/programs", request)


X = {"x": 2.0}
VECTOR = {"x": [1.0, 2.0]}
K = {"k": flat([], "int64", [2])}
XY = {"x": 1.0, "y": 2.0}

CUBE = infix("x ** 3", X)
CUBES = infix("y = x ** 3", VECTOR)
TOTAL = infix("sum(x ** 3)", VECTOR)
PRODUCT = infix("x * y", XY)
PAIR = infix("p = x * 2; q = y * 3; p, q", XY)
VECTORS = infix("sum(x * y)", {"x": [1.0, 2.0], "y": [3.0, 4.0]})

IN_TEXT = [
    evaluate("grad of a vector", "not-scalar", "grad 2", infix("grad(x ** 2, x)", VECTOR)),
    evaluate("grad of a named vector", "not-scalar", "grad u 2", infix("u = x ** 2; grad(u, x)", VECTOR)),
    evaluate("grad of a matrix", "not-scalar", "grad 3", infix("grad(x, x)", {"x": [[1, 2, 3]]})),
    evaluate("grad of a gradient that is a vector", "not-scalar", "grad", infix("grad(grad(sum(x), x), x)", VECTOR)),
    evaluate("grad by a name that isn't there", "unknown-name", "price", infix("grad(x ** 2, price)", X)),
    evaluate("grad of a name that isn't there", "unknown-name", "price", infix("grad(price, x)", X)),
    evaluate(
        "grad by a step that comes later",
        "syntax-error",
        "line column h",
        infix("g = grad(x ** 2, h); h = x * 2; g", X),
    ),
    evaluate("grad by an integer", "not-differentiable", "k int64", infix("grad(x * k, k)", {**X, **K})),
    evaluate("grad by a bool", "not-differentiable", "b bool", infix("grad(x * b, b)", {**X, "b": True})),
    evaluate("grad by a mask", "not-differentiable", "m bool", infix("m = x > 0; grad(x * m, m)", X)),
    evaluate("grad of an index", "not-differentiable", "int64", infix("grad(argmax(x), x)", VECTOR)),
    evaluate("grad of a comparison", "not-differentiable", "bool", infix("grad(x > 1, x)", X)),
    evaluate("grad with one operand", "wrong-arity", "grad", infix("grad(x ** 2)", X)),
    evaluate("grad with no operand", "wrong-arity", "grad", infix("grad() + x", X)),
    evaluate("grad with three operands", "wrong-arity", "grad", infix("grad(x ** 2, x, x)", X)),
    evaluate("grad with an attribute", "bad-attribute", "grad order", infix("grad(x ** 2, x, order=2)", X)),
    evaluate("grad misspelt", "unknown-op", "grda grad", infix("grda(x ** 2, x)", X)),
    evaluate("grad that is not called", "unknown-name", "grad", infix("grad * x", X)),
    evaluate("grads that do not fit", "shape-mismatch", "3 2", infix("grad(sum(x), x) + [1, 2, 3]", VECTOR)),
    Case("infer: grad of a vector", "not-scalar", "grad 2", "/v1/infer", infix("grad(x ** 2, x)", VECTOR)),
]

SQUARE = node("y", "square", "x")
IN_GRAPHS = [
    evaluate(
        "grad of a vector in a graph", "not-scalar", "grad g", graph(SQUARE, node("g", "grad", "y", "x"), given=VECTOR)
    ),
    evaluate("grad by nothing in a graph", "unknown-name", "z", graph(SQUARE, node("g", "grad", "y", "z"), given=X)),
    evaluate("grad of one in a graph", "wrong-arity", "grad g", graph(SQUARE, node("g", "grad", "y"), given=X)),
    evaluate(
        "grad by an integer in a graph",
        "not-differentiable",
        "k int64",
        graph(node("y", "mul", "x", "k"), node("g", "grad", "y", "k"), given={**X, **K}),
    ),
    evaluate(
        "grad with attributes in a graph",
        "bad-attribute",
        "grad g order",
        graph(SQUARE, node("g", "grad", "y", "x", attrs={"order": 2}), given=X),
    ),
    evaluate(
        "a cycle through what is differentiated",
        "cycle",
        "g y",
        graph(node("y", "mul", "g", "x"), node("g", "grad", "y", "x"), outputs=["g"], given=X),
    ),
    evaluate(
        "a cycle through the variable",
        "cycle",
        "g h",
        graph(SQUARE, node("h", "mul", "g", 2), node("g", "grad", "y", "h"), outputs=["g"], given=X),
    ),
    evaluate("a gradient by itself", "cycle", "g", graph(SQUARE, node("g", "grad", "y", "g"), outputs=["g"], given=X)),
    evaluate("a gradient of itself", "cycle", "g", graph(node("g", "grad", "g", "x"), outputs=["g"], given=X)),
    evaluate(
        "a cycle of two gradients",
        "cycle",
        "g h",
        graph(node("g", "grad", "h", "x"), node("h", "grad", "g", "x"), outputs=["g"], given=X),
    ),
    evaluate(
        "ids that clash",
        "invalid-request",
        "g",
        graph(SQUARE, node("g", "grad", "y", "x"), node("g", "neg", "y"), given=X),
    ),
    evaluate(
        "one id twice in a node",
        "invalid-request",
        "p",
        graph(node(["p", "p"], "split", "x", attrs={"sizes": [1, 1], "axis": 0}), outputs=["p"], given=VECTOR),
    ),
    evaluate(
        "an id that is a declared input",
        "invalid-request",
        "x",
        graph(node("x", "neg", "y"), inputs={"x": {"shape": [], "dtype": "float64"}}, given=XY),
    ),
]

ORDERS = [
    *(
        back(f"order {order!r}", "invalid-request", "order", CUBE, order=order)
        for order in (0, -1, 1.5, "2", "two", [2], {"n": 2})
    ),
    *(back(f"order {order}", "invalid-request", "order 12", CUBE, order=order) for order in (13, 1000)),
    back("order by two inputs", "invalid-request", "order", PRODUCT, order=2),
    back("order by two names", "invalid-request", "order wrt", PRODUCT, order=2, wrt=["x", "y"]),
    back("order by no name", "invalid-request", "order wrt", PRODUCT, order=2, wrt=[]),
    back("order by an integer", "not-differentiable", "k int64", infix("x * k", {**X, **K}), order=2, wrt=["k"]),
    back("order of a mask", "not-differentiable", "bool", infix("x > 0", X), order=2),
    back("order by a name that isn't there", "unknown-name", "price", CUBE, order=2, wrt=["price"]),
    back("order, misspelt", "invalid-request", "ordr order", CUBE, ordr=2),
    back("a cotangent of an order", "shape-mismatch", "cotangent 3 2", CUBES, order=2, cotangent=[1, 2, 3]),
    back("create_graph in words", "invalid-request", "create_graph", CUBE, create_graph="yes"),
    back("create_graph, misspelt", "invalid-request", "creat_graph create_graph", CUBE, creat_graph=True),
    back("retain_grad of a name", "invalid-request", "retain_grad", CUBE, retain_grad="h"),
    back("retain_grad of names", "invalid-request", "retain_grad", CUBE, retain_grad=["h"]),
    back("nograd beside create_graph", "nograd", "nograd backward", {**CUBE, "nograd": True}, create_graph=True),
    back("nograd beside an order", "nograd", "nograd backward", {**CUBE, "nograd": True}, order=2),
]

PRODUCTS = [
    derive("vjp", "no cotangents", "invalid-request", "cotangents", CUBE),
    derive("vjp", "no cotangent", "invalid-request", "cotangents", CUBE, cotangents={}),
    derive("vjp", "cotangents are a list", "invalid-request", "cotangents", CUBE, cotangents=[1]),
    derive("vjp", "cotangent for cotangents", "invalid-request", "cotangent cotangents", CUBE, cotangent={"out": 1}),
    derive("vjp", "a cotangent of another length", "shape-mismatch", "y 3 2", CUBES, cotangents={"y": [1, 2, 3]}),
    derive("vjp", "a cotangent of another rank", "shape-mismatch", "y", CUBES, cotangents={"y": [[1, 2]]}),
    derive("vjp", "an unknown output", "unknown-name|invalid-request", "z", CUBES, cotangents={"y": [1, 1], "z": 1}),
    derive("vjp", "a cotangent in words", "invalid-request", "out abc", CUBE, cotangents={"out": "abc"}),
    derive("vjp", "a cotangent of a mask", "not-differentiable", "bool", infix("x > 0", X), cotangents={"out": 1}),
    derive("vjp", "an unknown wrt", "unknown-name", "price", CUBE, cotangents={"out": 1}, wrt=["price"]),
    derive(
        "vjp", "by an integer", "not-differentiable", "k", infix("x * k", {**X, **K}), cotangents={"out": 1}, wrt=["k"]
    ),
    derive("vjp", "a missing input", "unknown-name", "x", infix("x ** 3"), cotangents={"out": 1}),
    derive("vjp", "an unused input", "invalid-request", "xx x", infix("x", {**X, "xx": 1}), cotangents={"x": 1}),
    derive("jvp", "no tangents", "invalid-request", "tangents", CUBE),
    derive("jvp", "no tangent", "invalid-request", "tangents", CUBE, tangents={}),
    derive("jvp", "tangents are a number", "invalid-request", "tangents", CUBE, tangents=1),
    derive("jvp", "tangent for tangents", "invalid-request", "tangent tangents", CUBE, tangent={"x": 1}),
    derive("jvp", "a tangent of another length", "shape-mismatch", "x 3 2", CUBES, tangents={"x": [1, 2, 3]}),
    derive("jvp", "an unknown input", "unknown-name|invalid-request", "z", CUBE, tangents={"x": 1, "z": 1}),
    derive("jvp", "a ragged tangent", "invalid-request", "x", CUBES, tangents={"x": [1, [2]]}),
    derive("jvp", "an unknown output", "unknown-name", "hidden", CUBE, tangents={"x": 1}, outputs=["hidden"]),
    derive("hvp", "no vectors", "invalid-request", "vectors", TOTAL),
    derive("hvp", "no vector", "invalid-request", "vectors", TOTAL, vectors={}),
    derive("hvp", "vector for vectors", "invalid-request", "vector vectors", TOTAL, vector={"x": [1, 1]}),
    derive("hvp", "a vector of another length", "shape-mismatch", "x 3 2", TOTAL, vectors={"x": [1, 2, 3]}),
    derive("hvp", "an unknown input", "unknown-name|invalid-request", "z", TOTAL, vectors={"x": [1, 1], "z": 1}),
    derive("hvp", "of a vector", "not-scalar", "y 2", CUBES, vectors={"x": [1, 1]}),
    derive("hvp", "of a mask", "not-differentiable", "bool", infix("x > 0", X), vectors={"x": 1}),
]

ONES = [1.0, 1.0]
MANY = [
    derive("vjp", "many in words", "invalid-request", "many", CUBES, cotangents={"y": [ONES]}, many="yes"),
    derive("jvp", "many is a number", "invalid-request", "many", CUBES, tangents={"x": [ONES]}, many=2),
    derive(
        "vjp", "many of 2 and 3", "shape-mismatch", "2 3", PAIR, cotangents={"p": [1, 2], "q": [1, 2, 3]}, many=True
    ),
    derive("jvp", "many of 2 and 3", "shape-mismatch", "2 3", PAIR, tangents={"x": [1, 2], "y": [1, 2, 3]}, many=True),
    derive(
        "hvp", "many of 1 and 2", "shape-mismatch", "1 2", VECTORS, vectors={"x": [ONES], "y": [ONES] * 2}, many=True
    ),
    derive("vjp", "many, but a scalar", "shape-mismatch", "out", CUBE, cotangents={"out": 1}, many=True),
    derive("jvp", "many, but a scalar", "shape-mismatch", "x", CUBE, tangents={"x": 1}, many=True),
    derive("hvp", "many, but one vector", "shape-mismatch", "x", TOTAL, vectors={"x": ONES}, many=True),
    derive("vjp", "not many, but two", "shape-mismatch", "y", CUBES, cotangents={"y": [ONES, ONES]}),
    derive(
        "vjp",
        "a batch's rows are not the cotangent's",
        "shape-mismatch",
        "3 2",
        CUBE,
        inputs={"x": ONES},
        batched=["x"],
        cotangents={"out": [1, 2, 3]},
    ),
    derive(
        "jvp",
        "a batch without an axis",
        "shape-mismatch|invalid-request",
        "x",
        CUBE,
        batched=["x"],
        tangents={"x": [1]},
    ),
    derive(
        "hessian",
        "batches of 2 and 3",
        "shape-mismatch",
        "x y 2 3",
        PRODUCT,
        inputs={"x": ONES, "y": [1, 2, 3]},
        batched=["x", "y"],
    ),
]

MATRICES = [
    derive("jacobian", "sideways", "invalid-request", "mode sideways reverse forward auto", CUBES, mode="sideways"),
    derive("jacobian", "mode is a number", "invalid-request", "mode", CUBES, mode=1),
    derive("jacobian", "modes for mode", "invalid-request", "modes mode", CUBES, modes="auto"),
    derive("jacobian", "of a mask", "not-differentiable", "bool", infix("x > 0", VECTOR)),
    derive("jacobian", "of a name that isn't there", "unknown-name", "price", CUBES, of="price"),
    derive("jacobian", "by a name that isn't there", "unknown-name", "price", CUBES, wrt=["price"]),
    derive("jacobian", "by an integer", "not-differentiable", "k int64", infix("x * k", {**X, **K}), wrt=["k"]),
    derive("hessian", "of a vector", "not-scalar", "y 2", CUBES),
    derive("hessian", "of a vector that is named", "not-scalar", "h 2", infix("h = x ** 2; sum(h)", VECTOR), of="h"),
    derive("hessian", "of a name that isn't there", "unknown-name", "price", TOTAL, of="price"),
    derive("hessian", "by a mask", "not-differentiable", "m bool", infix("m = x > 0; sum(x * m)", VECTOR), wrt=["m"]),
    derive("hessian", "with vectors", "invalid-request", "vectors", TOTAL, vectors={"x": ONES}),
    *(
        derive("check", f"eps {eps!r}", "invalid-request", "eps number 1e-15 to 1", TOTAL, eps=eps)
        for eps in (0, -1e-6, 1e-17, 9.99e-16, 1.01, 1e308, "NaN", "small", True, None, [1e-6])
    ),
    *(
        derive("check", f"order {order!r}", "invalid-request", "order", TOTAL, order=order)
        for order in (3, 0, "1", 1.5)
    ),
    derive("check", "epsilon for eps", "invalid-request", "epsilon eps", TOTAL, epsilon=1e-6),
    derive("check", "by an integer", "not-differentiable", "k int64", infix("x * k", {**X, **K}), wrt=["k"]),
    derive("check", "by a name that isn't there", "unknown-name", "price", TOTAL, wrt=["price"]),
]

NAME = "malformed_posterior"
NOBODY = "p_" + "0" * 32
BOUND: dict[str, Any] = {"program": NAME, "inputs": {"theta": [1.0, 2.0]}}
TYPED = {"x": {"shape": [3], "dtype": "float64"}}
ONE_OF = "invalid-request|unknown-name"

PROGRAMS = [
    programs("nothing", "invalid-request", "expr graph program"),
    programs("two at once", "invalid-request", "expr program", expr="x * 2", program=NAME),
    programs("a graph beside a text", "invalid-request", "expr graph", expr="x", graph={"nodes": [SQUARE]}),
    programs("names for name", "invalid-request", "names name", expr="x", names="a"),
    programs("values for declarations", "invalid-request", "x", expr="x * 2", inputs={"x": 5}),
    programs("a text that is none", "syntax-error", "line column", expr="x +"),
    programs("an unknown operation", "unknown-op", "sine sin", expr="sine(x)"),
    programs("replace in words", "invalid-request", "replace", expr="x", name="fine", replace="yes"),
    programs("no name", "invalid-request", "name", expr="x", name=""),
    programs("a name with spaces", "invalid-request", "name", expr="x", name="my program"),
    programs("a name like an id", "invalid-request", "name p_", expr="x", name="p_mine"),
    programs("a name of 10,000 characters", "invalid-request", "name", expr="x", name="n" * 10_000),
    programs("a name that is a number", "invalid-request", "name", expr="x", name=5),
    programs("a name with a slash", "invalid-request", "name", expr="x", name="a/dot"),
    programs("a name that is taken", "name-conflict", NAME, expr="x * 300", name=NAME),
    programs(
        "declares a dtype of its own",
        "invalid-request",
        "x float16",
        expr="x",
        inputs={"x": {"shape": [], "dtype": "float16"}},
    ),
    programs(
        "declares half a dimension",
        "invalid-request",
        "x",
        expr="x",
        inputs={"x": {"shape": [1.5], "dtype": "float64"}},
    ),
    programs("declares -2 rows", "invalid-request", "x", expr="x", inputs={"x": {"shape": [-2], "dtype": "float64"}}),
    programs("binds a list", "invalid-request", "bind", expr="x", bind=[1]),
    programs("binds what isn't there", ONE_OF, "prise price", expr="price * 2", bind={"prise": 1}),
    programs("binds a step", ONE_OF, "h", expr="h = x * 2; h + 1", bind={"h": 1}),
    programs("binds a word", "invalid-request", "x abc", expr="x * 2", bind={"x": "abc"}),
    programs(
        "binds another shape than declared",
        "invalid-request|shape-mismatch",
        "x 3 2",
        expr="x * 2",
        inputs=TYPED,
        bind={"x": [1, 2]},
    ),
    programs("binds what is bound", ONE_OF, "X", program=NAME, bind={"X": [[1.0, 2.0]]}),
    programs("binds on what isn't there", "unknown-program", "nobody", program="nobody", bind={"x": 1}),
]

NO_PROGRAM = [
    *(
        derive(call, f"an unknown {kind}", "unknown-program", program, {"program": program, "inputs": X})
        for call in ("evaluate", "vjp", "jvp", "jacobian", "hessian", "hvp", "check", "infer")
        for kind, program in (("id", NOBODY), ("name", "nobody"))
    ),
    evaluate("an id cut short", "unknown-program", "p_123", {"program": "p_123", "inputs": X}),
    evaluate("an unknown program before unknown fields", "unknown-program", "nobody", {"program": "nobody", "wtr": 1}),
    evaluate("a program that is a number", "invalid-request", "program", {"program": 5, "inputs": X}),
    evaluate("an id beside a text", "invalid-request", "expr program", {**CUBE, "program": NAME}),
    evaluate("progam for program", "invalid-request", "progam program", {"progam": NAME, "inputs": X}),
    derive("vjp", "a program beside a graph", "invalid-request", "graph program", BOUND, graph={"nodes": [SQUARE]}),
    evaluate("a bound name again", "invalid-request", "X", {**BOUND, "inputs": {**BOUND["inputs"], "X": [[1, 2]]}}),
    derive(
        "hvp",
        "a bound name again",
        "invalid-request",
        "X",
        BOUND,
        inputs={**BOUND["inputs"], "X": [[1, 2]]},
        vectors={"theta": ONES},
    ),
    evaluate("an input missing beside bound ones", "unknown-name", "theta", {**BOUND, "inputs": {}}),
    back("by a bound name", f"{ONE_OF}|not-differentiable", "X", BOUND, wrt=["X"]),
    derive("jacobian", "by a bound name", f"{ONE_OF}|not-differentiable", "X", BOUND, wrt=["X"]),
    derive("jvp", "a tangent for a bound name", f"{ONE_OF}|not-differentiable", "X", BOUND, tangents={"X": [ONES] * 3}),
    derive("check", "by a bound name", f"{ONE_OF}|not-differentiable", "X", BOUND, wrt=["X"]),
    evaluate("batched by a bound name", f"{ONE_OF}|not-differentiable", "X", {**BOUND, "batched": ["X"]}),
    evaluate(
        "a shape that does not fit what is bound", "shape-mismatch", "2 3", {**BOUND, "inputs": {"theta": [1, 2, 3]}}
    ),
]

GRADS = nested(200, "x ** 2", lambda inner: f"grad({inner}, x)")
INLINE = nested(200, "x", lambda inner: {"op": "grad", "args": [inner, "x"]})
WIDE = {"x": [0.0] * 50_000}
LIMITS = [
    evaluate("200 gradients in each other", "limit-exceeded", "100", infix(GRADS, X)),
    evaluate(
        "200 inline gradients", "limit-exceeded", "100", graph({"id": "y", "op": "neg", "args": [INLINE]}, given=X)
    ),
    evaluate("a gradient of 80 GB", "limit-exceeded", "", infix("grad(sum(broadcast_to(x, [100000, 100000])), x)", X)),
    derive("jacobian", "of 20 GB", "limit-exceeded", "", infix("x * 2", WIDE)),
    derive("hessian", "of 20 GB", "limit-exceeded", "hvp", infix("sum(x ** 2)", WIDE)),
    derive("jacobian", "of 40 GB in two blocks", "limit-exceeded", "", infix("p = x * 2; q = x * 3; p, q", WIDE)),
]

CASES = [
    *IN_TEXT,
    *IN_GRAPHS,
    *ORDERS,
    *PRODUCTS,
    *MANY,
    *MATRICES,
    *PROGRAMS,
    *NO_PROGRAM,
    *LIMITS,
]


@pytest.fixture(scope="module", autouse=True)
def bound_program(server: Server) -> Iterator[None]:
    """A registered program, one of whose inputs is bound, for the cases that name it."""
    request = {"expr": "sum((X @ theta) ** 2)", "bind": {"X": [ONES] * 3}, "name": NAME}
    response = server.client.post("/v1/programs", json=request)
    assert response.status_code in (200, 201), response.text
    yield
    server.client.delete(f"/v1/programs/{NAME}")


@pytest.mark.parametrize("given", CASES, ids=[case.title for case in CASES])
def test_malformed_request(server: Server, given: Case) -> None:
    text = refused(server, given.slugs, given.words, given.path, **given.request)
    if given.slugs == "limit-exceeded":
        assert "PULLBACK_" in text
    server.assert_well()


WRONG_WAY = [
    ("GET", "/v1/vjp", "method-not-allowed", ""),
    ("GET", "/v1/hessian", "method-not-allowed", ""),
    ("DELETE", "/v1/programs", "method-not-allowed", ""),
    ("PUT", "/v1/programs", "method-not-allowed", ""),
    ("GET", "/v1/programs/nobody", "unknown-program", "nobody"),
    ("GET", f"/v1/programs/{NOBODY}", "unknown-program", NOBODY),
    ("GET", f"/v1/programs/{NOBODY}/dot?order=2", "unknown-program", NOBODY),
    ("GET", f"/v1/programs/{NAME}/nothing", "unknown-path", ""),
    ("GET", "/v1/gradient", "unknown-path", ""),
]


@pytest.mark.parametrize(("method", "path", "slug", "words"), WRONG_WAY, ids=[" ".join(row[:2]) for row in WRONG_WAY])
def test_malformed_path(server: Server, method: str, path: str, slug: str, words: str) -> None:
    problem_text(server.client.request(method, path), slug, words.split())
    server.assert_well()


@pytest.mark.parametrize("order", ["-1", "two", "1.5"])
def test_malformed_order_of_dot(server: Server, order: str) -> None:
    program = server.client.get(f"/v1/programs/{NAME}").json()["id"]
    response = server.client.get(f"/v1/programs/{program}/dot?order={order}")
    problem_text(response, "invalid-request", ["order"])
    server.assert_well()


USES: dict[str, dict[str, Any]] = {
    "evaluate": {"backward": True},
    "vjp": {"cotangents": {"out": 1}},
    "jvp": {"tangents": {"x": 1}},
    "jacobian": {},
    "hessian": {},
    "hvp": {"vectors": {"x": 1}},
    "check": {},
    "infer": {},
}


def test_a_program_deleted_while_in_use(server: Server) -> None:
    program = server.client.post("/v1/programs", json={"expr": "x ** 2 * 301", "name": "soon_gone"}).json()["id"]
    requests = {call: {"program": program, "inputs": X, **fields} for call, fields in USES.items()}
    for call, request in requests.items():
        server.ask(f"/v1/{call}", **request)
    assert server.client.delete(f"/v1/programs/{program}").is_success
    for call, request in requests.items():
        refused(server, "unknown-program", program, f"/v1/{call}", **request)
        refused(server, "unknown-program", "soon_gone", f"/v1/{call}", **{**request, "program": "soon_gone"})
    server.assert_well()


def test_a_refused_program_leaves_nothing(server: Server) -> None:
    refused(server, "unknown-op", "sine", "/v1/programs", expr="sine(x) * 302", name="refused")
    refused(server, "unknown-program", "refused", "/v1/evaluate", program="refused", inputs=X)
    response = server.client.post("/v1/programs", json={"expr": "sin(x) * 302", "name": "refused"})
    assert response.status_code == 201, response.text


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("step", [pytest.param("tanh(x) * y", marks=pytest.mark.thorough), "x * sin(y) / (1 + y ** 2)"])
def test_towers_of_gradients_are_answered_or_refused(server: Server, step: str) -> None:
    expr = "y = x;" + f"y = {step}; y = grad(y, x);" * 20 + "y"
    response = server.client.post("/v1/evaluate", json={"expr": expr, "inputs": {"x": 0.5}})
    assert response.status_code == 200 or problem_text(response, "limit-exceeded|deadline-exceeded")
    server.assert_well()


# Names that shadow operations are no mistake

SHADOWING: list[tuple[str, dict[str, float], float, dict[str, float]]] = [
    ("grad ** 2", {"grad": 3.0}, 9, {"grad": 6}),
    ("sin * cos(sin)", {"sin": 0.0}, 0, {"sin": 1}),
    ("hessian + vjp * jvp", {"hessian": 1.0, "vjp": 2.0, "jvp": 3.0}, 7, {"hessian": 1, "vjp": 3, "jvp": 2}),
    (
        "inputs * program - backward",
        {"inputs": 2.0, "program": 3.0, "backward": 1.0},
        5,
        {"inputs": 3, "program": 2, "backward": -1},
    ),
    ("cotangent * order", {"cotangent": 2.0, "order": 3.0}, 6, {"cotangent": 3, "order": 2}),
    ("grad = sum * 2; grad(grad ** 2, sum)", {"sum": 3.0}, 24, {"sum": 8}),
]


@pytest.mark.parametrize(("expr", "inputs", "value", "grads"), SHADOWING, ids=[row[0] for row in SHADOWING])
def test_names_may_be_those_of_operations(
    server: Server, expr: str, inputs: dict[str, float], value: float, grads: dict[str, float]
) -> None:
    answer = server.evaluate(expr=expr, inputs=inputs, backward=True)
    (found,) = answer["values"].values()
    np.testing.assert_allclose(found, value, rtol=1e-12)
    assert answer["grads"] == grads


@pytest.mark.parametrize("eps", ["NaN", True, 1e-17])
def test_a_step_that_is_none_is_one_fault(server: Server, eps: Any) -> None:
    answer = server.client.post("/v1/check", json={**TOTAL, "eps": eps})
    [fault] = answer.json()["errors"]
    assert fault["loc"] == ["eps"]
    assert fault["msg"] == f"eps is {json.dumps(eps)}; expected a number from 1e-15 to 1"


@pytest.mark.parametrize("eps", [1e-15, 1, 0.5])
def test_the_least_and_the_largest_step(server: Server, eps: float) -> None:
    request = infix("sum(2 * x)", {"x": [0.0, 1.9, -1e10, 1e308, 5e-324]})
    answer = server.ask("/v1/check", **request, eps=eps)
    assert answer["worst"]["order"] == 1
