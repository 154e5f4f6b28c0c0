"""Scripts of commands: lists of runs, which do the same on the engine and in a session of every store."""

from __future__ import annotations

from typing import Any

Commands = list[dict[str, Any]]


def var(id: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"do": "variable", "id": id, "value": value, **more}


def op(out: str, name: str, *args: Any, **attrs: Any) -> dict[str, Any]:
    return {"do": "apply", "op": name, "args": list(args), "attrs": attrs, "out": out.split()}


def expr(out: str, text: str) -> dict[str, Any]:
    return {"do": "apply", "expr": text, "out": out.split()}


def do(command: str, **fields: Any) -> dict[str, Any]:
    return {"do": command, **fields}


def back(of: str, **more: Any) -> dict[str, Any]:
    return {"do": "backward", "of": of, **more}


X = [[0.5, -1.25, 2.0], [1.0, 0.75, -0.5], [-2.0, 0.1, 0.3], [0.0, 1.5, -1.0]]
T = [[1.0], [0.0], [-1.0], [0.5]]
LABELS = [0.0, 1.0, 1.0, 0.0]

ROSENBROCK = [
    expr("f", "100.0 * (x1 - x0**2)**2 + (x0 - 1.0)**2"),
    do("cleargrad"),
    back("f"),
    do("grad", of="x0", out="g0"),
    do("grad", of="x1", out="g1"),
    do("set", nograd=True),
    expr("n0", "x0 - 0.001 * g0"),
    expr("n1", "x1 - 0.001 * g1"),
    do("set", nograd=False),
    do("assign", id="x0", **{"from": "n0"}),
    do("assign", id="x1", **{"from": "n1"}),
]
NEWTON = [
    expr("f", "x**4 - 2.0 * x**2"),
    do("cleargrad"),
    back("f", create_graph=True),
    do("grad", of="x", out="gx"),
    do("cleargrad", ids=["x"]),
    back("gx"),
    do("grad", of="x", out="gx2"),
    do("set", nograd=True),
    expr("new", "x - gx / gx2"),
    do("set", nograd=False),
    do("assign", id="x", **{"from": "new"}),
]


def training(
    model: str, config: dict[str, Any], optimizer: str, settings: Any = None, hooks: Any = ()
) -> list[Commands]:
    make = [
        var("x", X, constant=True),
        var("t", T, constant=True),
        do("model", id="m", kind=model, config=config),
        do("optimizer", id="o", kind=optimizer, config=settings or {}, params="m", hooks=list(hooks)),
    ]
    step = [
        do("call", id="m", args=["x"], out=["p"]),
        op("loss", "mean_squared_error", "p", "t"),
        do("cleargrad", ids=["m"]),
        back("loss"),
        do("step", id="o"),
    ]
    return [make, *[step] * 4]


def recurrent(layer: str) -> list[Commands]:
    def calls(row: int, loss: str) -> Commands:
        called = do("call", id="l", args=[X[row : row + 1]], out=["a"])
        return [called, do("call", id="h", args=["a"], out=["y"]), expr("loss", loss)]

    weights = ["l.h2h.w"] if layer == "rnn" else ["l.h2f.w", "l.h2u.w"]
    make = [
        do("layer", id="l", kind=layer, config={"hidden_size": 3}),
        do("layer", id="h", kind="linear", config={"out_size": 1}),
        do("optimizer", id="o", kind="sgd", config={"learning_rate": 0.1}, params=weights),
    ]
    first, more = calls(0, "sum(y**2)"), calls(1, "loss + sum(y**2)")
    learn = [do("cleargrad"), back("loss"), do("unchain_backward", id="loss"), do("step", id="o")]
    reset = [do("reset_state", id="l")]
    return [make, first, more, more, learn, first, more, learn, reset, first, learn]


