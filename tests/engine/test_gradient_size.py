"""The size of a gradient that is counted from the program alone, against what the gradient then records."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Faults, InvalidValueError, LimitExceededError, NotDifferentiableError, UnknownNameError
from engine.core.operation import example_operands
from engine.core.table import rows
from engine.graph import Graph, Input, Limits, Node, Output
from engine.programs import Backward, interpreter, parse, prepare
from engine.programs.call import check_call
from engine.programs.derivatives import hessian, hvp, vjp
from engine.programs.function import ProgramFunction
from engine.programs.gradient_size import _is_smooth, _slope, least_size
from engine.transforms import grad
from tests.engine.test_plans_and_tapes import BINARY, UNARY
from tests.sampling import examples

N = 6_000
SINES = "\n".join(["v0 = x", *(f"v{i + 1} = sin(v{i}) + x" for i in range(N)), f"v{N}"])
lines = st.lists(
    st.tuples(
        st.sampled_from([*UNARY, *BINARY, *BINARY, "stop_gradient", "max", "times", "constant", "again"]),
        st.integers(1, 6),
        st.integers(1, 6),
    ),
    min_size=2,
    max_size=14,
)


def written(rows: list[tuple[str, int, int]]) -> str:
    """A program of numbers as text; its last two values are its output."""
    names = ["a", "b", "two"]
    text = ["two = 2.0"]
    for name, first, second in rows:
        x, y = (names[-min(back, len(names))] for back in (first, second))
        arguments = {
            "times": f"mul(0.5, {x})",
            "max": f"max({x})",
            "constant": f"0.{first}",
            "again": "sin(a) * exp(b)",
        }
        call = arguments.get(name) or (f"{name}({x}, {y})" if name in BINARY else f"{name}({x})")
        if name.startswith(("is", "less", "equal", "logical")):
            call = f"1.0 * {call}"
        names.append(f"v{len(text)}")
        text.append(f"{names[-1]} = {call}")
    return "\n".join([*text, f"{names[-1]} * {names[-2]} * a * b"])


def traced(graph: Graph, inputs: dict[str, float]) -> int:
    """How many nodes the value and the gradient have in a trace, which is what the limit is on."""
    call = check_call(graph, inputs, Faults())
    trace = call.trace()
    function = ProgramFunction(call, trace)
    grad(lambda xs: function(xs)[graph.outputs[0].id])(function.inputs)
    return trace.operations


@settings(max_examples=examples(300))
@given(lines, st.floats(-2, 2), st.floats(-2, 2))
def test_is_a_lower_bound(rows: list[tuple[str, int, int]], a: float, b: float) -> None:
    graph = parse(written(rows), inputs={"a": {}, "b": {}})
    assert least_size(graph, [graph.outputs[0].id], ["a", "b"]) <= traced(graph, {"a": a, "b": b}), rows


def test_every_row_can_be_counted() -> None:
    """Whichever of its operands are constants; attributes are keys of a dict there."""
    for op in rows():
        for example in op.examples:
            xs, attrs = example_operands(op, example)
            node = Node(("y",), op, ("a",) * len(xs), attrs, is_named=True, loc=())
            graph = Graph((Input("a"),), (node,), (Output("y", "y"),))
            assert least_size(graph, ["y"], ["a"]) >= 0
            for fixed in product([False, True], repeat=len(xs)) if op.body is None and len(xs) <= 3 else ():
                for i in range(len(xs)):
                    if _is_smooth(op, i):
                        assert isinstance(_slope(op, i, False, fixed).steps, tuple)
                        assert len(_slope(op, i, True, fixed).steps) <= len(_slope(op, i, False, fixed).steps), op


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("x", 0),
        ("sin(x)", 2),
        ("sin(sin(x))", 5),
        ("sin(x) + x", 3),
        ("x * y", 1),
        ("exp(x * y)", 4),
        ("2 * x - 3 * y", 1),
        ("floor(sin(x))", 2),
        ("sin(stop_gradient(x))", 2),
        ("x + y + x + y + x", 4),
        ("sin(where(x > 0, x, y))", 2),
        ("sin(x) * sin(x)", 5),
        ("two = 2.0\ntwo * x + x / two", 1),
        ("sin(x) * cos(x)", 6),
    ],
)
def test_by_hand(text: str, size: int) -> None:
    graph = parse(text, inputs={"x": {}, "y": {}})
    assert least_size(graph, [graph.outputs[0].id], ["x", "y"]) == size


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a program is traced."""

    def refused(*_: Any) -> None:
        raise AssertionError("the program is traced")

    monkeypatch.setattr(interpreter, "_run", refused)


