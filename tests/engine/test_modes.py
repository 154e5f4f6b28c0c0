"""Random programs over all rows that have derivatives: tape, graph, differences, both orders and batches agree."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from engine import Variable, test_mode
from engine.core.operation import Example, Operation
from engine.core.table import OPERATIONS, rows
from engine.core.values import canonical, dtype_of, shape_of
from engine.programs.derivatives import hvp, jvp
from engine.programs.document.build import build
from engine.programs.evaluate import Backward, prepare
from tests.engine.cases import attributes, domains, extra, is_shape, moved, operands, outputs

Values = dict[str, Any]
Call = Callable[..., Any]

POINT: Values = {
    "x": 0.7,
    "y": np.array([0.3, -1.2, 2.5]),
    "z": np.array([[0.5, 1.5, -0.5], [2.0, 0.25, 1.0]]),
}
DIRECTION: Values = {
    "x": -0.8,
    "y": np.array([1.1, 0.4, -0.6]),
    "z": np.array([[0.9, -0.3, 0.2], [-1.3, 0.5, 0.7]]),
}
EPS = 1e-6


@dataclass(frozen=True)
class Step:
    """A row with one of its examples; `sources` are places among the values that there are before it."""

    name: str
    number: int
    sources: tuple[int, ...]

    @property
    def op(self) -> Operation:
        return OPERATIONS[self.name]

    @property
    def example(self) -> Example:
        return self.op.examples[self.number]


def is_smooth(op: Operation, example: Example) -> bool:
    """Whether some operand may move, and the outputs with it: astype gives integers as well, logsumexp -inf."""
    ys = outputs(op.run(tuple(operands(op, example)), attributes(op, example), **extra(op)))
    return bool(moved(op, example)) and all(dtype_of(y).kind == "f" and np.isfinite(y).all() for y in ys)


SMOOTH = {op.name: [n for n, example in enumerate(op.examples) if is_smooth(op, example)] for op in rows()}
NAMES = [name for name, numbers in SMOOTH.items() if numbers]

#: How far down the table from a row, which of the examples, and of which values.
sketches = st.lists(
    st.tuples(st.integers(0, len(NAMES) - 1), st.integers(0, 11), st.lists(st.integers(0, 7), min_size=1, max_size=3)),
    min_size=1,
    max_size=4,
)
every_row = pytest.mark.parametrize("row", NAMES)
few_programs = settings(max_examples=3, derandomize=True, deadline=None)


def around(name: str, sketch: Any) -> list[Step]:
    """A program with a certain row in it, and others before and after."""
    place = sum(sketch[0][2]) % len(sketch)
    program = []
    for n, (distance, number, sources) in enumerate(sketch):
        drawn = name if n == place else NAMES[(NAMES.index(name) + distance) % len(NAMES)]
        program.append(Step(drawn, SMOOTH[drawn][number % len(SMOOTH[drawn])], tuple(sources)))
    note(str(program))
    return program


def called(name: str, *args: Any, **attrs: Any) -> Any:
    """An operation, run at once."""
    op = OPERATIONS[name]
    return op.run(args, op.bind([0.0] * max(op.required, 1), attrs)[1], **extra(op))


def computed(program: list[Step], inputs: Values, constants: Values, call: Call) -> Any:
    """A weighted sum of all that the steps of a program give."""
    values = list(inputs.values())
    total: Any = 0.0
    for n, step in enumerate(program):
        for k, y in enumerate(
            outputs(call(step.name, *placed(step, n, values, constants, call), **step.example.attrs))
        ):
            if dtype_of(y).kind == "f":
                values.append(y)
                weights = np.cos(np.arange(1.0, 1 + np.prod(shape_of(y), dtype=int))).reshape(shape_of(y))
                weighted = call("mul", constant(constants, f"w{n}_{k}", weights), y)
                total = call("add", total, call("sum", weighted))
    return total


def placed(step: Step, n: int, values: list[Any], constants: Values, call: Call) -> list[Any]:
    """The operands of a step: the example's numbers, and around those that move a little of earlier values.

    So they stay within the row's domain, and apart.
    """
    args = []
    for i, x in enumerate(operands(step.op, step.example)):
        arg = constant(constants, f"c{n}_{i}", x)
        if i in moved(step.op, step.example):
            low, high = domains(step.op, step.example)[i]
            width = 0.1 * (high - low) / max(np.size(x), 1) if is_shape(step.example.operands[i]) else 0.05
            source = values[step.sources[i % len(step.sources)] % len(values)]
            arg = call("add", arg, call("mul", width, call("sin", fitted(source, np.shape(x), call))))
        args.append(arg)
    return args


def fitted(x: Any, shape: tuple[int, ...], call: Call) -> Any:
    """A value in another shape: its elements again and again, as many as are needed."""
    size = int(np.prod(shape_of(x)))
    if not size:
        return call("broadcast_to", call("sum", x), shape=shape)
    places = np.arange(np.prod(shape, dtype=int)) % size
    return call(
        "reshape", call("get_item", call("reshape", x, shape=[-1]), axis=0, indices=places.tolist()), shape=shape
    )


def constant(constants: Values, name: str, value: Any) -> Any:
    return constants.setdefault(name, canonical(value))


class Writer:
    """Runs operations and writes them down as the nodes of a document."""

    def __init__(self, names: Values) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.values = names

    def __call__(self, name: str, *args: Any, **attrs: Any) -> Any:
        result = called(name, *args, **attrs)
        ids = [f"n{len(self.nodes)}_{k}" for k in range(len(outputs(result)))]
        node = {"id": ids if isinstance(result, tuple) else ids[0], "op": name, "args": [self._arg(x) for x in args]}
        self.nodes.append({**node, "attrs": {key: as_json(value) for key, value in attrs.items()}})
        self.values |= dict(zip(ids, outputs(result), strict=True))
        return result

    def _arg(self, arg: Any) -> Any:
        return next((name for name, value in self.values.items() if value is arg), arg)


def as_json(value: Any) -> Any:
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value


class Written:
    """A program as a graph, as a function, and with its constants."""

    def __init__(self, program: list[Step]) -> None:
        self.program = program
        self.constants: Values = {}
        with test_mode():
            variables = {name: Variable(x) for name, x in POINT.items()}
            computed(program, variables, self.constants, called)
            # Variables are told apart even where their numbers are the same.
            self.constants = {name: Variable(x) for name, x in self.constants.items()}
            self.writer = Writer(variables | self.constants)
            computed(program, variables, self.constants, self.writer)
        self.constants = {name: x.data for name, x in self.constants.items()}
        self.graph = self.built(self.writer.nodes)

    def built(self, nodes: list[dict[str, Any]]) -> Any:
        return build({"nodes": nodes, "outputs": [nodes[-1]["id"]], "inputs": {name: {} for name in POINT}})

    def total(self, inputs: Values) -> Any:
        with test_mode(), np.errstate(all="ignore"):
            return computed(self.program, inputs, self.constants, called)

    def taped(self, inputs: Values) -> tuple[Any, Values]:
        """The value and the gradient on the tape."""
        variables = {name: Variable(x) for name, x in inputs.items()}
        y = self.total(variables)
        y.backward()
        return y.data, gradients_of(variables)

    def inputs(self, point: Values) -> Values:
        used = {i.name for i in self.graph.inputs}
        return {name: x for name, x in {**self.constants, **point}.items() if name in used}


def gradients_of(variables: dict[str, Variable]) -> Values:
    return {n: canonical(np.zeros(v.shape)) if v.grad is None else v.grad.data for n, v in variables.items()}


def moved_by(point: Values, h: float, direction: Values) -> Values:
    return {name: x + h * direction[name] for name, x in point.items()}


def assert_close(found: Values, expected: Values, eps: float) -> None:
    assert found.keys() == expected.keys()
    scale = max(1.0, *(float(np.max(np.abs(x))) for x in expected.values()))
    for name, x in expected.items():
        assert np.isfinite(x).all(), name
        np.testing.assert_allclose(found[name], x, rtol=eps, atol=eps * scale, err_msg=name)


@pytest.mark.sampled(one_in=8)
@every_row
@few_programs
@given(sketches)
def test_tape_and_graph_give_the_same_bits_and_differences_agree(row: str, sketch: Any) -> None:
    written = Written(around(row, sketch))
    value, slopes = written.taped(POINT)
    found = prepare(written.graph, written.inputs(POINT), backward=Backward(wrt=tuple(POINT))).run()
    np.testing.assert_array_equal(next(iter(found.values.values())), value)
    assert found.grads is not None
    for name, slope in slopes.items():
        np.testing.assert_array_equal(found.grads[name], slope)
    for name, x in POINT.items():
        for index in np.ndindex(np.shape(x)):
            one = np.zeros(np.shape(x))
            one[index] = 1.0
            along = {other: one if other == name else 0.0 for other in POINT}
            high, low = (written.total(moved_by(POINT, h, along)) for h in (EPS, -EPS))
            assert_close({name: np.asarray(slopes[name])[index]}, {name: (high - low) / (2 * EPS)}, 1e-5)


@pytest.mark.sampled(one_in=8)
@every_row
@few_programs
@given(sketches)
def test_second_order_agrees_by_four_ways(row: str, sketch: Any) -> None:
    written = Written(around(row, sketch))
    variables = {name: Variable(x) for name, x in POINT.items()}
    written.total(variables).backward(create_graph=True)
    slopes = {name: v.grad for name, v in variables.items() if v.grad is not None}
    for v in variables.values():
        v.cleargrad()
    along = Variable(0.0)
    for name, g in slopes.items():
        along = along + called("sum", g * DIRECTION[name])
    along.backward()
    taped = gradients_of(variables)

    products = hvp(written.graph, written.inputs(POINT), DIRECTION).run()["hvp"]
    assert_close({name: products[name] for name in POINT}, taped, 1e-9)

    found = prepare(with_grad(written), written.inputs(POINT) | directions(), backward=Backward(wrt=tuple(POINT))).run()
    assert found.grads is not None
    assert_close(found.grads, taped, 1e-9)

    high, low = (written.taped(moved_by(POINT, h, DIRECTION))[1] for h in (EPS, -EPS))
    assert_close(taped, {name: (high[name] - low[name]) / (2 * EPS) for name in POINT}, 1e-5)


def directions() -> Values:
    return {f"d{name}": d for name, d in DIRECTION.items()}


def with_grad(written: Written) -> Any:
    """The program of the derivative along the direction, a node `grad` for each input in it."""
    nodes = list(written.writer.nodes)
    loss, total = nodes[-1]["id"], None
    for name in POINT:
        slope = {"op": "sum", "args": [{"op": "mul", "args": [{"op": "grad", "args": [loss, name]}, f"d{name}"]}]}
        total = slope if total is None else {"op": "add", "args": [total, slope]}
    return written.built([*nodes, {"id": "along", **(total or {})}])


@pytest.mark.sampled(one_in=8)
@every_row
@few_programs
@given(sketches, st.sets(st.sampled_from(sorted(POINT)), min_size=1))
def test_batched_is_a_loop_over_rows(row: str, sketch: Any, batched: set[str]) -> None:
    written = Written(around(row, sketch))
    points = [
        {name: x + 0.1 * k * DIRECTION[name] if name in batched else x for name, x in POINT.items()} for k in range(3)
    ]
    backward = Backward(wrt=tuple(POINT))
    alone = [prepare(written.graph, written.inputs(point), backward=backward).run() for point in points]
    stacked = {name: np.stack([p[name] for p in points]) if name in batched else x for name, x in POINT.items()}
    names = sorted(batched)
    together = prepare(written.graph, written.inputs(stacked), backward=backward, batched=names).run()
    for kind in ("values", "grads"):
        expected = {name: np.stack([getattr(one, kind)[name] for one in alone]) for name in getattr(alone[0], kind)}
        assert_close(getattr(together, kind), expected, 1e-12)
    empty = {name: x[:0] if name in batched else x for name, x in stacked.items()}
    nothing = prepare(written.graph, written.inputs(empty), backward=backward, batched=names).run()
    assert nothing.grads is not None
    assert {name: g.shape for name, g in nothing.grads.items()} == {n: (0, *np.shape(x)) for n, x in POINT.items()}


@pytest.mark.sampled(one_in=8)
@every_row
@few_programs
@given(sketches)
def test_a_tangent_meets_the_gradient(row: str, sketch: Any) -> None:
    written = Written(around(row, sketch))
    forward = jvp(written.graph, written.inputs(POINT), DIRECTION).run()
    value, slopes = written.taped(POINT)
    expected = sum(float(np.sum(slopes[name] * DIRECTION[name])) for name in POINT)
    assert_close(forward["values"], dict.fromkeys(forward["values"], value), 0.0)
    assert_close(forward["jvps"], dict.fromkeys(forward["jvps"], expected), 1e-12)
