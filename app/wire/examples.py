"""An example of each kind of request, for OpenAPI; a test sends every one."""

from typing import Any

_QUICKSTART = {
    "nodes": [
        {"id": "a", "op": "square", "args": ["x"]},
        {"id": "b", "op": "exp", "args": ["a"]},
        {"id": "y", "op": "square", "args": ["b"]},
    ],
    "outputs": ["y"],
}
#: Programs that one example registers and others name.
MATYAS, RETIRED = "matyas", "retired"
_LAYER = "h = tanh(x @ w1 + b1); loss = mean_squared_error(h @ w2 + b2, t)"


def _example(summary: str, **value: Any) -> dict[str, Any]:
    return {"summary": summary, "value": value}


EVALUATE = {
    "forward": _example("A value", expr="square(exp(square(x)))", inputs={"x": 0.5}),
    "backward": _example("A value and its gradient", expr="square(exp(square(x)))", inputs={"x": 0.5}, backward=True),
    "graph": _example("The same as a graph", graph=_QUICKSTART, inputs={"x": 0.5}, backward=True),
    "graph_inline": _example(
        "A graph with inline nodes, literals, attributes and a declared input",
        graph={
            "nodes": [
                {
                    "id": "y",
                    "op": "sum",
                    "args": [{"op": "mul", "args": [2, {"op": "square", "args": ["x"]}]}],
                    "attrs": {"axes": [0]},
                }
            ],
            "inputs": {"x": {"shape": [-1, 2], "dtype": "float64"}},
        },
        inputs={"x": [[1, 2], [3, 4]]},
    ),
    "statements": _example(
        "A small network: statements, several inputs, some gradients",
        expr=_LAYER,
        inputs={
            "x": [[0.5, -1.0], [2.0, 0.0]],
            "w1": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]],
            "b1": [0, 0, 0],
            "w2": [[0.7], [0.8], [0.9]],
            "b2": [0],
            "t": [[1], [0]],
        },
        backward={"wrt": ["w1", "b1", "w2", "b2"]},
    ),
    "cotangent": _example(
        "A gradient weighted by a cotangent", expr="x ** 2", inputs={"x": [1, 2, 3]}, backward={"cotangent": [1, 0, -1]}
    ),
    "of_and_wrt": _example(
        "One of several outputs, with respect to a node",
        expr="h = x * 3; y = h ** 2; z = exp(h); y, z",
        inputs={"x": 2},
        backward={"of": "y", "wrt": ["h", "x"]},
    ),
    "every_step": _example(
        "Every step of a calculation", expr="0.26*(x**2 + y**2) - 0.48*x*y", inputs={"x": 1, "y": 1}, outputs="all"
    ),
    "some_outputs": _example("Nodes by name", expr="h = x * 2; g = h + 1; g * g", inputs={"x": 3}, outputs=["g", "h"]),
    "grad": _example(
        "A loss over a derivative",
        expr="u = sin(k*x); du = grad(sum(u), x); mean((du - u)**2)",
        inputs={"k": 1.3, "x": [0, 0.5, 1]},
        backward={"wrt": ["k"]},
    ),
    "greeks": _example(
        "Value, delta and gamma of an option",
        expr="d1 = (log(S / K) + (r + s**2 / 2) * T) / (s * sqrt(T)); d2 = d1 - s * sqrt(T)\n"
        "price = S * erfc(-d1 / sqrt(2)) / 2 - K * exp(-r * T) * erfc(-d2 / sqrt(2)) / 2\n"
        "delta = grad(sum(price), S); gamma = grad(sum(delta), S); price, delta, gamma",
        inputs={"S": [90, 100, 110], "K": 100, "r": 0.02, "s": 0.2, "T": 1},
    ),
    "order": _example("Six derivatives of a sine", expr="sin(x)", inputs={"x": 1}, backward={"order": 6}),
    "create_graph": _example(
        "A program of the gradient, to be evaluated by its id",
        expr="x ** 3",
        inputs={"x": 2},
        backward={"create_graph": True},
    ),
    "retain_grad": _example(
        "The gradient of every node",
        expr="h = x * 3; y = h ** 2",
        inputs={"x": 2},
        backward={"retain_grad": True},
    ),
    "batched": _example(
        "One call for every row of x",
        expr="sum((x - c) ** 2)",
        inputs={"x": [[1, 2], [3, 4], [5, 6]], "c": [0, 1]},
        batched=["x"],
        backward=True,
    ),
    "dropout": _example(
        "A random operation while training", expr="dropout(x, 0.5)", inputs={"x": [1, 2, 3, 4]}, train=True, seed=7
    ),
    "nograd": _example("Forward only", expr="sin(x)", inputs={"x": 1.0}, nograd=True),
    "array_objects": _example(
        "Typed arrays in, base64 out",
        expr="x @ y",
        inputs={
            "x": {"shape": [2, 2], "dtype": "float32", "data": [1, 2, 3, 4]},
            "y": {"shape": [2], "dtype": "float32", "base64": "AACAPwAAAMA="},
        },
        encoding="base64",
    ),
    "program": _example("A registered program", program=MATYAS, inputs={"x": 1, "y": 1}, backward=True),
    "not_finite": _example("Numbers that JSON has not", expr="1 / x", inputs={"x": [0, "-Infinity", "NaN"]}),
}

