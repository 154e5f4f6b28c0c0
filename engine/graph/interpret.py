"""Runs a graph node by node on whatever its inputs are: variables to compute, symbols to look ahead."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from engine.errors import AutogradError, Fault, Faults, LimitExceededError
from engine.graph.ir import Graph, Literal, Node
from engine.values import FLOAT32, INT64, dtype_of

#: (raw value, whether it is a weak Python number) -> what stands for it while the program runs
Lift = Callable[[Any, bool], Any]
#: node's place in the graph -> the generator that its random numbers come from
Streams = Callable[[int], np.random.Generator]


def interpret(graph: Graph, inputs: Mapping[str, Any], lift: Lift, streams: Streams | None = None) -> dict[str, Any]:
    """The value of every input and node by name.

    Args:
        graph: a program.
        inputs: a value for each of its inputs.
        lift: makes of a constant what the inputs are: a variable, or a symbol.
        streams: where random operations draw from.

    Raises:
        AutogradError: naming the nodes: the first kind of fault, with all its places.
    """
    values = dict(inputs)
    faults = Faults()
    failed: set[str] = set()
    for place, node in enumerate(graph.nodes):
        if failed and not failed.isdisjoint(x for x in node.args if isinstance(x, str)):
            failed.update(node.ids)
            continue
        try:
            result = _run(node, values, lift, streams(place) if streams and node.op and node.op.random else None)
        except AutogradError as error:
            faults.take(_at(error, node))
            failed.update(node.ids)
            if isinstance(error, LimitExceededError):
                break
            continue
        results = result if isinstance(result, tuple) else (result,)
        for name, value in zip(node.ids, results, strict=True):
            # What is computed of numbers alone is an array of its own, which may be differentiated.
            values[name] = lift(value, False) if type(value) is np.ndarray else value
    faults.check()
    return values


def _run(node: Node, values: dict[str, Any], lift: Lift, rng: np.random.Generator | None) -> Any:
    args = tuple(_constant(x, node, values, lift) if isinstance(x, Literal) else values[x] for x in node.args)
    if node.op is None:
        return args[0]
    return node.op.run(args, node.attrs, rng=rng) if node.op.random else node.op.run(args, node.attrs)


def _constant(literal: Literal, node: Node, values: dict[str, Any], lift: Lift) -> Any:
    value = literal.value
    if type(value) is not np.ndarray:
        return lift(value, literal.is_weak)
    others = [dtype_of(values[x]) for x in node.args if isinstance(x, str)]
    if literal.is_weak and others and value.dtype != bool:
        target = np.result_type(*others)
        if target == FLOAT32 or (target == INT64 and literal.is_integral):
            adapted = value.astype(target)
            # Integers that float32 does not hold may be indices: they stay what they are.
            if not literal.is_integral or np.array_equal(adapted, value):
                value = adapted
    return lift(value, False)


def _at(error: AutogradError, node: Node) -> AutogradError:
    where = f' (node "{node.ids[0]}")' if node.is_named else ""
    faults = [Fault(node.loc + fault.loc, fault.msg + where) for fault in error.faults]
    return type(error)(error.detail + where, faults=faults)
