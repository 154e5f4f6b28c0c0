"""Graphs as text, one line a node, for tests to compare with; and a bound on how long a refusal may take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np

from engine.graph import Graph, Literal, Node
from engine.programs.document.build import build
from engine.programs.text.write import as_document

SURELY_QUICK_S = 0.5
#: Of `_unit_s`, 5 ms where this was set: all take a fifth of it at most, and what is quadratic far more.
QUICK_UNITS = 1000


def shown(graph: Graph) -> list[str]:
    """The nodes of a graph, and what of its inputs, outputs and aliases is not plain.

    Attributes are left out where they have their defaults.
    """
    return [shown_node(node) for node in graph.nodes]


def shown_node(node: Node) -> str:
    """A node as `id = op(args, attrs)`."""
    args = [arg if isinstance(arg, str) else shown_literal(arg) for arg in node.args]
    defaults = {a.name: a.default for a in node.op.attributes} if node.op else {}
    args += [f"{name}={value}" for name, value in node.attrs.items() if value != defaults[name] or value is ...]
    return f"{', '.join(node.ids)} = {node.op.name if node.op else ''}({', '.join(args)})"


def shown_literal(literal: Literal) -> str:
    """A literal as it was written, with its dtype where it has one of its own."""
    value: Any = literal.value
    if not isinstance(value, np.ndarray):
        return str(value) if literal.is_weak else f"float64 {value}"
    assert not value.flags.writeable
    if literal.is_weak:
        return str((value.astype(int) if literal.is_integral else value).tolist())
    return f"{value.dtype}{'' if value.ndim else ' '}{value.tolist()}"


def shown_inputs(graph: Graph) -> list[str]:
    """The inputs of a graph, with their declarations."""
    return [
        f"{i.name}{'' if i.shape is None else list(i.shape)}{'' if i.dtype is None else ' ' + str(i.dtype)}"
        for i in graph.inputs
    ]


def shown_outputs(graph: Graph) -> list[str]:
    """The outputs of a graph, with their ids where these are others."""
    return [o.name if o.name == o.id else f"{o.name}: {o.id}" for o in graph.outputs]


def with_loss(graph: Graph) -> Graph:
    """A program whose only output, `loss`, is the sum of the squares of a program's outputs."""
    program = as_document(graph)
    squares: list[Any] = [{"op": "sum", "args": [{"op": "square", "args": [name]}]} for name in program["outputs"]]
    loss = reduce(lambda total, square: {"op": "add", "args": [total, square]}, squares)
    return build({**program, "nodes": [*program["nodes"], {"id": "loss", **loss}], "outputs": ["loss"]})


@contextmanager
def quickly() -> Iterator[None]:
    """Whatever is inside takes no more work than this thread did in a second of a fast machine.

    Its processor time counts, which does not go on while others have the processor. Where that is long, it is compared
    with that of work of a known size, done right afterwards: a slow or busy machine is slow at both.
    """
    start = time.thread_time()
    yield
    took_s = time.thread_time() - start
    if took_s > SURELY_QUICK_S:
        assert took_s < QUICK_UNITS * min(_unit_s() for _ in range(3))


def _unit_s() -> float:
    """Processor time for calls and small objects, which is what building and parsing do."""
    start = time.thread_time()
    made: dict[str, list[int]] = {}
    for number in range(30_000):
        made.setdefault(str(number % 1000), []).append(number)
    return time.thread_time() - start