SCRIPTS: dict[str, list[Commands]] = {
    "quickstart": [[var("x", 0.5), op("a", "square", "x"), op("b", "exp", "a"), op("y", "square", "b"), back("y")]],
    "quickstart, a command a run": [
        [c] for c in [var("x", 0.5), op("a", "square", "x"), op("b", "exp", "a"), op("y", "square", "b"), back("y")]
    ],
    "quickstart as an expression": [[var("x", 0.5)], [expr("y", "square(exp(square(x)))")], [back("y")]],
    "rosenbrock descent": [[var("x0", 0.0), var("x1", 2.0)], *[ROSENBROCK] * 5],
    "newton": [[var("x", 2.0)], *[NEWTON] * 5],
    "double backprop": [
        [var("x", 2.0), expr("y", "x**2"), back("y", create_graph=True), do("grad", of="x", out="gx")],
        [do("cleargrad"), expr("z", "gx**3 + y"), back("z")],
    ],
    "derivatives of sin, one after the other": [
        [var("x", 1.0), op("y", "sin", "x"), back("y", create_graph=True)],
        *[[do("grad", of="x", out="g"), do("cleargrad", ids=["x"]), back("g", create_graph=True)]] * 4,
    ],
    "mlp, sgd": training("mlp", {"out_sizes": [5, 1]}, "sgd", {"learning_rate": 0.2}),
    "mlp, momentum": training("mlp", {"out_sizes": [4, 3, 1], "activation": "tanh"}, "momentum"),
    "mlp, adam and hooks": training(
        "mlp",
        {"out_sizes": [10, 1], "activation": "relu"},
        "adam",
        {"alpha": 0.05},
        [{"kind": "weight_decay", "rate": 0.01}, {"kind": "clip_grad", "max": 0.1}],
    ),
    "mlp, adamw": training("mlp", {"out_sizes": [3, 1]}, "adamw", {"weight_decay": 0.1}),
    "mlp with large weights": training("mlp", {"out_sizes": [700, 1]}, "adam"),
    "lstm": training("lstm", {"hidden_size": 4, "out_size": 1}, "adam"),
    "rnn with truncated backpropagation": recurrent("rnn"),
    "lstm with truncated backpropagation": recurrent("lstm"),
    "no_grad spans": [
        [var("x", [1.0, 2.0]), do("set", nograd=True), expr("y", "sum(x**2)"), do("set", nograd=False)],
        [expr("z", "sum(x**3)"), back("z")],
        [do("set", nograd=True)],
        [expr("w", "x * 2.0")],
    ],
    "dropout": [[var("x", X), op("y", "dropout", "x", ratio=0.4), expr("z", "sum(y * y)"), back("z")]] * 3,
    "dropout in use": [
        [do("set", train=False)],
        [var("x", X), op("y", "dropout", "x"), expr("z", "sum(y)"), back("z")],
    ],
    "dropout in an expression": [[var("x", X)], [expr("y", "sum(dropout(x, 0.25) * x)")], [back("y")]],
    "rebinding": [
        [var("x", 3.0), expr("y", "x * x"), expr("x", "y + 1.0"), expr("y", "x * y")],
        [back("y")],
        [var("x", [1.0, 2.0])],
    ],
    "a loop of rebinding": [[var("x", 0.1)], *[[expr("x", "sin(x) + x")]] * 6, [back("x")]],
    "gradients add up": [[var("x", 2.0), expr("y", "x**3"), back("y")], [expr("z", "x * 5.0"), back("z")]],
    "retained gradients": [[var("x", 2.0), expr("y", "x**3"), expr("z", "exp(y / 8.0)"), back("z", retain_grad=True)]],
    "a cotangent": [
        [var("x", [1.0, 2.0]), var("g", [0.5, -1.0]), expr("y", "x**3"), back("y", cotangent="g")],
        [expr("y", "x**2"), back("y", cotangent=[1.0, 1.0])],
    ],
    "constants": [
        [var("c", [1.0, 2.0], constant=True), var("x", 3.0), expr("y", "sum(c * x)"), expr("d", "c * 2.0"), back("y")]
    ],
    "a number that is a constant": [
        [var("c", 2.0, constant=True), var("x", [1.0, 2.0]), expr("y", "sum(x**c / c)"), back("y")]
    ],
    "unchain": [[var("x", 2.0), expr("y", "x**2"), expr("z", "y**2"), do("unchain", id="y")], [back("z")]],
    "assign": [
        [var("x", 2.0), expr("y", "x**2")],
        [do("assign", id="x", value=5.0)],
        [back("y")],
        [do("assign", id="y", value=[1.0, 2.0]), expr("z", "sum(y * x)"), back("z")],
    ],
    "deleted names stay on the tape": [
        [var("x", 2.0), expr("y", "exp(x)"), expr("z", "y * y")],
        [do("delete", ids=["x", "y"])],
        [back("z")],
    ],
    "matrices": [
        [
            var("a", X),
            var("b", T),
            op("c", "transpose", "a"),
            op("d", "matmul", "c", "b"),
            expr("y", "sum(d**2)"),
            back("y"),
        ]
    ],
    "views": [
        [var("x", X), expr("y", "x[1:, ::2]"), expr("z", "sum(y, axes=0)")],
        [expr("w", "sum(z * reshape(x[:2, 0], [2]))"), back("w")],
    ],
    "several results": [
        [var("x", [1.0, 2.0, 3.0]), op("p q", "split", "x", sizes=[1, 2]), expr("y", "sum(p) * sum(q**2)"), back("y")]
    ],
    "concat": [
        [var("x", [1.0]), var("y", [2.0, 3.0]), op("z", "concat", "x", "y", "x"), expr("w", "sum(z**3)"), back("w")]
    ],
    "classification": [
        [
            var("x", X),
            var("w", [[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]]),
            expr("l", "x @ w"),
            op("loss", "cross_entropy", "l", LABELS),
            back("loss"),
        ]
    ],
    "logistic regression": [
        [var("w", [0.1, -0.2, 0.3]), var("x", X, constant=True)],
        *[[expr("loss", "mean(softplus(x @ w)) + 0.1 * sum(w**2)"), do("cleargrad"), back("loss")]] * 2,
    ],
    "linear algebra": [
        [
            var("a", [[2.0, 0.5], [0.25, 1.5]]),
            var("b", [1.0, 2.0]),
            op("x", "solve", "a", "b"),
            expr("y", "sum(x**2)"),
            back("y"),
        ]
    ],
    "edges": [[var("x", 0.0), expr("y", "x**0.0 + 1.0 / x + log(x)"), back("y")]],
    "float32": [[var("x", [1.0, 2.0]), op("y", "astype", "x", dtype="float32"), expr("z", "sum(exp(y))"), back("z")]],
    "momentum over variables": [
        [
            var("a", [1.0, 2.0]),
            var("b", 0.5),
            do("optimizer", id="o", kind="momentum", config={"momentum": 0.5}, params=["a", "b"]),
        ],
        *[[expr("y", "sum(a**2) * b**2"), do("cleargrad"), back("y"), do("step", id="o")]] * 3,
    ],
    "a state is loaded": [
        [do("layer", id="l", kind="linear", config={"out_size": 2, "in_size": 1})],
        [
            do("load", id="l", state={"w": [[1.0, 2.0]], "b": [[0.5, -0.5]]}),
            do("call", id="l", args=[[[3.0]]], out=["y"]),
        ],
    ],
    "penalty on a gradient": [
        [var("w", [0.5, -1.0]), var("x", [1.0, 2.0])],
        [expr("y", "tanh(sum(w * x))"), back("y", create_graph=True), do("grad", of="x", out="gx")],
        [do("cleargrad"), expr("p", "sum(gx**2)"), back("p")],
    ],
    "long tape": [[var("x", 0.5)], *[[expr("x", "x + 0.01 * sin(x * 3.0)")] * 20] * 3, [back("x")]],
    "special values": [[var("x", 5e-324), expr("y", "x * 0.5 - 1e308 * 10.0"), expr("z", "y - y"), back("z")]],
}