_ROSENBROCK = "sum((1 - x[:-1])**2 + 100 * (x[1:] - x[:-1]**2)**2)"

VJP = {
    "one": _example(
        "A cotangent carried back",
        expr="y = A @ x",
        inputs={"A": [[1, 2], [3, 4]], "x": [1, 1]},
        cotangents={"y": [1, 0]},
    ),
    "many": _example(
        "Three cotangents at once",
        expr="y = sin(x) * k",
        inputs={"x": [0.5, 1.5], "k": 2},
        cotangents={"y": [[1, 0], [0, 1], [1, 1]]},
        wrt=["x"],
        many=True,
    ),
}
JVP = {
    "one": _example(
        "A tangent carried forward", expr="y = x * exp(k * x)", inputs={"x": 1, "k": 0.5}, tangents={"x": 1}
    ),
}
JACOBIAN = {
    "polar": _example(
        "From polar to Cartesian coordinates",
        expr="x = r * cos(phi); y = r * sin(phi); x, y",
        inputs={"r": 2, "phi": 0.5},
    ),
    "batched": _example(
        "One matrix a row", expr="stack([x[0] * x[1], sin(x[0])])", inputs={"x": [[1, 2], [3, 4]]}, batched=["x"]
    ),
}
HESSIAN = {"rosenbrock": _example("Of the Rosenbrock function", expr=_ROSENBROCK, inputs={"x": [1, 2, 3]})}
HVP = {
    "rosenbrock": _example(
        "A product without the matrix", expr=_ROSENBROCK, inputs={"x": [1, 2, 3]}, vectors={"x": [1, 0, -1]}
    )
}
CHECK = {
    "second_order": _example(
        "To second order", expr="mean(tanh(X @ w)**2)", inputs={"X": [[1, 2]], "w": [0.5, 1]}, order=2
    )
}

INFER = {
    "shapes": _example(
        "Inputs as shapes: nothing is sent, nothing runs",
        expr="h = x @ w; sum(h, axis=0)",
        inputs={"x": {"shape": [1000, 64], "dtype": "float32"}, "w": {"shape": [64, 10], "dtype": "float32"}},
    ),
    "values": _example("Inputs as values", expr="x + y", inputs={"x": [1, 2, 3], "y": 1}),
    "graph": _example("A graph", graph=_QUICKSTART, inputs={"x": {"shape": [3], "dtype": "float64"}}),
}

REGISTER = {
    "named": _example("A program with a name", expr="0.26*(x**2 + y**2) - 0.48*x*y", name=MATYAS),
    "declared": _example(
        "A graph, and an input of any number of rows",
        graph={"nodes": [{"id": "y", "op": "sum", "args": ["x"], "attrs": {"axes": [0]}}]},
        inputs={"x": {"shape": [-1, 2], "dtype": "float64"}},
        name=RETIRED,
        replace=True,
    ),
    "bound": _example(
        "A loss over data that stays on the server",
        expr="mean((X @ w - t) ** 2)",
        inputs={"w": {"shape": [2]}},
        bind={"X": [[1, 2], [3, 4], [5, 6]], "t": [1, 2, 3]},
        name="least-squares",
    ),
    "again": _example("One more name for a registered program", program=MATYAS, name="matyas.v1"),
}

#: Stands for `{name}` in the path of an operation.
OPERATION = "softmax"


SESSION = {"session": _example("A session that lives for ten minutes", ttl_s=600, seed=7, name="training")}
PATCH_SESSION = {"use": _example("From training to use", train=False, nograd=True)}
RUN = {
    "quickstart": _example(
        "The quickstart",
        commands=[
            {"do": "variable", "id": "x", "value": 0.5},
            {"do": "apply", "op": "square", "args": ["x"], "out": ["a"]},
            {"do": "apply", "op": "exp", "args": ["a"], "out": ["b"]},
            {"do": "apply", "op": "square", "args": ["b"], "out": ["y"]},
            {"do": "backward", "of": "y"},
        ],
        fetch=["x", "y"],
    ),
    "training": _example(
        "A model, and one step of training it",
        commands=[
            {"do": "model", "id": "m", "kind": "mlp", "config": {"out_sizes": [4, 1], "activation": "relu"}},
            {"do": "optimizer", "id": "o", "kind": "adam", "config": {"alpha": 0.01}, "params": "m"},
            {"do": "call", "id": "m", "args": [[[1, 2], [3, 4]]], "out": ["p"]},
            {"do": "apply", "expr": "mean((p - 1)**2)", "out": ["loss"]},
            {"do": "backward", "of": "loss"},
            {"do": "step", "id": "o"},
        ],
        fetch=["loss", "m"],
    ),
}
#: By command, for the calls that are one command; in this order they fit together.
SINGLE = {
    "variable": {"leaf": _example("A leaf", id="u", value=0.5)},
    "apply": {"square": _example("An operation", op="square", args=["u"], out=["w"])},
    "backward": {"backward": _example("The gradient of all that it was computed from", of="w")},
    "cleargrad": {"all": _example("All gradients forgotten")},
}
STATE = {"linear": _example("The weights of a linear layer", state={"w": [[1, 2]], "b": [[0, 0]]})}
