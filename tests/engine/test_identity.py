"""Identity: what changes a program's id and what does not, on any machine; and the key that caches go by."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.core.errors import InvalidValueError, UnknownNameError
from engine.graph import Graph
from engine.programs import build, parse
from engine.programs.binding import bind
from engine.programs.identity import program_id
from engine.programs.text.write import as_document, as_text, declarations
from tests.engine.graphs import quickly

GOLDEN = Path(__file__).parent / "data" / "programs.json"
GOLDEN_PROGRAMS: dict[str, dict[str, Any]] = json.loads(GOLDEN.read_text())


def node(name: Any, op: str, *args: Any, **attrs: Any) -> dict[str, Any]:
    return {"id": name, "op": op, "args": list(args), **({"attrs": attrs} if attrs else {})}


def graph(*nodes: Any, **fields: Any) -> Graph:
    return build({"nodes": list(nodes), **fields})


def golden(program: dict[str, Any]) -> Graph:
    read = build(program["graph"]) if "graph" in program else parse(program["expr"], program.get("inputs"))
    return bind(read, {name: np.array(*value) for name, value in program.get("bind", {}).items()})


@pytest.mark.parametrize("program", GOLDEN_PROGRAMS.values(), ids=GOLDEN_PROGRAMS)
def test_ids_never_change(program: dict[str, Any]) -> None:
    """An id is stored by others: a change here needs another tag in the encoding, and a good reason."""
    assert program_id(golden(program)) == program["id"]


def test_golden_ids_differ() -> None:
    assert len({program["id"] for program in GOLDEN_PROGRAMS.values()}) == len(GOLDEN_PROGRAMS)


_SCRIPT = """
import json, sys
from tests.engine.test_identity import GOLDEN_PROGRAMS, golden, program_id
print(json.dumps([program_id(golden(program)) for program in GOLDEN_PROGRAMS.values()]))
"""


def ids_in_another_process(python: str, **environment: str) -> list[str]:
    command = [python, "-c", _SCRIPT]
    found = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return list(json.loads(found.stdout))


@pytest.mark.parametrize("seed", ["0", "1", "4294967295"])
def test_hashing_of_strings_does_not_matter(seed: str) -> None:
    expected = [program["id"] for program in GOLDEN_PROGRAMS.values()]
    assert ids_in_another_process(sys.executable, PYTHONHASHSEED=seed) == expected


BASE = "h = tanh(2.0 * x + array([1, 2])); p, q = split(h, [1, 1]); g = q; y = sum(p * q, axes=0); y, h"
DECLARED: dict[str, Any] = {"x": {"shape": [-1, 2], "dtype": "float64"}, "unused": {}}
EDITS = {
    "the name of a node": BASE.replace("h", "k").replace("tank", "tanh"),
    "the name of an input": (BASE.replace("x + ", "z + "), {"z": DECLARED["x"], "unused": {}}),
    "the name of a node that is no output": BASE.replace("p", "r").replace("srlit", "split"),
    "an operation": BASE.replace("tanh", "sinh"),
    "an order of operands": BASE.replace("p * q", "q * p"),
    "an attribute": BASE.replace("axes=0", "axes=1"),
    "an attribute of another form": BASE.replace("axes=0", "axes=[0]"),
    "an attribute that is left out": BASE.replace(", axes=0", ""),
    "a literal": BASE.replace("2.0", "2.5"),
    "an integer for a float": BASE.replace("2.0", "2"),
    "a sign": BASE.replace("2.0", "-2.0"),
    "a zero": BASE.replace("2.0", "0.0"),
    "the sign of a zero": BASE.replace("2.0", "-0.0"),
    "an integer zero": BASE.replace("2.0", "0"),
    "a bool": BASE.replace("2.0", "False"),
    "a strong literal": BASE.replace("2.0", "array(2.0)"),
    "a strong literal of another dtype": BASE.replace("2.0", 'array(2.0, "float32")'),
    "a literal of one element": BASE.replace("2.0", "[2.0]"),
    "a weak list": BASE.replace("array([1, 2])", "[1, 2]"),
    "a weak list of floats": BASE.replace("array([1, 2])", "[1.0, 2.0]"),
    "a dtype": BASE.replace("[1, 2]", "[1, 2], 'int64'"),
    "a shape": BASE.replace("[1, 2]", "[[1, 2]]"),
    "a number that is none": BASE.replace("2.0", "nan"),
    "infinity": BASE.replace("2.0", "inf"),
    "a constant with a name": "c = 2.0; " + BASE.replace("2.0", "c"),
    "a name for an expression": BASE.replace("h = tanh(2.0 * x +", "k = 2.0 * x; h = tanh(k +"),
    "the order of nodes": BASE.replace("g = q; ", "").replace("p, q =", "g = h; p, q ="),
    "the order of outputs": BASE.replace("y, h", "h, y"),
    "fewer outputs": BASE.replace("y, h", "y"),
    "another output of one node": BASE.replace("y, h", "p, h"),
    "an alias less": BASE.replace("g = q; ", ""),
    "another alias": BASE.replace("g = q", "g = p"),
    "the name of an alias": BASE.replace("g = q", "k = q"),
    "a declared length": (BASE, DECLARED | {"x": {"shape": [3, 2], "dtype": "float64"}}),
    "a declared dtype": (BASE, DECLARED | {"x": {"shape": [-1, 2], "dtype": "float32"}}),
    "no declared dtype": (BASE, DECLARED | {"x": {"shape": [-1, 2]}}),
    "no declared shape": (BASE, DECLARED | {"x": {"dtype": "float64"}}),
    "a declared scalar": (BASE, DECLARED | {"x": {"shape": [], "dtype": "float64"}}),
    "no unused input": (BASE, {"x": DECLARED["x"]}),
    "the name of an unused input": (BASE, {"x": DECLARED["x"], "used": {}}),
    "nothing declared": (BASE, None),
}


def edited(change: Any) -> Graph:
    return parse(*change) if isinstance(change, tuple) else parse(change, DECLARED)


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_whatever_changes_what_is_computed_or_named_changes_the_id(change: Any) -> None:
    assert change != BASE
    assert program_id(edited(change)) != program_id(parse(BASE, DECLARED))


def test_every_edit_gives_an_id_of_its_own() -> None:
    assert len({program_id(edited(change)) for change in EDITS.values()}) == len(EDITS)


SAME = {
    "white space": ("  y=sin( x )*2", "y = sin(x) * 2"),
    "comments and lines": ("y = sin(x)  # here\n\n# there\ny * 2", "y = sin(x); y * 2"),
    "parentheses": ("((x)) + (y * 2)", "x + y * 2"),
    "spellings of operations": ("subtract(divide(x, 2), permute_dims(x))", "x / 2 - transpose(x)"),
    "spellings of attributes": ("sum(x, axis=0)", "sum(x, axes=0)"),
    "attributes in order": ("sum(x, 0, True)", "sum(x, keepdims=True, axes=0)"),
    "defaults": ("sum(x, axes=None, keepdims=False)", "sum(x)"),
    "spellings of numbers": ("0x10 * x + 1_0.5e0", "16 * x + 10.5"),
    "names of constants": ("2 * pi * x", "2 * 3.141592653589793 * x"),
    "signs of numbers": ("x * - -2", "x * 2"),
    "tuples": ("x[(0, 1)] + (1, 2)", "x[0, 1] + [1, 2]"),
    "strings": ("astype(x, 'float32')", 'astype(x, dtype="float32")'),
    "the name of an output by itself": ("y = x * 2; y", "y = x * 2"),
    "an output without a name": ("out = x * 2", "x * 2"),
    "a plus": ("+x * +2", "x * 2"),
    "the order of aliases": ("y = x * 2; a = y; b = y; y", "y = x * 2; b = y; a = y; y"),
    "names after NFKC": ("ｙ = ｘ * 2", "y = x * 2"),
    "integers that are none": ("x * 1000000000000000000000", "x * 1e21"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_spelling_does_not_change_the_id(one: str, other: str) -> None:
    assert program_id(parse(one)) == program_id(parse(other))


def test_both_forms_have_one_id() -> None:
    written = graph(
        node("y", "add", {"op": "slice", "args": ["h"], "attrs": {"index": [0, {"start": 1}]}}, 0.5),
        node("h", "matmul", "x", "w"),
    )
    assert program_id(written) == program_id(parse("h = x @ w; y = h[0, 1:] + 0.5"))


def test_the_order_in_which_nodes_are_listed_counts_where_it_is_that_of_evaluation() -> None:
    a, b, y = node("a", "sin", "x"), node("b", "cos", "z"), node("y", "add", "a", "b")
    assert program_id(graph(a, b, y)) == program_id(graph(a, y, b)) == program_id(graph(y, a, b))
    assert program_id(graph(a, b, y)) != program_id(graph(b, a, y))


def test_the_order_of_declarations_is_that_of_an_object_and_does_not_count() -> None:
    declared: dict[str, Any] = {"b": {"shape": [2]}, "unused": {}, "a": {"dtype": "int64"}}
    backwards = dict(reversed(declared.items()))
    one, other = parse("c * a + b", declared), parse("c * a + b", backwards)
    assert [i.name for i in one.inputs] == ["b", "unused", "a", "c"]
    assert [i.name for i in other.inputs] == ["a", "unused", "b", "c"]
    assert program_id(one) == program_id(other)
    # A document's nodes may read inputs in an order that is not that of evaluation.
    y, h = node("y", "add", "a", "h"), node("h", "sin", "b")
    assert program_id(graph(y, h)) == program_id(graph(h, y))


def test_bits_of_constants_count_and_their_places_do_not() -> None:
    def constant(value: Any, dtype: str = "float64") -> str:
        array = np.array(value, dtype)
        data = {"shape": list(array.shape), "dtype": dtype, "data": array.reshape(-1).tolist()}
        return program_id(graph(node("y", "add", "x", data)))

    assert constant([1.0, 0.0]) != constant([1.0, -0.0])
    assert constant([1.0]) != constant([np.nextafter(1.0, 2.0)])
    assert len({constant([1, 0], dtype) for dtype in ("float64", "float32", "int64", "bool")}) == 4
    assert len({constant(np.zeros(shape)) for shape in [(0,), (0, 3), (3, 0), (1, 0)]}) == 4


def test_there_is_one_nan() -> None:
    def constant(bits: int) -> str:
        value = {"shape": [1], "dtype": "float64", "base64": encoded(np.array([bits], np.uint64))}
        return program_id(graph(node("y", "add", "x", value)))

    assert constant(0x7FF8000000000000) == constant(0xFFF8000000000001) == program_id(parse("y = x + array([nan])"))


def encoded(array: Any) -> str:
    return base64.b64encode(array.tobytes()).decode()


# Binding


def test_binding_fixes_inputs() -> None:
    free = parse("mean((X @ w - t) ** 2)", {"X": {"shape": [-1, 2]}, "t": {"dtype": "float64"}})
    data = {"X": np.ones((3, 2)), "t": np.zeros(3)}
    bound = bind(free, data)
    assert [i.name for i in bound.inputs] == ["w"]
    assert list(bound.bound) == ["X", "t"]
    assert not bound.bound["X"].flags.writeable
    data["X"][0, 0] = 5.0
    assert bound.bound["X"][0, 0] == 1.0
    assert [i.name for i in free.inputs] == ["X", "t", "w"]
    assert program_id(bind(bind(free, {"t": np.zeros(3)}), {"X": np.ones((3, 2))})) == program_id(bound)


def test_bound_values_count_in_the_id() -> None:
    free = parse("a * x + b")
    values: list[dict[str, Any]] = [
        {},
        {"a": 1.0},
        {"b": 1.0},
        {"a": 2.0},
        {"a": -0.0},
        {"a": 0.0},
        {"a": np.array([1.0])},
        {"a": np.array(1.0, np.float32)},
        {"a": np.array(1)},
        {"a": np.array(True)},
        {"a": 1.0, "b": 1.0},
    ]
    assert len({program_id(bind(free, value)) for value in values}) == len(values)
    assert program_id(bind(free, {"a": np.array(1.0)})) == program_id(bind(free, {"a": 1.0}))
    assert program_id(bind(free, {"b": 2.0, "a": 1.0})) == program_id(bind(free, {"a": 1.0, "b": 2.0}))


def test_a_declaration_does_not_count_once_its_input_is_bound() -> None:
    plain, declared = parse("a * x"), parse("a * x", {"a": {"shape": [-1]}})
    value = {"a": np.ones(2)}
    assert program_id(plain) != program_id(declared)
    assert program_id(bind(plain, value)) == program_id(bind(declared, value))


BINDINGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"alpah": 1.0}, UnknownNameError, 'bind: the program has no input "alpah"; nearest: alpha'),
    ({"z": 1.0}, UnknownNameError, 'bind: the program has no input "z"; it has x, alpha'),
    ({"fixed": 1.0}, InvalidValueError, 'bind: "fixed" is bound already'),
    ({"x": np.ones(3)}, InvalidValueError, r'bind: input "x" has shape \[3\]; declared \[-1, 2\]'),
    ({"x": np.ones((3, 1))}, InvalidValueError, r'bind: input "x" has shape \[3, 1\]; declared \[-1, 2\]'),
    ({"x": np.ones((3, 2), int)}, InvalidValueError, 'bind: input "x" has dtype int64; declared float64'),
    ({"y": 1.0}, UnknownNameError, "no input"),
]


@pytest.mark.parametrize(("values", "kind", "words"), BINDINGS, ids=[str(row[0]) for row in BINDINGS])
def test_what_cannot_be_bound(values: dict[str, Any], kind: type[Exception], words: str) -> None:
    declared = {"x": {"shape": [-1, 2], "dtype": "float64"}}
    program = bind(parse("y = sum(x) * alpha * fixed", declared), {"fixed": 1.0})
    with pytest.raises(kind, match=words) as caught:
        bind(program, values)
    assert [fault.loc for fault in caught.value.faults] == [("bind", *values)]  # type: ignore[attr-defined]


def test_bound_programs_are_read_back_with_their_values() -> None:
    declared: dict[str, Any] = {"unused": {}, "x": {"shape": [2]}, "w": {}}
    program = bind(parse("a = w; y = sum(x * w * v)", declared), {"w": np.ones(2), "unused": np.ones((0, 3))})
    for again in (build(as_document(program)), parse(as_text(program), declarations(program))):
        assert program_id(again) != program_id(program)
        assert program_id(bind(again, program.bound)) == program_id(program)


# Size


def test_long_programs_take_linear_time() -> None:
    statements = [f"y{i + 1} = sin(y{i}) * x + {i}.5" for i in range(3_500)]
    program = parse("y0 = x * 1; " + "; ".join(statements))
    assert len(program.nodes) > 10_000
    with quickly():
        program_id(program)
        as_document(program)
