"""Graphs as text, one line a node, for tests to compare with; and a bound on how long a refusal may take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np

from engine.graph import Graph, Literal, Node
from engine.graph.build import build
from engine.graph.write import document


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
    program = document(graph)
    squares: list[Any] = [{"op": "sum", "args": [{"op": "square", "args": [name]}]} for name in program["outputs"]]
    loss = reduce(lambda total, square: {"op": "add", "args": [total, square]}, squares)
    return build({**program, "nodes": [*program["nodes"], {"id": "loss", **loss}], "outputs": ["loss"]})


@contextmanager
def quickly() -> Iterator[None]:
    """Whatever is inside takes less than a second of this process's time."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 1.0
