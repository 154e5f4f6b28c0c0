"""Interpreter: run a graph node by node on tracers of any kind."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from engine.core import FLOAT32, INT64, AutogradError, Faults, LimitExceededError, Value, dtype_of
from engine.graph import Graph, Literal, Node, is_generated


class Setting(Protocol):
    """Setting of an interpretation: represents constants and results as tracers."""

    def constant(self, value: Value, is_weak: bool) -> Value:
        """Return the tracer of a constant; `is_weak` for a Python number, which takes the dtype of other operands."""

    def result(self, name: str, value: Value) -> Value:
        """Return the tracer to use for an output of a node."""

    def random(self, index: int, args: tuple[Value, ...]) -> tuple[tuple[Value, ...], object]:
        """Return the operands and the random stream of a node; `index` is that in the graph."""


def interpret(graph: Graph, inputs: Mapping[str, Value], setting: Setting) -> dict[str, Value]:
    """Return the value of every input and node by name.

    Args:
        graph: a program.
        inputs: a tracer for each of its inputs, by name.
        setting: represents constants and results.

    Raises:
        AutogradError: nodes are at fault; all faults of the first kind are reported, with their nodes.
    """
    values = dict(inputs)
    faults = Faults()
    failed: set[str] = set()
    for index, node in enumerate(graph.nodes):
        if failed and not failed.isdisjoint(x for x in node.args if isinstance(x, str)):
            failed.update(node.ids)
            continue
        try:
            result = _run(node, index, values, setting)
        except AutogradError as error:
            faults.take(_at(error, node))
            failed.update(node.ids)
            if isinstance(error, LimitExceededError):
                break
            continue
        results = result if isinstance(result, tuple) else (result,)
        for name, value in zip(node.ids, results, strict=True):
            values[name] = setting.result(name, value)
    faults.check()
    return values


def _run(node: Node, index: int, values: dict[str, Value], setting: Setting) -> Value:
    args = tuple(_constant(x, node, values, setting) if isinstance(x, Literal) else values[x] for x in node.args)
    if node.op is None:
        return args[0]
    if not node.op.random:
        return node.op.run(args, node.attrs)
    args, rng = setting.random(index, args)
    return node.op.run(args, node.attrs, rng=rng)


def _constant(literal: Literal, node: Node, values: dict[str, Value], setting: Setting) -> Value:
    value = literal.value
    if type(value) is not np.ndarray:
        return setting.constant(value, literal.is_weak)
    others = [dtype_of(values[x]) for x in node.args if isinstance(x, str)]
    if literal.is_weak and others and value.dtype != bool:
        target = np.result_type(*others)
        if target == FLOAT32 or (target == INT64 and literal.is_integral):
            adapted = value.astype(target)
            # Integers that float32 cannot represent may be indices: they keep their dtype.
            if not literal.is_integral or np.array_equal(adapted, value):
                value = adapted
    return setting.constant(value, False)


def _at(error: AutogradError, node: Node) -> AutogradError:
    read = ", ".join(x for x in node.args if isinstance(x, str) and not is_generated(x))
    where = f' (node "{node.ids[0]}"{f" of {read}" if read else ""})' if node.is_named else ""
    faults = [fault._replace(loc=node.loc + fault.loc, msg=fault.msg + where) for fault in error.faults]
    return type(error)(error.detail + where, faults=faults)
