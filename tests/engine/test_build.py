"""The canonical form of programs: what it means, and every check with the place that it names."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.errors import (
    ArityError,
    AutogradError,
    BadAttributeError,
    CycleError,
    Faults,
    InvalidValueError,
    LimitExceededError,
    Loc,
    UnknownNameError,
    UnknownOperationError,
)
from engine.core.table import OPERATIONS
from engine.graph import Graph
from engine.programs import build
from tests.engine.graphs import quickly, shown, shown_inputs, shown_outputs
from tests.sampling import examples


def node(name: Any, op: Any, *args: Any, **fields: Any) -> dict[str, Any]:
    return {"id": name, "op": op, "args": list(args), **fields}


def call(op: str, *args: Any, **attrs: Any) -> dict[str, Any]:
    """An inline node."""
    return {"op": op, "args": list(args), **({"attrs": attrs} if attrs else {})}


def graph(*nodes: Any, **fields: Any) -> dict[str, Any]:
    return {"nodes": list(nodes), **fields}


def nested(depth: int, inner: Any, wrap: Callable[[Any], Any]) -> Any:
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def flat(shape: Any, dtype: Any, data: Any) -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype, "data": data}


SPLIT = node(["p", "q"], "split", "x", attrs={"sizes": [1, 2]})

GRAPHS = {
    "one node": (graph(node("y", "square", "x")), ["y = square(x)"]),
    "as written": (
        graph(node("b", "cos", "x"), node("a", "sin", "x"), node("y", "add", "a", "b")),
        ["b = cos(x)", "a = sin(x)", "y = add(a, b)"],
    ),
    "the earliest that is ready": (
        graph(
            node("y", "add", "a", "b"),
            node("b", "cos", "a"),
            node("c", "exp", "x"),
            node("a", "sin", "x"),
            outputs=["y"],
        ),
        ["c = exp(x)", "a = sin(x)", "b = cos(a)", "y = add(a, b)"],
    ),
    "inline nodes stand before theirs": (
        graph(node("y", "add", call("sin", call("neg", "x")), call("cos", "x"))),
        ["_1 = neg(x)", "_2 = sin(_1)", "_3 = cos(x)", "y = add(_2, _3)"],
    ),
    "numbers follow the order of evaluation": (
        graph(node("y", "neg", call("sin", "h")), node("h", "cos", call("exp", "x"))),
        ["_1 = exp(x)", "h = cos(_1)", "_2 = sin(h)", "y = neg(_2)"],
    ),
    "literals": (
        graph(node("y", "add", call("mul", 2, "x"), call("div", [1, 2.5], True))),
        ["_1 = mul(2, x)", "_2 = div([1.0, 2.5], True)", "y = add(_1, _2)"],
    ),
    "integral literals": (graph(node("y", "add", [[1, 2], [3, 4]], 1.0)), ["y = add([[1, 2], [3, 4]], 1.0)"]),
    "words in lists are values": (graph(node("y", "add", ["NaN", "-Infinity"], "x")), ["y = add([nan, -inf], x)"]),
    "array objects": (
        graph(node("y", "add", flat([2], "float32", [1, 2]), flat([], "float64", [3]))),
        ["y = add(float32[1.0, 2.0], float64 3.0)"],
    ),
    "attributes": (
        graph(node("y", "sum", "x", attrs={"axis": [0, -1], "keepdims": True})),
        ["y = sum(x, axes=(0, -1), keepdims=True)"],
    ),
    "operands in attrs": (
        graph(node("y", "take", "x", attrs={"indices": [0, 2], "axis": 1})),
        ["y = take(x, [0, 2], axis=1)"],
    ),
    "an index": (
        graph(node("y", "slice", "x", attrs={"index": ["...", "newaxis", 0, {"start": 1}, [0, 1]]})),
        ["y = slice(x, index=(Ellipsis, None, 0, ('slice', 1, None, None), ('ints', (0, 1))))"],
    ),
    "variadic": (graph(node("y", "concat", "a", [1], "b", attrs={"axis": 0})), ["y = concat(a, [1], b)"]),
    "literal lists are operands": (graph(node("y", "concat", [1, 2], [3, 4])), ["y = concat([1, 2], [3, 4])"]),
    "one literal list is an operand": (graph(node("y", "stack", [1, 2])), ["y = stack([1, 2])"]),
    "an optional operand": (graph(node("y", "linear", "x", "w", "b")), ["y = linear(x, w, b)"]),
    "aliases of operations": (graph(node("y", "subtract", "x", 1)), ["y = sub(x, 1)"]),
    "several outputs": (graph(SPLIT, node("y", "sum", "q")), ["p, q = split(x, sizes=(1, 2))", "y = sum(q)"]),
    "a list of one id": (graph(node(["y"], "sin", "x")), ["y = sin(x)"]),
    "names like operations": (
        graph(node("y", "neg", "sin"), node("sin", "neg", "max")),
        ["sin = neg(max)", "y = neg(sin)"],
    ),
    "names after NFKC": (graph(node("ｈ", "sin", "ｘ"), node("y", "add", "h", "x")), ["h = sin(x)", "y = add(h, x)"]),
    "a node with what stands inside it": (
        graph(node("y", "add", call("sin", "a"), call("cos", "h")), node("h", "exp", call("neg", "x"))),
        ["_1 = neg(x)", "h = exp(_1)", "_2 = sin(a)", "_3 = cos(h)", "y = add(_2, _3)"],
    ),
    "nodes read by their place": (
        graph(
            node("y", "add", {"node": 2}, {"node": 1}),
            call("neg", {"node": 3}),
            call("cos", "h"),
            call("sin", call("exp", "x")),
            node("h", "sin", "x"),
        ),
        ["h = sin(x)", "_1 = cos(h)", "_2 = exp(x)", "_3 = sin(_2)", "_4 = neg(_3)", "y = add(_1, _4)"],
    ),
    "constants": (
        graph({"id": "a", "value": [1, 2]}, {"id": "b", "value": "NaN"}, node("y", "add", "a", "b")),
        ["a = ([1, 2])", "b = (nan)", "y = add(a, b)"],
    ),
    "words as arguments": (graph(node("y", "add", {"value": "NaN"}, "NaN")), ["y = add(nan, NaN)"]),
    "no nodes": ({"nodes": [], "inputs": {"x": {}}, "outputs": ["x"]}, []),
}


@pytest.mark.parametrize(("document", "expected"), GRAPHS.values(), ids=GRAPHS)
def test_nodes(document: dict[str, Any], expected: list[str]) -> None:
    assert shown(build(document)) == expected


OUTPUTS = [
    (graph(node("h", "sin", "x"), node("y", "neg", "h")), ["y"]),
    (graph(node("y", "neg", "h"), node("h", "sin", "x")), ["y"]),
    (graph(SPLIT), ["p", "q"]),
    (graph(SPLIT, outputs=["q"]), ["q"]),
    (graph(node("h", "sin", "x"), node("y", "neg", "h"), outputs=["y", "h", "x"]), ["y", "h", "x"]),
    (graph({"op": "sin", "args": ["x"]}), ["out"]),
    (graph(call("sin", "x"), {"id": "out", "alias": "x"}), ["out_"]),
    (graph(SPLIT, {"id": "r", "alias": "q"}), ["p", "q"]),
    (graph(SPLIT, {"id": "r", "alias": "q"}, outputs=["r", "p"]), ["r: q", "p"]),
    (graph({"op": "sin", "args": ["out"]}), ["out_"]),
]


@pytest.mark.parametrize(("document", "expected"), OUTPUTS)
def test_outputs(document: dict[str, Any], expected: list[str]) -> None:
    assert shown_outputs(build(document)) == expected


def test_aliases_name_nodes_inputs_and_aliases() -> None:
    further = {"a": "b", "b": "x", "c": "y", "d": "x"}
    nodes = [*({"id": name, "alias": of} for name, of in further.items()), node("y", "add", "a", 2)]
    built = build(graph(*nodes, outputs=["c", "a"]))
    assert (shown(built), shown_inputs(built), shown_outputs(built)) == (["y = add(x, 2)"], ["x"], ["c: y", "a: x"])
    assert built.aliases == {"a": "x", "b": "x", "c": "y", "d": "x"}


def test_places_are_held_to_the_limits_of_text() -> None:
    def tower(height: int, op: str) -> dict[str, Any]:
        return graph(
            call(op, *["x"] * (2 if op == "add" else 1)),
            *[call(op, {"node": i}, *["x"] * (op == "add")) for i in range(height - 2)],
            node("y", op, {"node": height - 2}, *["x"] * (op == "add")),
        )

    assert len(build(tower(100, "sin")).nodes) == 100
    assert len(build(tower(1000, "add")).nodes) == 1000
    with pytest.raises(LimitExceededError, match=r"place.*needs 101 depth.*limit is 100; give them ids"):
        build(tower(101, "sin"))
    with pytest.raises(LimitExceededError, match=r"place.*needs 51 depth.*limit is 50;"):
        build(tower(51, "sin"), max_depth=50)
    with pytest.raises(LimitExceededError, match=r"place.*needs 101 chain.*limit is 100;"):
        build(tower(101, "add"), max_chain=100)


def test_inputs_declared_first_then_in_order_of_appearance() -> None:
    document = graph(node("y", "add", "c", call("mul", "a", "b")), node("z", "neg", "d"), outputs=["y"])
    assert shown_inputs(build(document)) == ["c", "a", "b", "d"]
    document["inputs"] = {"b": {"shape": [-1, None, 2], "dtype": "int64"}, "unused": {}}
    assert shown_inputs(build(document)) == ["b[None, None, 2] int64", "unused", "c", "a", "d"]


def test_nodes_know_their_place() -> None:
    built = build(graph(node("y", "add", "h", call("sin", "x")), node("h", "cos", "x")))
    assert [(n.loc, n.is_named) for n in built.nodes] == [
        (("graph", "nodes", 1), True),
        (("graph", "nodes", 0, "args", 1), False),
        (("graph", "nodes", 0), True),
    ]


AT = ("graph", "nodes", 0)
TWO = (node("y", "sin", "x"), node("z", "cos", "x"))
Case = tuple[Any, type[AutogradError], list[Loc], str]

FAULTS: dict[str, Case] = {
    # The document
    "a list": ([], InvalidValueError, [("graph",)], "nodes list"),
    "null": (None, InvalidValueError, [("graph",)], "null"),
    "unknown field": (
        graph(*TWO[:1], output=["y"]),
        InvalidValueError,
        [("graph", "output")],
        "output nearest outputs",
    ),
    "no nodes": ({"outputs": ["y"]}, InvalidValueError, [("graph", "nodes")], "nodes null"),
    "nodes is an object": ({"nodes": {}}, InvalidValueError, [("graph", "nodes")], "nodes object"),
    "two ends": (graph(*TWO), InvalidValueError, [("graph", "outputs")], "outputs 2"),
    "empty": (graph(), InvalidValueError, [("graph", "outputs")], "outputs 0"),
    "outputs is a name": (graph(*TWO, outputs="y"), InvalidValueError, [("graph", "outputs")], '"y" list'),
    "no outputs": (graph(*TWO, outputs=[]), InvalidValueError, [("graph", "outputs")], "outputs"),
    "an output twice": (graph(*TWO, outputs=["y", "y"]), InvalidValueError, [("graph", "outputs", 1)], "y twice"),
    "an output is a number": (graph(*TWO, outputs=[1]), InvalidValueError, [("graph", "outputs", 0)], "string"),
    "unknown outputs": (
        graph(node("hidden", "sin", "x"), outputs=["hiden", "x", "foo"]),
        UnknownNameError,
        [("graph", "outputs", 0), ("graph", "outputs", 2)],
        "hiden hidden",
    ),
    # Nodes
    "a string": (graph("y"), InvalidValueError, [AT], '"y" op'),
    "no op": (graph({"id": "y", "args": ["x"]}), InvalidValueError, [(*AT, "op")], 'op node "y"'),
    "op is a number": (graph(node("y", 3, "x")), InvalidValueError, [(*AT, "op")], "op 3"),
    "arg": (graph({"id": "y", "op": "sin", "arg": ["x"]}), InvalidValueError, [(*AT, "arg")], 'arg args "y"'),
    "an attribute beside attrs": (
        graph(node("y", "sum", "x", axes=[0])),
        InvalidValueError,
        [(*AT, "axes")],
        "axes attrs",
    ),
    "args is a string": (graph({"id": "y", "op": "sin", "args": "x"}), InvalidValueError, [(*AT, "args")], "args"),
    "attrs is a list": (graph(node("y", "sin", "x", attrs=[])), InvalidValueError, [(*AT, "attrs")], "attrs"),
    "an alias of nothing": (
        graph(*TWO[:1], {"id": "a", "alias": 2}),
        InvalidValueError,
        [("graph", "nodes", 1, "alias")],
        'string 2 "a"',
    ),
    "an alias with an operation": (
        graph(*TWO[:1], {"id": "a", "alias": "x", "op": "sin"}),
        InvalidValueError,
        [("graph", "nodes", 1, "op")],
        'op alias "a"',
    ),
    "an alias without a name": (
        graph(*TWO[:1], {"alias": "x"}),
        InvalidValueError,
        [("graph", "nodes", 1, "id")],
        "null",
    ),
    "an alias of a taken name": (
        graph(*TWO[:1], {"id": "y", "alias": "x"}),
        InvalidValueError,
        [("graph", "nodes", 1, "id")],
        '"y" two',
    ),
    "a constant without a name": (
        graph(*TWO[:1], {"value": 2}),
        InvalidValueError,
        [("graph", "nodes", 1, "id")],
        "constant null",
    ),
    "a constant with two names": (
        graph(*TWO[:1], {"id": ["a", "b"], "value": 2}),
        InvalidValueError,
        [("graph", "nodes", 1, "id")],
        "constant list",
    ),
    "a constant that is a name": (
        graph(*TWO[:1], {"id": "a", "value": "x"}),
        InvalidValueError,
        [("graph", "nodes", 1, "value")],
        '"x" number "a"',
    ),
    "a constant with arguments": (
        graph(*TWO[:1], {"id": "a", "value": 2, "args": ["x"]}),
        InvalidValueError,
        [("graph", "nodes", 1, "args")],
        'args "a"',
    ),
    "an argument that is no value": (
        graph(node("y", "neg", {"value": "x"})),
        InvalidValueError,
        [(*AT, "args", 0, "value")],
        '"x" number "y"',
    ),
    "an argument with a field too many": (
        graph(node("y", "neg", {"value": 2, "dtype": "float32"})),
        InvalidValueError,
        [(*AT, "args", 0, "dtype")],
        'dtype value "y"',
    ),
    "nodes that nothing reads": (
        graph(call("sin", "x"), call("cos", "x"), *TWO, outputs=["y"]),
        InvalidValueError,
        [("graph", "nodes", 0), ("graph", "nodes", 1)],
        "nothing id nodes[0]",
    ),
    "a place that is none": (
        graph(node("y", "add", {"node": 1}, {"node": "x"})),
        InvalidValueError,
        [(*AT, "args", 0), (*AT, "args", 1)],
        'node 1 "y"',
    ),
    "a place with a name": (
        graph(*TWO[:1], node("z", "add", {"node": 0}, 1)),
        InvalidValueError,
        [("graph", "nodes", 1, "args", 0)],
        'nodes[0] id "z"',
    ),
    "the place of an alias": (
        graph(node("z", "add", {"node": 1}, 1), {"id": "a", "alias": "x"}),
        InvalidValueError,
        [(*AT, "args", 0)],
        'node 1 "z"',
    ),
    "a place twice": (
        graph(call("sin", "x"), node("z", "add", {"node": 0}, {"node": 0})),
        InvalidValueError,
        [("graph", "nodes", 1, "args", 1)],
        'nodes[0] twice id "z"',
    ),
    "an inline node with an id": (
        graph(node("y", "neg", {"id": "a", "op": "sin", "args": ["x"]})),
        InvalidValueError,
        [(*AT, "args", 0, "id")],
        'id "y"',
    ),
    # Names
    "an id twice": (graph(*TWO[:1] * 2), InvalidValueError, [("graph", "nodes", 1, "id")], '"y" two'),
    "an id twice after NFKC": (
        graph(node("y", "sin", "x"), node("ｙ", "cos", "x")),
        InvalidValueError,
        [("graph", "nodes", 1, "id")],
        "two",
    ),
    "an id twice in a node": (
        graph(node(["p", "p"], "split", "x", attrs={"sizes": 2})),
        InvalidValueError,
        [(*AT, "id")],
        "two",
    ),
    "an id is an input's": (graph(*TWO[:1], inputs={"y": {}}), InvalidValueError, [(*AT, "id")], "declared"),
    "an id is no name": (graph(node("2y", "sin", "x")), InvalidValueError, [(*AT, "id")], '"2y"'),
    "an id is reserved": (graph(node("_1", "sin", "x")), InvalidValueError, [(*AT, "id")], '"_1" reserved'),
    "an id is a constant": (graph(node("pi", "sin", "x")), InvalidValueError, [(*AT, "id")], '"pi" constant'),
    "an id is a keyword": (graph(node("lambda", "sin", "x")), InvalidValueError, [(*AT, "id")], "lambda lam"),
    "an id is null": (graph(node(None, "sin", "x")), InvalidValueError, [(*AT, "id")], "null"),
    "an id is empty": (graph(node("", "sin", "x")), InvalidValueError, [(*AT, "id")], '""'),
    "no ids": (graph(node([], "sin", "x")), InvalidValueError, [(*AT, "id")], "empty"),
    "an argument is no name": (graph(node("y", "sin", "a b")), InvalidValueError, [(*AT, "args", 0)], '"a b" node "y"'),
    "an argument is a constant": (graph(node("y", "mul", "x", "pi")), InvalidValueError, [(*AT, "args", 1)], "3.14"),
    "too many ids": (graph(node(["a", "b"], "sin", "x")), InvalidValueError, [AT], "1 output 2"),
    "too few ids": (graph(node("a", "split", "x", attrs={"sizes": 2})), InvalidValueError, [AT], '2 outputs 1 "a"'),
    "an inline node of two outputs": (
        graph(node("y", "neg", call("split", "x", sizes=2))),
        InvalidValueError,
        [(*AT, "args", 0)],
        '2 outputs in node "y"',
    ),
    # Literals
    "null in a literal": (
        graph(node("y", "add", "x", [1, None])),
        InvalidValueError,
        [(*AT, "args", 1, 1)],
        'null [1] "y"',
    ),
    "a null argument": (graph(node("y", "add", "x", None)), InvalidValueError, [(*AT, "args", 1)], "null"),
    "a ragged literal": (graph(node("y", "add", "x", [[1, 2], [3]])), InvalidValueError, [(*AT, "args", 1, 1)], "[1]"),
    "a lossy literal": (
        graph(node("y", "add", "x", flat([2], "int64", [1, 2.5]))),
        InvalidValueError,
        [(*AT, "args", 1, "data", 1)],
        "2.5 int64",
    ),
    "an operand in attrs is no name": (
        graph(node("y", "add", "x", attrs={"x2": "w"})),
        InvalidValueError,
        [(*AT, "attrs", "x2")],
        '"w" node "y"',
    ),
    "deep literals": (
        graph(node("y", "neg", nested(70, 1, lambda x: [x]))),
        InvalidValueError,
        [(*AT, "args", 0)],
        "axes",
    ),
    # Declarations
    "inputs is a list": (graph(*TWO[:1], inputs=[]), InvalidValueError, [("graph", "inputs")], "inputs list"),
    "declarations": (
        graph(
            *TWO[:1],
            inputs={
                "a": 3,
                "b": {"shap": [1]},
                "c": {"shape": 2},
                "d": {"shape": [-2, 1.5, None]},
                "2": {},
                "f": {"dtype": "f"},
            },
        ),
        InvalidValueError,
        [
            ("graph", "inputs", *place)
            for place in [
                ("a",),
                ("b", "shap"),
                ("c", "shape"),
                ("d", "shape", 0),
                ("d", "shape", 1),
                ("2",),
                ("f", "dtype"),
            ]
        ],
        'input "a"',
    ),
    "an input twice": (
        graph(*TWO[:1], inputs={"x": {}, "ｘ": {}}),
        InvalidValueError,
        [("graph", "inputs", "ｘ")],
        "twice",
    ),
    # Operations
    "unknown operations": (
        graph(node("h", "matmull", "x", "x"), node("y", "neg", call("tahn", "h"))),
        UnknownOperationError,
        [AT, ("graph", "nodes", 1, "args", 0)],
        'matmull matmul node "h"',
    ),
    "no end, for an operation is unknown": (
        graph(node("h", "sin", "x"), node("y", "foo", "h")),
        UnknownOperationError,
        [("graph", "nodes", 1)],
        "foo",
    ),
    "too few": (graph(node("h", "add", "x")), ArityError, [AT], 'add(x1, x2) node "h"'),
    "too many": (graph(node("h", "cos", "x", "x")), ArityError, [AT], 'cos(x) 2 node "h"'),
    "none of several": (graph(node("h", "concat")), ArityError, [AT], "concat 0"),
    "an attribute in order": (graph(node("h", "sum", "x", 0)), ArityError, [AT], "sum attrs"),
    "a literal for an optional operand": (graph(node("h", "linear", "x", "w", 0.5)), ArityError, [AT], "linear"),
    "keepdim": (
        graph(node("s", "sum", "x", attrs={"keepdim": True})),
        BadAttributeError,
        [AT],
        'keepdim keepdims node "s"',
    ),
    "an index in words": (
        graph(node("s", "slice", "x", attrs={"index": ["abc"]})),
        BadAttributeError,
        [AT],
        "slice abc",
    ),
    "a missing attribute": (graph(node("s", "reshape", "x")), BadAttributeError, [AT], "reshape shape"),
    # Cycles
    "a cycle of two": (graph(node("a", "sin", "b"), node("b", "cos", "a")), CycleError, [AT], "a -> b -> a"),
    "a cycle of one": (graph(node("a", "add", "a", "x"), outputs=["a"]), CycleError, [AT], "a -> a"),
    "a cycle through an inline node": (
        graph(node("a", "sin", call("cos", "a"))),
        CycleError,
        [(*AT, "args", 0)],
        "a -> a",
    ),
    "a cycle away from the output": (
        graph(
            *TWO[:1],
            node("b", "sin", "a"),
            node("a", "sin", "c"),
            node("d", "neg", "c"),
            node("c", "sin", "b"),
            outputs=["y"],
        ),
        CycleError,
        [("graph", "nodes", 1)],
        "b -> c -> a -> b",
    ),
    "a cycle by places": (
        graph(call("sin", {"node": 1}), call("cos", {"node": 0}), *TWO, outputs=["y"]),
        CycleError,
        [AT, ("graph", "nodes", 1)],
        "itself nodes[0]",
    ),
    "a cycle through a place": (
        graph(call("sin", "y"), node("y", "cos", {"node": 0})),
        CycleError,
        [AT],
        "y -> y",
    ),
    "a cycle of aliases": (
        graph(*TWO[:1], {"id": "a", "alias": "b"}, {"id": "b", "alias": "a"}),
        CycleError,
        [("graph", "nodes")],
        '"a" alias itself',
    ),
    "a cycle through an alias": (
        graph({"id": "a", "alias": "y"}, node("y", "neg", "a")),
        CycleError,
        [("graph", "nodes", 1)],
        "y -> y",
    ),
    "two cycles": (
        graph(node("a", "sin", "b"), node("b", "cos", "a"), node("c", "sin", "c"), node("d", "add", "c", "b")),
        CycleError,
        [AT, ("graph", "nodes", 2)],
        "a -> b -> a",
    ),
}


@pytest.mark.parametrize(("document", "kind", "places", "words"), FAULTS.values(), ids=FAULTS)
def test_faults_say_where(document: Any, kind: type[AutogradError], places: list[Loc], words: str) -> None:
    with pytest.raises(AutogradError) as caught:
        build(document)
    assert type(caught.value) is kind, caught.value
    assert [fault.loc for fault in caught.value.faults] == places
    for word in words.split():
        assert word in caught.value.detail


def test_faults_of_the_caller_are_reported_with_these() -> None:
    faults = Faults()
    faults.add(InvalidValueError, "from before", ("inputs", "x"))
    with pytest.raises(InvalidValueError) as caught:
        build(graph(node("2y", "sine", "x"), outputs=["y"]), faults)
    assert [fault.loc for fault in caught.value.faults] == [("inputs", "x"), (*AT, "id")]


# Limits

INLINE = nested(50, "x", lambda inner: call("sin", inner))
DEEP = {
    "inline nodes": graph(node("y", "neg", INLINE)),
    "100,000 inline nodes": graph(node("y", "neg", nested(100_000, "x", lambda inner: call("sin", inner)))),
    "100,000 lists": graph(node("y", "neg", nested(100_000, 1, lambda inner: [inner]))),
    "100,000 lists as a document": nested(100_000, 1, lambda inner: [inner]),
    "100,000 lists as attribute": graph(
        node("y", "slice", "x", attrs={"index": nested(100_000, 1, lambda inner: [inner])})
    ),
}


@pytest.mark.parametrize("document", DEEP.values(), ids=DEEP)
def test_depth_is_limited(document: Any) -> None:
    with quickly(), pytest.raises(LimitExceededError) as caught:
        build(document)
    for word in ("depth", "101", "100"):
        assert word in caught.value.detail
    assert caught.value.limit == "depth"


def test_limits_are_parameters() -> None:
    document = graph(node("y", "neg", nested(5, "x", lambda inner: call("sin", inner))))
    assert len(build(document, max_depth=14, max_nodes=6).nodes) == 6
    with pytest.raises(LimitExceededError, match="limit is 13"):
        build(document, max_depth=13)
    with pytest.raises(LimitExceededError, match=r"limit is 5$") as caught:
        build(document, max_nodes=5)
    assert caught.value.limit == "nodes"


def test_a_raised_limit_holds() -> None:
    document = graph(node("y", "neg", nested(5000, "x", lambda inner: call("sin", inner))))
    assert len(build(document, max_depth=20_000).nodes) == 5001


LARGE = {
    "a chain": graph(*[node(f"n{i}", "add", f"n{i - 1}" if i else "x", 1) for i in range(10_000)]),
    "a chain backwards": graph(*[node(f"n{i}", "add", f"n{i - 1}" if i else "x", 1) for i in range(10_000)][::-1]),
    "a cycle": graph(*[node(f"n{i}", "sin", f"n{(i + 1) % 10_000}") for i in range(10_000)]),
    "a wide node": graph(node("y", "stack", *["x"] * 100_000)),
    "a long list": graph(node("y", "neg", [0.5] * 1_000_000)),
    "many cycles": graph(*[node(f"n{i}", "sin", f"n{i}") for i in range(10_000)]),
    "unknown outputs": graph(
        *[node(f"n{i}", "sin", "x") for i in range(10_000)], outputs=[f"m{i}" for i in range(10_000)]
    ),
    "many faults": graph(*[node(f"n{i}", f"foo{i}", "x") for i in range(10_000)]),
    "many fields": graph({"id": "y", "op": "sin", "args": ["x"], **{f"f{i}": i for i in range(10_000)}}),
}


@pytest.mark.thorough
@pytest.mark.parametrize("document", LARGE.values(), ids=LARGE)
def test_large_documents_take_linear_time(document: Any) -> None:
    with quickly():
        assert_civil(document)


# Properties


def assert_civil(document: Any) -> Graph | None:
    """A sound graph or an error of ours comes, in time."""
    built = None
    with quickly(), suppress(AutogradError):
        built = build(document)
    if built is None:
        return None
    known = {i.name for i in built.inputs}
    for n in built.nodes:
        assert known.issuperset(arg for arg in n.args if isinstance(arg, str))
        assert known.isdisjoint(n.ids)
        known.update(n.ids)
    assert built.outputs
    assert known.issuperset(o.id for o in built.outputs)
    return built


NAMES = ["x", "y", "z", "w", "h"]
FIELDS = [
    "nodes",
    "outputs",
    "inputs",
    "id",
    "op",
    "args",
    "attrs",
    "shape",
    "dtype",
    "data",
    "base64",
    "index",
    "axis",
]
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([*NAMES, "sin", "int64"])
)
documents = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=30,
)


@given(documents | st.dictionaries(st.sampled_from(FIELDS[:3]), documents))
@settings(max_examples=examples(300))
def test_random_documents(document: Any) -> None:
    assert_civil(document)


number = st.integers(-3, 3) | st.floats(-9, 9) | st.sampled_from(["NaN", "Infinity"])
values = number | st.booleans() | st.lists(number, max_size=3) | st.just(flat([2], "int64", [1, 2]))
attributes = st.dictionaries(
    st.sampled_from(["axes", "axis", "keepdims", "shape", "sizes", "index", "dtype", "x", "indices"]),
    documents | values,
    max_size=2,
)
ids = st.sampled_from([*NAMES, "p", "q", "max", "_1", "pi", ""]) | st.lists(st.sampled_from(NAMES), max_size=2)


def nodes(arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    fields = {"op": st.sampled_from([*OPERATIONS, "sine"]), "args": st.lists(arguments, max_size=3)}
    return st.fixed_dictionaries(fields, optional={"id": ids, "attrs": attributes})


arguments = st.recursive(st.sampled_from(NAMES) | values, nodes, max_leaves=4)


@given(
    st.fixed_dictionaries(
        {"nodes": st.lists(nodes(arguments), max_size=4)},
        optional={"outputs": st.lists(st.sampled_from(NAMES), max_size=2), "inputs": documents},
    )
)
@settings(max_examples=examples(500))
def test_random_graphs(document: Any) -> None:
    assert_civil(document)


@given(st.permutations(range(8)), st.data())
def test_the_order_of_nodes_does_not_matter(order: list[int], data: st.DataObject) -> None:
    chosen = [
        node(f"n{i}", "add", *[data.draw(st.sampled_from(["x", *(f"n{j}" for j in range(i))])) for _ in range(2)])
        for i in range(8)
    ]
    straight = build(graph(*chosen, outputs=["n7"]))
    mixed = build(graph(*[chosen[i] for i in order], outputs=["n7"]))
    assert [n.ids[0] for n in straight.nodes] == [f"n{i}" for i in range(8)]
    assert sorted(shown(mixed)) == sorted(shown(straight))
    assert assert_civil(graph(*[chosen[i] for i in order], outputs=["n7"]))
