"""Size of a gradient before it is traced, so that a program far above the limit on nodes is refused at once."""

from collections.abc import Collection, Hashable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from engine.core import OPERATIONS, Operation, Symbol, aval, example_operands
from engine.graph import Graph, Limits, Literal, Node, check_limit
from engine.plans.trace import Trace

#: Programs of fewer nodes are traced at once: tracing them takes no time that matters.
_LONG = 5_000
#: Number of every constant. Different constants count as one, so that too few steps are counted, never too many.
_CONSTANT = 0
#: Operations that may be no step of their own.
_VANISHING = frozenset("slice where slice_add concat take".split())
#: Operations that may give their operand itself: some always, some if the other operand is a constant.
_PASSING = frozenset("neg transpose reshape broadcast_to astype sum_to".split())
_PASSING_WITH_CONSTANT = frozenset("mul div add sub pow".split())
#: Operations whose results are constants.
_FILLING = ("zeros_like", "ones_like", "full_like")


class _Step(NamedTuple):
    """Step of a slope; operands are positions among cotangent, result, operands of the row and earlier steps.

    The position of a constant is None. has_attributes: steps of one name may differ.
    """

    name: str
    has_attributes: bool
    operands: tuple[int | None, ...]


class _Slope(NamedTuple):
    """The steps of the cotangent of an operand, and the position of the last one."""

    steps: tuple[_Step, ...]
    result: int | None


def check_gradient_size(graph: Graph, of: Collection[str], wrt: Collection[str], limits: Limits) -> None:
    """Refuse a long program whose gradient has too many nodes.

    Args:
        graph: a program.
        of: ids of the nodes that are differentiated.
        wrt: ids of the nodes and names of the inputs to differentiate with respect to.
        limits: bounds on the cost.

    Raises:
        LimitExceededError: the program and its gradient have more nodes than the limit.
    """
    if len(graph.nodes) >= _LONG:
        check_limit("nodes", least_size(graph, of, wrt), limits.max_nodes, "the program with its gradient")


def least_size(graph: Graph, of: Collection[str], wrt: Collection[str]) -> int:
    """Return a lower bound on the nodes of a program with its gradient; arguments as of `check_gradient_size`.

    Operations are numbered as a trace merges them, without shapes. Those that a trace may simplify, as many with a
    constant operand, and composites count for nothing. It may be too high only if equal elements are sliced in
    different ways.
    """
    numbering = _Numbering()
    numbers = {name: numbering.fresh() for name in (*(i.name for i in graph.inputs), *graph.bound)}
    moved = set(wrt)
    for index, node in enumerate(graph.nodes):
        number = numbering.node(index, node, [_number(x, numbers) for x in node.args])
        # A shift of a node is a step of its own.
        numbers.update((i, numbering.fresh() if i in moved else number) for i in node.ids)
        if any(x in moved and _is_smooth(node.op, i) for i, x in enumerate(node.args)):
            moved.update(node.ids)
    # The number of the cotangent of each value; the first ones are constants.
    cotangents = dict.fromkeys((numbers[i] for i in of), _CONSTANT)
    done = set()
    for node in reversed(graph.nodes):
        number = numbers[node.ids[0]]
        if node.op is None or number in done or number not in cotangents:
            continue
        g, operands = cotangents[number], [_number(x, numbers) for x in node.args]
        if number in operands:
            # It passes its operand on, and the cotangent with it.
            continue
        done.add(number)
        for i, x in enumerate(node.args):
            if x in moved and _is_smooth(node.op, i):
                found = numbering.cotangent(node.op, i, g, number, operands)
                before = cotangents.get(operands[i])
                cotangents[operands[i]] = found if before is None else numbering.step("add", (before, found))
    return numbering.count


