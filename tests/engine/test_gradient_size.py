"""The size of a gradient that is counted from the program alone, against what the gradient then records."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Faults, LimitExceededError
from engine.graph import Graph, Limits
from engine.programs import Backward, interpreter, parse, prepare
from engine.programs.call import check_call
from engine.programs.derivatives import hessian, hvp, vjp
from engine.programs.function import ProgramFunction
from engine.programs.gradient_size import gradient_size
from engine.transforms import grad
from tests.engine.test_plans_and_tapes import BINARY, UNARY
from tests.sampling import examples

N = 6_000
SINES = "\n".join(["v0 = x", *(f"v{i + 1} = sin(v{i}) + x" for i in range(N)), f"v{N}"])
lines = st.lists(
    st.tuples(
        st.sampled_from([*UNARY, *BINARY, *BINARY, "stop_gradient", "max", "times"]),
        st.integers(1, 4),
        st.integers(1, 4),
    ),
    min_size=2,
    max_size=12,
)


def written(rows: list[tuple[str, int, int]]) -> str:
    """A program of numbers as text; its last two values are its output."""
    names = ["a", "b"]
    text = []
    for name, first, second in rows:
        x, y = (names[-min(back, len(names))] for back in (first, second))
        arguments = {"times": f"mul(0.5, {x})", "max": f"max({x})"}
        call = arguments.get(name) or (f"{name}({x}, {y})" if name in BINARY else f"{name}({x})")
        if name.startswith(("is", "less", "equal", "logical")):
            call = f"1.0 * {call}"
        names.append(f"v{len(text)}")
        text.append(f"{names[-1]} = {call}")
    return "\n".join([*text, f"{names[-1]} * {names[-2]} * a * b"])


def recorded(graph: Graph, inputs: dict[str, float]) -> int:
    """How many operations the value and the gradient record, merged and simplified ones with them."""
    call = check_call(graph, inputs, Faults())
    trace = call.trace()
    function = ProgramFunction(call, trace)
    grad(lambda xs: function(xs)[graph.outputs[0].id])(function.inputs)
    return trace._recorded


@settings(max_examples=examples(300))
@given(lines, st.floats(-2, 2), st.floats(-2, 2))
def test_counts_no_more_than_is_recorded(rows: list[tuple[str, int, int]], a: float, b: float) -> None:
    graph = parse(written(rows))
    size = len(graph.nodes) + gradient_size(graph, [graph.outputs[0].id], ["a", "b"])
    assert size <= recorded(graph, {"a": a, "b": b}), rows


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("x", 0),
        ("sin(x)", 1),
        ("sin(sin(x))", 3),
        ("sin(x) + x", 2),
        ("x * y", 0),
        ("exp(x * y)", 2),
        ("2 * x - 3 * y", 0),
        ("floor(sin(x))", 0),
        ("sin(stop_gradient(x))", 0),
        ("x + y + x + y + x", 0),
        ("sin(where(x > 0, x, y))", 3),
    ],
)
def test_by_hand(text: str, size: int) -> None:
    graph = parse(text, inputs={"x": {}, "y": {}})
    assert gradient_size(graph, [graph.outputs[0].id], ["x", "y"]) == size


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a program is traced."""

    def refused(*_: Any) -> None:
        raise AssertionError("the program is traced")

    monkeypatch.setattr(interpreter, "_run", refused)


@pytest.mark.usefixtures("untraced")
def test_a_gradient_that_is_too_long_is_refused_before_it_is_traced() -> None:
    graph, limits = parse(SINES), Limits(max_nodes=25_000)
    refused = "the program with its gradient needs 29,999 nodes, the limit is 25,000"
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
def test_steps_that_leave_no_gradient_count_for_nothing(step: str) -> None:
    text = "\n".join(["v0 = x", *(f"v{i + 1} = {step.format(i)}" for i in range(N)), f"v{N}"])
    graph = parse(text)
    assert gradient_size(graph, [graph.outputs[0].id], ["x"]) == 0


def test_a_long_program_that_fits_is_not_refused() -> None:
    graph = parse("\n".join(["v0 = x", *(f"v{i + 1} = v{i} + 1 * x" for i in range(2_500)), "v2500"]))
    limits = Limits(max_nodes=len(graph.nodes) + 10)
    assert prepare(graph, {"x": 1.0}, backward=Backward(), limits=limits).run().grads == {"x": 2501.0}


def test_a_short_program_is_counted_after_it_is_traced() -> None:
    graph = parse("sin(x) * cos(x)")
    with pytest.raises(LimitExceededError, match="the program needs 5 nodes, the limit is 4"):
        prepare(graph, {"x": 1.0}, backward=Backward(), limits=Limits(max_nodes=4))