@pytest.mark.usefixtures("untraced")
def test_a_gradient_that_is_too_long_is_refused_before_it_is_traced() -> None:
    graph, limits = parse(SINES), Limits(max_nodes=25_000)
    refused = "the program with its gradient needs 29,998 nodes, the limit is 25,000"
    for prepared in (
        lambda: prepare(graph, {"x": 1.0}, backward=Backward(), limits=limits),
        lambda: vjp(graph, {"x": 1.0}, {f"v{N}": 1.0}, limits=limits),
        lambda: hessian(graph, {"x": 1.0}, limits=limits),
        lambda: hvp(graph, {"x": 1.0}, {"x": 1.0}, limits=limits),
    ):
        with pytest.raises(LimitExceededError) as caught:
            prepared()
        assert str(caught.value) == refused
        assert caught.value.limit == "nodes"


@pytest.mark.parametrize("step", ["2 * v{} + x", "v{} + x", "v{} - x", "stop_gradient(sin(v{})) + x"])
def test_steps_that_leave_no_gradient_count_for_themselves_alone(step: str) -> None:
    text = "\n".join(["v0 = x", *(f"v{i + 1} = {step.format(i)}" for i in range(N)), f"v{N}"])
    graph = parse(text)
    assert least_size(graph, [graph.outputs[0].id], ["x"]) <= len(graph.nodes)


def test_a_long_program_that_fits_is_not_refused() -> None:
    graph = parse("\n".join(["v0 = x", *(f"v{i + 1} = v{i} + 1 * x" for i in range(2_500)), "v2500"]))
    limits = Limits(max_nodes=len(graph.nodes) + 10)
    assert prepare(graph, {"x": 1.0}, backward=Backward(), limits=limits).run().grads == {"x": 2501.0}


LONG = {
    "named constants": "v{i} * decay + gain * x",
    "a named divisor": "v{i} + (x - y) / two",
    "a named exponent": "v{i} + (x - y) ** two",
    "equal steps": "v{i} + sin(x) * sin(x) + exp(x * y)",
    "a sum and its cosine": "v{i} + sin(x * {i}.5) * cos(x * {i}.5)",
}


@pytest.mark.parametrize("step", LONG.values(), ids=LONG)
def test_is_a_lower_bound_for_long_programs(step: str) -> None:
    """What the gradient has in a trace is the limit that it must be accepted with."""
    rows = [f"v{i + 1} = {step.replace('{i}', str(i))}" for i in range(400)]
    graph = parse("\n".join(["two = 2.0", "decay = 0.9", "gain = 0.1", "v0 = x", *rows, "v400"]), inputs={"y": {}})
    inputs = dict.fromkeys([i.name for i in graph.inputs], 0.5)
    assert least_size(graph, [graph.outputs[0].id], list(inputs)) <= traced(graph, inputs)


def test_faults_come_before_the_limit() -> None:
    graph = parse(SINES)
    for wrong, kind in [({"x": 1.0, "n": 1}, UnknownNameError), ({"x": np.array(1)}, NotDifferentiableError)]:
        with pytest.raises((kind, InvalidValueError)):
            prepare(graph, wrong, backward=Backward(wrt=("x",)), limits=Limits(max_nodes=25_000))


def test_a_short_program_is_counted_after_it_is_traced() -> None:
    graph = parse("sin(x) * cos(x)")
    with pytest.raises(LimitExceededError, match="the program needs 5 nodes, the limit is 4"):
        prepare(graph, {"x": 1.0}, backward=Backward(), limits=Limits(max_nodes=4))