class _Numbering:
    """Numbers of values: equal operations on values of equal numbers have one number.

    count: the number of operations that a trace cannot do without.
    """

    def __init__(self) -> None:
        self.count = 0
        self._last = _CONSTANT
        self._known: dict[Hashable, int] = {}

    def fresh(self) -> int:
        """Return a number for a value unlike all others."""
        self._last += 1
        return self._last

    def step(self, name: str, operands: tuple[int, ...], more: Hashable = ()) -> int:
        """Return the number of an operation; `more` tells operations of one name apart."""
        moving = [x for x in operands if x != _CONSTANT]
        if not moving:
            return _CONSTANT
        if name in _PASSING or (len(moving) < len(operands) and name in _PASSING_WITH_CONSTANT):
            return moving[0]
        key = (name, tuple(sorted(operands)) if OPERATIONS[name].lowering.is_commutative else operands, more)
        if key not in self._known:
            self._known[key] = self.fresh()
            self.count += name not in _VANISHING and _CONSTANT not in operands
        return self._known[key]

    def node(self, index: int, node: Node, operands: Sequence[int]) -> int:
        """Return the number of a node; one with several outputs has one number for all."""
        op = node.op
        if op is None or not any(operands):
            return _CONSTANT if op is None or not op.random else self.fresh()
        if _is_opaque(op):
            return self.fresh()
        if op.name in _FILLING:
            return _CONSTANT
        return self.step(op.name, tuple(operands), tuple(node.attrs.items()))

    def cotangent(self, op: Operation, i: int, g: int, y: int, operands: Sequence[int]) -> int:
        """Return the number of the cotangent of operand `i`."""
        if _is_opaque(op):
            return self.fresh() if g else _CONSTANT
        slope = _slope(op, i, g == _CONSTANT, tuple(x == _CONSTANT for x in operands))
        numbers = [g, y, *operands]
        for step in slope.steps:
            given = tuple(_CONSTANT if x is None else numbers[x] for x in step.operands)
            numbers.append(self.step(step.name, given, (op.name, i) if step.has_attributes else ()))
        return _CONSTANT if slope.result is None else numbers[slope.result]


def _number(x: str | Literal, numbers: dict[str, int]) -> int:
    return _CONSTANT if isinstance(x, Literal) else numbers[x]


def _is_opaque(op: Operation) -> bool:
    """Return whether an operation is counted for nothing, because its steps are not known from its row alone."""
    return op.body is not None or op.random or op.outputs is not None or op.name == "grad"


def _is_smooth(op: Operation | None, i: int) -> bool:
    return op is not None and bool(op.is_differentiable) and (op.body is not None or op.is_smooth(i))


@cache
def _slope(op: Operation, i: int, is_constant: bool, are_constant: tuple[bool, ...]) -> _Slope:
    """Return the slope of a row in operand `i`, the shortest among its examples.

    is_constant: whether the cotangent of the result is a constant. are_constant: the same of each operand.
    """
    found = [_example_slope(op, n, i, is_constant, are_constant) for n in range(len(op.examples))]
    slopes = [slope for slope in found if slope is not None]
    return min(slopes, default=_Slope((), None), key=lambda slope: (len(slope.steps), slope.result is not None))


def _example_slope(op: Operation, n: int, i: int, is_constant: bool, are_constant: tuple[bool, ...]) -> _Slope | None:
    """Return a slope as `_slope` does, for one example; None if the example has other operands."""
    values, attrs = example_operands(op, op.examples[n])
    if len(values) != len(are_constant):
        return None
    trace = Trace()
    known = [aval(x)._replace(weak=None) for x in values]
    xs = [
        trace.constant(x, is_weak=type(x) is float) if is_fixed else trace.input(f"x{k}", known[k])
        for k, (x, is_fixed) in enumerate(zip(values, are_constant, strict=True))
    ]
    with np.errstate(all="ignore"):
        y = op.run(tuple(xs), attrs)
        g = trace.full(1.0, y.aval._replace(weak=None)) if is_constant else trace.input("g", y.aval._replace(weak=None))
        found = op.cotangent(i, g, y, xs, attrs)
    if not isinstance(found, Symbol) or trace.known(found) is not None:
        return _Slope((), None)
    # Positions: cotangent, result, operands, then the steps of the slope in order.
    positions: dict[int, int | None] = {x.index: k + 2 for k, x in enumerate(xs) if not are_constant[k]}
    positions |= {y.index: 1} | ({} if is_constant else {g.index: 0})
    steps: list[_Step] = []
    for index in trace.live([found]):
        step = trace.steps[index]
        if index in positions:
            continue
        if step.op is None and step.args:
            positions[index] = positions[step.args[0]]
        elif step.op is None:
            positions[index] = None
        else:
            positions[index] = 2 + len(xs) + len(steps)
            steps.append(_Step(step.op.name, bool(step.attrs), tuple(positions[a] for a in step.args)))
    return _Slope(tuple(steps), positions[found.index])
