"""RunOptions a trace: a result that is written over an operand changes no bit, and nothing of anybody else's."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Variable
from engine import functions as F
from engine.core.table import OPERATIONS
from engine.core.values import FLOAT64, Aval
from engine.plans.trace import Trace
from engine.programs import parse
from engine.programs.evaluate import Backward, prepare

SIDE = 40
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -1e308]
UFUNCS = sorted(name for name, op in OPERATIONS.items() if op.lowering.ufunc is not None and op.name == name)
#: Operations that give new arrays, views, and what is and is not laid out row after row; all keep the shape.
STEPS = [
    "{} * {}",
    "{} - {}",
    "square({}) + {}",
    "-{}",
    "sin({})",
    "transpose({})",
    "{}[::-1]",
    "reshape(transpose({}), [40, 40])",
    "stop_gradient({})",
    "clip({})",
    "2.5 * {}",
    "{} + sum({})",
    "{} + sum({}, axes=0)",
    "where({0} > 0, {1}, 1.0)",
]


def draw(seed: int, *shape: int) -> Any:
    x = np.random.default_rng(seed).standard_normal(shape)
    x.reshape(-1)[: len(SPECIAL)] = SPECIAL
    return x


def assert_same_bits(found: Any, expected: Any) -> None:
    """A NaN is a NaN, whatever its sign."""
    np.testing.assert_array_equal(found, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize("name", UFUNCS)
def test_a_ufunc_written_over_its_operand(name: str) -> None:
    inputs = {"x": draw(1, SIDE, SIDE), "y": draw(2, SIDE, SIDE)}
    operands = ["x - y", "x + y"][: len(OPERATIONS[name].operands)]
    found = prepare(parse(f"{name}({', '.join(operands)})"), inputs).run().values["out"]
    x, y = (Variable(value) for value in inputs.values())
    with np.errstate(all="ignore"):
        expected = getattr(F, name)(*[x - y, x + y][: len(operands)])
    assert_same_bits(found, expected.data)


@pytest.mark.parametrize("form", STEPS)
def test_a_view_outlives_its_array(form: str) -> None:
    """Nothing but the view of `h` reads it after `w`."""
    inputs = {"x": draw(1, SIDE, SIDE), "y": draw(2, SIDE, SIDE)}
    text = f"h = x - y; v = {form.format('h', 'h')}; w = -h; out = v - square(w)"
    values: dict[str, Any] = {name: Variable(value) for name, value in inputs.items()}
    with np.errstate(all="ignore"):
        exec(text, {name: getattr(F, name) for name in dir(F)}, values)
    assert_same_bits(prepare(parse(text), inputs).run().values["out"], values["out"].data)


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=10))
def test_programs_whose_results_are_written_over_others(steps: list[tuple[str, int, int]]) -> None:
    """Each value of a program, whichever others are returned beside it, is what Python computes."""
    inputs = {"x": draw(1, SIDE, SIDE), "y": draw(2, SIDE, SIDE)}
    names = ["x", "y"]
    lines = []
    for form, first, second in steps:
        lines.append(f"v{len(names)} = {form.format(names[-min(first, len(names))], names[-min(second, len(names))])}")
        names.append(f"v{len(names)}")
    values: dict[str, Any] = {name: Variable(value) for name, value in inputs.items()}
    with np.errstate(all="ignore"):
        exec("\n".join(lines), {name: getattr(F, name) for name in dir(F)}, values)
    used = {i.name for i in parse("; ".join(lines)).inputs}
    for outputs in (names[-1:], names[2:]):
        given = {name: inputs[name].copy() for name in used}
        found = prepare(parse("; ".join(lines)), given, outputs=outputs).run().values
        for name in outputs:
            assert_same_bits(found[name], values[name].data)
        for name, value in given.items():
            assert_same_bits(value, inputs[name])


def test_sums_round_as_on_the_tape() -> None:
    """`f` lies in memory column after column; written over it, the product would be summed in that order."""
    x, y = (np.random.default_rng(seed).lognormal(0.0, 5.0, (SIDE, SIDE)) for seed in (1, 2))
    found = (
        prepare(parse("f = transpose(x) + transpose(y); c = x - y; sum(f * c)"), {"x": x, "y": y}).run().values["out"]
    )
    expected = F.sum((Variable(x.T) + Variable(y.T)) * (Variable(x) - Variable(y)))
    assert found == expected.data
    assert found != np.sum(np.asfortranarray((x.T + y.T) * (x - y)))


def test_runs_share_nothing() -> None:
    prepared = prepare(parse("h = 2 * x; y = h + 1; y * y"), {"x": np.ones(5000)}, outputs="all")
    first, second = prepared.run().values, prepared.run().values
    for name, value in first.items():
        assert not any(np.shares_memory(value, other) for other in second.values())
        assert not any(np.shares_memory(value, other) for key, other in first.items() if key != name)


def test_a_chain_needs_one_buffer() -> None:
    size = 100_000
    prepared = prepare(parse("sin(-(square(x + 1) * 2 - x))"), {"x": np.ones(size)})
    assert peak(prepared.run) < 1.5 * 8 * size


def peak(call: Callable[[], Any]) -> int:
    """The most bytes that a second call holds at once."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_shared_input_is_one_step() -> None:
    trace = Trace()
    first, second = (trace.shared_input("x", Aval((3,), FLOAT64)) for _ in range(2))
    assert first.index == second.index
    assert trace.shared_input("y", Aval((3,), FLOAT64)).index != first.index


SLICED = [
    ("sum(w * x[1:] * x[:-1])", 0),
    ("sum(w * x[1:]) + sum(w * x[:-1]) + sum(w * x[::2][0])", 0),
    ("sum(w * x[[0, 0, 2]]) + sum(w * x[1:])", 0),
    ("sum(w * x[1:]) + sum(w * x[[0, 0, 2]])", 0),
    ("sum(w * x[[3, 3, 2]]) + sum(w * x[[0, 0, 2]])", 1),
    ("sum(w * x[1:]) + sum(x) + sum(w * x[:-1])", 2),
]


@pytest.mark.parametrize(("text", "additions"), SLICED)
def test_gradients_of_slices_are_added_at_their_places(text: str, additions: int) -> None:
    """On a trace as on the tape, signed zeros included; additions of whole arrays stay where rounding asks for them."""
    values = {"x": np.array([0.0, -0.0, 1.5, -2.0]), "w": np.array([-0.0, 0.0, -0.0])}
    variables = {name: Variable(value) for name, value in values.items()}
    eval(text, {"sum": F.sum}, variables).backward()
    prepared = prepare(parse(text), values, backward=Backward(wrt=("x",), create_graph=True))
    found = prepared.run().grads
    assert found is not None
    assert_same_bits(found["x"], variables["x"].grad.data)
    assert prepared.grad_graph is not None
    names = [str(node.op) for node in prepared.grad_graph.nodes]
    assert names.count("add") == additions
