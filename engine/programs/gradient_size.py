"""Size of a gradient before it is traced, so that a program far above the limit on nodes is refused at once."""

from collections.abc import Collection
from functools import cache

import numpy as np

from engine.core import Operation, Symbol, aval, example_operands
from engine.graph import Graph, Limits, Literal, check_limit
from engine.plans.trace import Trace

#: Programs of fewer nodes are traced at once: tracing them takes no time that matters.
_LONG = 5_000


def check_gradient_size(graph: Graph, of: Collection[str], wrt: Collection[str], limits: Limits) -> None:
    """Refuse a long program whose gradient, as the rows of its nodes write it, has too many nodes.

    The gradient is counted before equal steps are merged. Nodes with a literal operand and composites count for
    nothing, because much of their gradient may vanish.

    Args:
        graph: a program.
        of: ids of the nodes that are differentiated.
        wrt: ids of the nodes and names of the inputs to differentiate with respect to.
        limits: bounds on the cost.

    Raises:
        LimitExceededError: the program and its gradient have more nodes than the limit.
    """
    if len(graph.nodes) < _LONG:
        return
    needed = len(graph.nodes) + gradient_size(graph, of, wrt)
    check_limit("nodes", needed, limits.max_nodes, "the program with its gradient")


def gradient_size(graph: Graph, of: Collection[str], wrt: Collection[str]) -> int:
    """Return the number of nodes of a gradient; arguments as of `check_gradient_size`."""
    moved = set(wrt)
    for node in graph.nodes:
        if any(x in moved and _is_smooth(node.op, i) for i, x in enumerate(node.args)):
            moved.update(node.ids)
    # The name of each value that has a cotangent -> whether the cotangent is a constant, as the first one is.
    cotangents = dict.fromkeys(of, True)
    size = 0
    for node in reversed(graph.nodes):
        known = [cotangents[i] for i in node.ids if i in cotangents]
        if not known or node.op is None:
            continue
        is_counted = len(node.ids) == 1 and not any(isinstance(x, Literal) for x in node.args)
        for i, x in enumerate(node.args):
            if isinstance(x, Literal) or x not in moved or not _is_smooth(node.op, i):
                continue
            steps, is_constant = _slope_size(node.op, i, all(known)) if is_counted else (0, all(known))
            if x in cotangents:
                is_constant = is_constant and cotangents[x]
                steps += not is_constant
            cotangents[x] = is_constant
            size += steps
    return size


def _is_smooth(op: Operation | None, i: int) -> bool:
    return op is not None and bool(op.is_differentiable) and (op.body is not None or op.is_smooth(i))


@cache
def _slope_size(op: Operation, i: int, is_constant: bool) -> tuple[int, bool]:
    """Return the number of steps of the cotangent of operand i, and whether it is a constant.

    It is the least number among the row's examples. is_constant: whether the cotangent of the result is a constant.
    """
    if op.body is not None or op.outputs is not None or op.random:
        return 0, is_constant
    found = [size for n in range(len(op.examples)) if (size := _example_slope_size(op, n, i, is_constant)) is not None]
    return min(found, default=(0, is_constant), key=lambda size: (size[0], not size[1]))


def _example_slope_size(op: Operation, n: int, i: int, is_constant: bool) -> tuple[int, bool] | None:
    """Return the size of a cotangent as `_slope_size` does, for one example; None if it has fewer operands."""
    values, attrs = example_operands(op, op.examples[n])
    if i >= len(values) and not op.variadic:
        return None
    trace = Trace()
    xs = [trace.input(f"x{index}", aval(x)._replace(weak=None)) for index, x in enumerate(values)]
    with np.errstate(all="ignore"):
        y = op.run(tuple(xs), attrs)
        known = y.aval._replace(weak=None)
        g = trace.full(1.0, known) if is_constant else trace.input("g", known)
        before = len(trace.steps)
        found = op.cotangent(min(i, len(xs) - 1), g, y, xs, attrs)
    if not isinstance(found, Symbol):
        return 0, True
    own = [index for index in trace.live([found]) if index >= before and trace.steps[index].op is not None]
    return len(own), not any(trace.steps[index].name for index in trace.live([found]))
